"""The page about a search: what it holds, that it needs nothing else, and that a browser draws it."""

import json
import random
import re
import shutil
import subprocess
import sys
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from nfm_tfrs.evidence import Evidence
from nfm_tfrs.report.page import _head, write_report
from nfm_tfrs.report.view import Search

YESTERDAY = Path(__file__).parents[1] / "yesterday"  # what version 0.1.0 wrote
BLOCKS = {"bi_interaction": 0.0, "cross": 0.02, "gated_cross": 0.025, "self_attention": -0.01, "concat": -0.02}
RUNGS = [1, 3, 9, 27]


def candidate_of(values):
    block = values["interaction"]
    config = {name.partition("/")[2]: value for name, value in values.items() if name.startswith(f"{block}/")}
    layers = values["layers"]
    family = values["optimizer"].removeprefix("lazy")
    drawn = {"interaction": {"name": block, "config": config}, "hidden_units": [values.get("units")] * layers}
    drawn |= {
        name: values[name] for name in ("structure", "dropout", "embedding_dim", "embedding_l2") if name in values
    }
    training = {"optimizer": values["optimizer"], "learning_rate": values[f"{family}/learning_rate"]}
    return {"model": "ranking", "config": drawn, "training": {**training, "batch_size": values["batch_size"]}}


def drawn_values(rng, blocks):
    block, layers = rng.choice(blocks), rng.randint(0, 3)
    optimizer = rng.choice(["lazyadagrad", "lazyadam", "adagrad", "adam"])
    family = optimizer.removeprefix("lazy")
    values = {"interaction": block, "layers": layers, "optimizer": optimizer}
    values[f"{family}/learning_rate"] = 10 ** rng.uniform(*((-2, -0.5) if family == "adagrad" else (-3.5, -2)))
    if block in ("cross", "gated_cross"):
        values |= {f"{block}/layers": rng.randint(1, 3), f"{block}/kind": rng.choice(["full", "low_rank"])}
    if block == "self_attention":
        values["self_attention/heads"] = rng.choice([1, 2, 4])
    if layers:
        values |= {"units": rng.choice([32, 64, 128, 256]), "structure": rng.choice(["stacked", "parallel", "concat"])}
        values |= {"dropout": rng.choice([0.0, 0.2, 0.5]), "batch_norm": rng.choice([True, False])}
    values |= {"embedding_dim": rng.choice([8, 16, 32, 64]), "embedding_l2": rng.choice([0.0, 0.001, 0.01])}
    return values | {"batch_size": rng.choice([256, 512, 1024])}


def curve(rng, values):
    """AUC and log loss after each of 27 slices: up, and down again where nothing regularises."""
    level = 0.74 + BLOCKS.get(values["interaction"], 0) + 0.004 * values["layers"] + rng.gauss(0, 0.006)
    level -= 0.03 * (values["optimizer"] in ("adam", "adagrad"))
    fall = 0.0008 if values["embedding_l2"] == 0 else 0.0002
    aucs = [level - 0.12 * 0.75**n - fall * n + rng.gauss(0, 0.001) for n in range(1, 28)]
    return [{"auc": auc, "log_loss": 1.2 - auc, "rmse": 2 - auc} for auc in aucs]


def found_of(configurations=20, *, failed=2, blocks=tuple(BLOCKS), objective="val_auc", finalists=3, seed=0):
    """What a search with halving finds, as its file has it: each rung's best third is promoted."""
    rng = random.Random(seed)
    metric = objective.removeprefix("val_")
    better = 1 if metric == "auc" else -1
    trials = []

    def add(values, scores, parent=None, start=0, end=1, **others):
        trial = {
            "id": f"{len(trials):04d}",
            "parent": parent,
            "status": "COMPLETED",
            "message": None,
            "values": values,
            "candidate": candidate_of(values),
            "start": start,
            "end": end,
            "score": max((s[metric] for s in scores[:end]), key=lambda value: better * value, default=None),
            "scores": scores[:end],
        }
        trials.append({**trial, **others})
        return trials[-1], scores

    for number in range(failed):
        status = ["FAILED", "INVALID"][number % 2]
        message = "OOM when allocating a tensor of shape [4096, 4096]"
        add(drawn_values(rng, blocks), [], status=status, message=message)
    last = []
    for _ in range(configurations):
        values = drawn_values(rng, blocks)
        last.append(add(values, curve(rng, values), end=RUNGS[0]))
    for start, end in pairwise(RUNGS):
        last.sort(key=lambda pair: -better * pair[0]["score"])
        last = [add(t["values"], scores, t["id"], start, end) for t, scores in last[: len(last) // 3]]
    done = sorted((t for t in trials if t["status"] == "COMPLETED"), key=lambda t: -better * t["score"])
    kept = list({str(trial["values"]): trial for trial in done[::-1]}.values())[::-1][:finalists]
    entries = []
    for place, trial in enumerate(kept):
        values = [trial["score"] + rng.gauss(0, 0.001) - better * 0.002 * place for _ in range(3)]
        runs = [
            {"seed": n + 1, "slice": 11 + n, "metrics": {metric: value}, "file": f"{n}.npy"}
            for n, value in enumerate(values)
        ]
        mean = sum(values) / 3
        difference = mean - entries[0]["mean"] if place else 0.0
        gap = {"mean": difference, "interval": [difference - 0.003, difference + 0.003]}
        entry = {"trial": trial["id"], "candidate": trial["candidate"], "runs": runs, "diverged": []}
        entries.append(entry | {"mean": mean, "sd": 0.001, "difference": gap if place else None})
    return {
        "objective": {"name": objective, "direction": "max" if better > 0 else "min"},
        "versions": {"nfm-tfrs": "0.1.0", "tensorflow": "2.21.0", "python": "3.11.2"},
        "seed": 0,
        "data": {"fingerprint": "9f2c" * 16, "rows": {"train": 80666, "valid": 9722, "test": 10448}},
        "slices": 27,
        "passes": 9.0,
        "seconds": 812.3,
        "trials": trials,
        "finalists": entries,
        "diverged": ["0013"],
        "model": {"seed": 2, "slices": 12, "rows": "train"},
        "verdict": "There is no clear winner.",
        "test": {"metrics": {metric: 0.7912}, "interval": [0.782, 0.8]} if entries else None,
    }


class Page(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.texts, self.headings = [], [], [], []
        self.inside = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag, f"a <{tag}> is closed that was not open"

    def handle_data(self, data):
        if self.inside and self.inside[-1] not in ("script", "style") and data.strip():
            self.texts.append(data.strip())
            if self.inside[-1] == "h2":
                self.headings.append(data.strip())

    def figures(self):
        return [value.removeprefix("figure-") for name, value in self.attributes if name == "id"]

    def lines(self, figure):
        """What Plotly is told to draw."""
        start = self.source.index("[", self.source.index(f'"figure-{figure}",'))
        return json.JSONDecoder().raw_decode(self.source, start)[0]


@pytest.fixture
def write(tmp_path):
    def write(found):
        write_report(Evidence.from_json(found), tmp_path / "report.html")
        return Page(tmp_path / "report.html")

    return write


@pytest.fixture(scope="module")
def found():
    return found_of()


@pytest.fixture(scope="module")
def page(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(Evidence.from_json(found), path)
    return Page(path)


def test_page_shows_each_part(page, found):
    assert page.headings == [
        "Best configuration",
        "Finalists",
        "Score by block and by structure",
        "Hyperparameters",
        "Learning curves",
        "Failed trials",
        "How it was run",
    ]
    assert page.figures() == ["finalists", "differences", "block", "structure", "importance", "parallel", "curves"]
    first, second, _ = found["finalists"]
    low, high = second["difference"]["interval"]
    for words in (
        found["verdict"],
        f"{first['mean']:.4f}",
        f"{second['difference']['mean']:+.4f} [{low:+.4f}, {high:+.4f}]",
        "95 % [0.7820, 0.8000]",
        "OOM when allocating a tensor of shape [4096, 4096]",
        "1 failed, 1 invalid, 28 completed",
        "80,666",
        "12 slices of the train rows, seed 2",
        "Diverged with every seed: trial 0013.",
        "2.21.0",
        found["data"]["fingerprint"],
        first["candidate"]["training"]["optimizer"],
    ):
        assert words in page.text


def test_page_of_an_earlier_search_says_what_it_said(write):
    page = write(json.loads((YESTERDAY / "search.json").read_text()))
    assert "\n".join(page.texts) + "\n" == (YESTERDAY / "report.txt").read_text()


def test_page_needs_nothing_else(page):
    assert not [value for name, value in page.attributes if name in ("src", "href", "srcset", "data")]
    assert "link" not in page.tags
    style = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert not re.search(r"url\(|@import", style)
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none';")


def test_curve_joins_a_promoted_trial_to_its_parents(page, found):
    lines = page.lines("curves")
    ends = sorted(len(line["x"]) for line in lines)
    assert ends == [1] * 14 + [3] * 4 + [9] * 2  # 20 configurations, 6 promoted, 2 of them twice
    promoted = next(trial for trial in found["trials"] if trial["end"] == 9)
    assert [scores["auc"] for scores in promoted["scores"]] in [line["y"] for line in lines]
    assert lines[-1]["name"] == "best"
    assert len(lines[-1]["x"]) == 9


def test_importance_finds_what_the_score_depends_on(page):
    bars = [dict(zip(line["y"], line["x"], strict=True)) for line in page.lines("importance")]
    assert sorted(bars[0], key=bars[0].get)[-2:] == ["optimizer", "interaction"]
    assert sum(bars[0].values()) == pytest.approx(1)
    assert not {"cross/layers", "adam/learning_rate"} & {*bars[0], *bars[1]}


def test_importance_says_which_hyperparameters_are_left_out(page):
    left = next(text for text in page.texts if "Left out" in text).partition("Left out")[2]
    assert "cross/layers" in left
    assert "adam/learning_rate" in left
    assert "interaction" not in left
    assert "after 1 of 27 slices" in page.text


def test_names_are_data(write):
    name = "</script><img src=x onerror=alert(1)><b>&\"'"
    found = found_of(12, blocks=(name, "fm"))
    found["verdict"] = found["versions"][name] = found["data"]["fingerprint"] = name
    found["trials"][0]["message"] = name
    for trial in found["trials"]:
        trial["values"][name] = name + str(len(trial["id"] + trial["values"]["interaction"]))
    page = write(found)
    assert not {"img", "b"} & set(page.tags)
    assert page.texts.count(name) >= 4
    # Plotly would take it for its own markup.
    assert escape(name, quote=False) in page.lines("block")[0]["y"]


def test_one_trial_makes_a_page(write):
    page = write(found_of(1, failed=0))
    assert page.figures() == ["finalists", "block", "structure", "curves"]
    assert "needs 10 finished configurations" in page.text
    assert "None failed." in page.text


def test_no_finished_trial_makes_a_page(write):
    page = write(found_of(0))
    assert page.figures() == []
    assert "No trial was finished." in page.text
    assert "OOM when allocating" in page.text


def test_running_trials_and_no_finalists_make_a_page(write):
    found = found_of(4, finalists=0)
    found["trials"][-1] |= {"status": "RUNNING", "score": None, "scores": []}
    page = write(found)
    best = max(trial["score"] for trial in found["trials"] if trial["score"] is not None)
    assert f"{best:.4f}" in page.text
    assert "No configuration was trained again." in page.text


def test_single_block_makes_a_page(write):
    page = write(found_of(12, blocks=("cross",)))
    assert set(page.lines("block")[0]["y"]) == {"cross"}
    assert "interaction" not in page.lines("importance")[0]["y"]


def test_models_with_blocks_of_their_own_make_a_page(write):
    found = found_of(4)
    for trial in found["trials"]:
        trial["candidate"] = {"model": "afm", "config": {"embedding_dim": 8}, "training": {"optimizer": "adam"}}
    page = write(found)
    assert set(page.lines("block")[0]["y"]) == {"afm"}
    assert "No configuration has a structure to choose." in page.text


def test_lowest_score_is_best_where_less_is_better(write):
    found = found_of(12, objective="val_rmse")
    page = write(found)
    done = [trial for trial in found["trials"] if trial["status"] == "COMPLETED"]
    best = min(done, key=lambda trial: trial["score"])
    assert page.lines("block")[0]["x"].count(best["score"]) == 1
    assert min(page.lines("curves")[-1]["y"]) == best["score"]
    assert "validation RMSE, mean" in page.texts


def test_a_far_worse_score_does_not_squeeze_the_others(write):
    found = found_of(12, objective="val_rmse")
    worst = next(trial for trial in found["trials"] if trial["status"] == "COMPLETED")
    worst |= {"score": 900.0, "scores": [{"rmse": 900.0}]}
    page = write(found)
    ranges = re.findall(r'"range":\[([\d.]+),([\d.]+)\]', page.source)
    assert max(float(high) for _, high in ranges) < 3
    assert "leaves out much worse scores" in page.text


def test_page_is_the_same_each_time(write):
    assert write(found_of(12)).source == write(found_of(12)).source


def test_page_is_drawn_without_tensorflow(run_python, tmp_path):
    script = f"""
import json, sys
from pathlib import Path
from nfm_tfrs.evidence import Evidence
from nfm_tfrs.report.page import _head, write_report
from nfm_tfrs.report.view import Search
write_report(Evidence.from_json(json.loads(Path({str(YESTERDAY / "search.json")!r}).read_text())), "report.html")
print(*sys.modules)
"""
    imported = {name.partition(".")[0] for name in run_python(script, folder=tmp_path).stdout.split()}
    assert "plotly" in imported
    assert not imported & {"tensorflow", "tf_keras", "keras_tuner", "pyarrow"}


@pytest.mark.parametrize("module", ["optuna", "plotly.io"])
def test_missing_library_names_the_extra(module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    message = rf'^The page needs {module.partition(".")[0]}\. Install it with pip install "nfm-tfrs\[report\]"\.$'
    with pytest.raises(ImportError, match=message):
        write_report(Evidence.from_json(found_of(1)), tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_old_page_stays_where_the_new_one_fails(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    found = found_of(1)
    del found["test"]["metrics"]["auc"]
    with pytest.raises(KeyError, match="auc"):
        write_report(Evidence.from_json(found), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_old_page_is_replaced_not_overwritten(tmp_path):
    path, kept = tmp_path / "report.html", tmp_path / "kept.html"
    path.write_text("old")
    kept.hardlink_to(path)
    write_report(Evidence.from_json(found_of(1)), path)
    assert "<html" in path.read_text(encoding="utf-8")
    assert kept.read_text() == "old"  # whoever reads the page sees it change at once


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_browser_draws_every_figure_without_an_error(page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page.source, encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=5000", "--window-size=1200,3000", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    drawn = re.findall(r'id="figure-(\w+)" class="plotly-graph-div js-plotly-plot"', done.stdout)
    assert drawn == page.figures()
    assert done.stdout.count('<svg class="main-svg"') >= len(drawn)


@pytest.mark.parametrize(("constant", "warned"), [(0.7, True), (0.8, False)])
def test_the_head_says_what_a_constant_would_have_scored(constant, warned):
    found = found_of(objective="val_rmse")
    found["test"]["constant"] = {"rmse": constant}
    head = _head(Search(Evidence.from_json(found)), None)
    assert (
        f"test RMSE of a constant</dt><dd>{constant:.4f}<small>the training rows&#x27; mean; the model: 0.7912" in head
    )
    assert ("The model is no better than the mean" in head) == warned
