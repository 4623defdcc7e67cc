"""The tables of measurements in the README and in docs/, from benchmarks/results/*.json.

usage: python benchmarks/tables.py

Each stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`, with NAME from `TABLES`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.places import BENCHMARKS, RESULTS
from lib.spec_table import spec_table
from lib.speed_table import NOT_MEASURED, RESULTS_OF_SPEED, speed_caption, speed_table
from lib.timing import machine_words

METRICS = ("valid_auc", "test_auc", "test_log_loss")
SEARCHED = (  # against the same search without the prior: the set, the file, the AUC that is aimed at
    ("movielens-small", "search_prior.json", "0.792"),
    ("lastfm-tags", "search_lastfm_prior.json", "0.9885"),
)
SIDES = {"halving": "with the prior", "no-prior": "without it"}
PAGES = tuple(
    BENCHMARKS.parent / page
    for page in ("README.md", "docs/measured.md", "docs/alive.md", "docs/features.md", "docs/quality.md")
)


def table(results: dict[str, Any]) -> str:
    """A row a block: parameters, and for each shape ms ours, DeepCTR's, their ratio, and peak MB ours / DeepCTR's."""
    shapes = list(next(iter(results["entries"].values()))["shapes"])
    headings = [heading for shape in shapes for heading in (f"{shape}: ms", "DeepCTR", "ratio", "MB / DeepCTR")]
    rows = [["block", "parameters", *headings], ["---"] + ["---:"] * (1 + len(headings))]
    for name, entry in results["entries"].items():
        measured = [entry["shapes"][shape] for shape in shapes]
        rows.append([name, _parameters(measured), *(cell for shape in measured for cell in _cells(shape))])
    return _lines(rows)


def caption(results: dict[str, Any]) -> str:
    """What the numbers depend on, and what they are."""
    return (
        f"{_measured_with(results)}; medians of {results['rounds']} "
        f"rounds, seed {results['seed']}; the ratio's 95 % interval in brackets; fields x dim; MB: what the steps add "
        "to the peak memory of a process.\n\n"
    )


def blocks() -> str:
    """The blocks' times and memory."""
    results = json.loads((RESULTS / "blocks.json").read_text())
    return caption(results) + table(results)


def movielens() -> str:
    """Quality on MovieLens-small's test rows, of the package's defaults and of two other models."""
    results = json.loads((RESULTS / "movielens.json").read_text())
    rows = [["", "test AUC", "log loss", "calibration error", "AUC within a user"], ["---"] * 5]
    for name, report in results["test"].items():
        measured = (report[metric] for metric in ("auc", "log_loss", "calibration_error", "grouped_auc"))
        rows.append([name, *(_spread(of) for of in measured)])
    caption = f"{_versions(results)}; mean and standard deviation of {results['seeds']} seeds, where there are any.\n\n"
    return caption + _lines(rows)


def movielens_settings() -> str:
    """Quality on MovieLens-small's validation rows of each setting that was tried, the best first."""
    tried = json.loads((RESULTS / "movielens.json").read_text())["valid"]
    rows = [["setting", "validation AUC", "log loss"], ["---"] * 3]
    for name in sorted(tried, key=lambda name: -tried[name]["auc"]["mean"]):
        rows.append([name, _spread(tried[name]["auc"]), _spread(tried[name]["log_loss"])])
    return _lines(rows)


def speed() -> str:
    """What must be reached, and what was measured."""
    paths = {name: RESULTS / f"{name}.json" for name in RESULTS_OF_SPEED}
    results = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    return speed_caption(results) + speed_table(results)


def raw() -> str:
    """Rows a second of training from raw columns of Criteo's shape; a word where that was not measured yet."""
    if not (RESULTS / "raw.json").exists():
        return f"{NOT_MEASURED}\n"
    results = json.loads((RESULTS / "raw.json").read_text())
    rows = [["model", "batch", "thousand rows a second"], ["---", "---:", "---:"]]
    for name, sizes in results["rows_per_second"].items():
        for size, rate in sizes.items():
            median, low, high = (f"{number / 1e3:.1f}" for number in (rate["median"], *rate["interval"]))
            rows.append([name, size, f"{median} [{low}, {high}]"])
    caption = f"{_measured_with(results)}; medians of {results['rounds']} rounds.\n\n"
    return caption + _lines(rows)


def optimizers() -> str:
    """Quality by optimizer at its rate, and what it is more or less than dense Adam's."""
    results = json.loads((RESULTS / "optimizers.json").read_text())
    rows = [["data", "optimizer", "rate", "validation AUC", "test AUC", "less Adam's", "log loss"], ["---"] * 7]
    for data, measured in results["data"].items():
        for name, summary in measured["summary"].items():
            less = summary["differences"].get("Adam", {}).get("test_auc")
            rows.append([data, name, f"{measured['chosen'][name]:g}", *_quality(summary, less)])
    return _lines(rows)


def precision() -> str:
    """Quality by precision, and what it is more or less than that of float32."""
    results = json.loads((RESULTS / "precision.json").read_text())
    headings = ["data", "precision", "validation AUC", "less float32's", "test AUC", "less float32's", "log loss"]
    rows = [headings, ["---"] * len(headings)]
    for data, measured in results["data"].items():
        for name, summary in measured["summary"].items():
            valid, *others = _quality(summary, summary["differences"].get("test_auc"))
            rows.append([data, name, valid, _less(summary["differences"].get("valid_auc")), *others])
    return _lines(rows)


def search(folder: Path = RESULTS) -> str:
    """What searches are to reach, and what they did; rows of what has been measured."""
    rows = [["measured", "aim", "found"], ["---"] * 3]
    if (path := folder / "search.json").exists():
        results = json.loads(path.read_text())
        auc, less = results["test"]["auc"]["searched"], results["test"]["searched less"]
        better, other = sorted(results["summary"], key=lambda strategy: strategy != results["better"])
        valid = [f"{name} {_spread(results['summary'][name]['valid_auc'])}" for name in (better, other)]
        rows.append(
            ["movielens-small, validation AUC of the winners", "the default is the better one", ", ".join(valid)]
        )
        rows.append(["movielens-small, test AUC", "0.800", _interval("{:.4f}", auc)])
        rows += [[f"less that of {name}", "above 0", _less(gap)] for name, gap in less.items()]
    for name, file, aim in SEARCHED:
        if (path := folder / file).exists():
            results = json.loads(path.read_text())
            for side, of in results["summary"].items():
                what = f"{name}, {results['minutes']:g} minutes, {SIDES[side]}: validation AUC of the model"
                rows.append(
                    [what, aim, f"{_spread(of['model_auc'])}; its best configuration {_spread(of['valid_auc'])}"]
                )
            shares = [of["share"] for of in results["reached"]]
            what = f"{name}: minutes to the same AUC, with the prior over without"
            rows.append([what, "0.5", f"{sum(shares) / len(shares):.2f}"])
    if (path := folder / "search.json").exists() and "rank correlation" in (results := json.loads(path.read_text())):
        what = "rank correlation of the first rung with whole trainings"
        rows.append([what, "0.9", f"{results['rank correlation']:.2f}"])
    if (path := folder / "search_clicks.json").exists():
        results = json.loads(path.read_text())
        for name in ("pairs", "triples"):
            of = results[name]
            gap = f"{of['within 0.01 of the best']} of {of['of']}"
            rows.append([f"click log, {name}: below the best AUC", "0.0045", _spread(of["below the best"])])
            rows.append([f"click log, {name}: within 0.01 of the best AUC", "9 of 10", gap])
            rows.append(["above the default NFM", "9 of 10", f"{of['above the default NFM']} of {of['of']}"])
    if (path := folder / "search_memory.json").exists():
        for name, of in json.loads(path.read_text())["searches"].items():
            rows.append([f"memory, {of['trials']} trials of {name}", "below 300 MB", f"{of['growth']:+.0f} MB"])
    return _lines(rows)


def exports(folder: Path = RESULTS) -> str:
    """How far the exports of all models are from them, runtime by runtime; a word where that was not measured yet."""
    if not (folder / "exports.json").exists():
        return f"{NOT_MEASURED}\n"
    results = json.loads((folder / "exports.json").read_text())
    runtimes = list(results["differences"])
    sizes = [f"{form}: {unit}" for form in ("SavedModel", "ONNX") for unit in ("KB", "s")]
    rows = [["model", *runtimes, *sizes], ["---"] + ["---:"] * (len(runtimes) + len(sizes))]
    for name, forms in results["exports"].items():
        found = [f"{results['differences'][runtime].get(name, float('nan')):.1e}" for runtime in runtimes]
        cost = [cell for form in forms.values() for cell in (f"{form['bytes'] / 1e3:.0f}", f"{form['seconds']:.1f}")]
        rows.append([f"`{name}`", *found, *cost])
    return f"{_measured_with(results)}.\n\n" + _lines(rows)


def quantized(folder: Path = RESULTS) -> str:
    """What tables in fewer bytes cost and save; a word where that was not measured yet."""
    if not (folder / "quantized.json").exists():
        return f"{NOT_MEASURED}\n"
    results = json.loads((folder / "quantized.json").read_text())
    rows = [["data", "table", "AUC more", "log loss more", "SavedModel", "ONNX"], ["---"] * 2 + ["---:"] * 4]
    for data, of in results["data"].items():
        for how, one in of["tables"].items():
            less = [f"{one[f'{metric} less']['mean']:+.6f}" for metric in ("auc", "log_loss")]
            shares = [f"{one[f'{form} share']['mean']:.2f} of its size" for form in ("savedmodel", "onnx")]
            rows.append([f"{data}, {of['rows of the table']:,} rows", how, *less, *shares])
    shares = results["shares"]
    for how, one in shares["tables"].items():
        cells = [f"{one[f'{form} share']:.2f} of its size" for form in ("savedmodel", "onnx")]
        rows.append([f"{shares['rows']:,} rows, not trained", how, "", "", *cells])
    return f"{_versions(results)}; means of {results['seeds']} seeds.\n\n" + _lines(rows)


def daily() -> str:
    """What each way of training every night gains over training once, on the rows of the next day."""
    results = json.loads((RESULTS / "daily.json").read_text())
    text = (
        f"{_measured_with(results)}; means of {results['seeds']} seeds and "
        f"{results['slices'] - results['first'] - 1} nights; what is gained, "
        "night by night, in brackets its 95 % interval.\n"
    )
    for title, found in results["data"].items():
        share = found["train once"]["new_rows"]["mean"]
        rows = [["", "AUC, all rows", "gained", f"AUC, new ids ({share:.0%} of the rows)", "gained", "seconds a night"]]
        rows += [["---"] + ["---:"] * 5]
        for name, one in found.items():
            cells = [f"{one['all']['mean']:.4f}", _interval("{:+.4f}", one["all_gain"])]
            cells += [f"{one['new']['mean']:.4f}", _interval("{:+.4f}", one["new_gain"])]
            rows.append([name, *cells, f"{one['seconds']['mean']:.1f}"])
        text += f"\n{title}:\n\n" + _lines(rows)
    return text


def sizes() -> str:
    """AUC of tables with fewer rows than ids."""
    results = json.loads((RESULTS / "sizes.json").read_text())
    rows = [["tables", "rows for each id", "megabytes", "test AUC"], ["---"] + ["---:"] * 3]
    for way, points in results["ways"].items():
        for point in points:
            rows.append([way, f"{point['share']:g}", f"{point['megabytes']:.2f}", f"{point['auc']:.4f}"])
    seeds = f"{results['seeds']} seed" + "s" * (results["seeds"] > 1)
    told = f"{results['rows']:,} rows, {seeds}; the best AUC there is is {results['best']:.4f}."
    return f"{_measured_with(results)}; {told}\n\n" + _lines(rows)


def histories() -> str:
    """Validation AUC with counts and with histories, of users who are known and of new ones."""
    results = json.loads((RESULTS / "histories.json").read_text())
    text = f"{_measured_with(results)}; {len(results['seeds'])} seeds, paired; 95 % intervals.\n"
    for users, found in results["data"].items():
        rows = [["", "validation AUC", "gained", "log loss", "gained"], ["---"] + ["---:"] * 4]
        for way, one in found["summary"].items():
            cells = []
            for metric in ("valid_auc", "valid_log_loss"):
                cells += [_spread(one[metric]), _gained(one["gain"].get(metric))]
            rows.append([way, *cells])
        text += f"\n{users}:\n\n{_lines(rows)}"
    return text


def attention() -> str:
    """How far mean pooling and attention stay behind the best AUC, and the settings that were tried."""
    results = json.loads((RESULTS / "attention.json").read_text())
    found = results["summary"]
    low, high = found["difference"]["interval"]
    told = (
        f"{_measured_with(results)}. Distance to the best AUC, mean of {len(results['runs'])} logs of "
        f"{results['rows']:,} rows: {found['distance']['mean']:.4f} by the mean, "
        f"{found['distance']['attention']:.4f} by attention, {found['share_left']:.0%} of it "
        f"({found['largest_share_left']:.0%} on the worst log); difference "
        f"{found['difference']['mean']:+.4f} [{low:+.4f}, {high:+.4f}].\n\n"
    )
    rows = [["activation, weights", "validation AUC"], ["---", "---:"]]
    rows += [[name, f"{sum(each) / len(each):.4f}"] for name, each in results["settings"].items()]
    return told + _lines(rows)


def numbers() -> str:
    """AUC by encoder of numbers, beside LightGBM, and what each costs in a training step."""
    results, steps = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("numbers", "number_steps"))
    text = f"{_measured_with(results)}; {results['seeds']} seeds, paired; steps: medians of {steps['rounds']} rounds.\n"
    for title, found in results["data"].items():
        rows = [["", "validation AUC", "test AUC", "gained, test", "log loss"], ["---"] + ["---:"] * 4]
        for encoder, one in found["summary"].items():
            gap = one.get("less linear", {}).get("test_auc")
            rows.append([encoder, *(_spread(one[name]) for name in ("valid_auc", "test_auc"))])
            rows[-1] += [_gained(gap), _spread(one["test_log_loss"])]
        best = found.get("best_possible", {}).get("test_auc")
        told = f"{title}, {found['rows']:,} rows" + ("" if best is None else f", the best test AUC there is {best:.4f}")
        text += f"\n{told}:\n\n{_lines(rows)}"
    rows = [["training step", *steps["steps"]], ["---"] + ["---:"] * len(steps["steps"])]
    for encoder in next(iter(steps["steps"].values())):
        ratios = [of[encoder]["ratio"] for of in steps["steps"].values()]
        rows.append([encoder, *("{:.2f} [{:.2f}, {:.2f}]".format(one["median"], *one["interval"]) for one in ratios)])
    return f"{text}\nA step over that of linear numbers, by block:\n\n{_lines(rows)}"


def defaults() -> str:
    """What each way of training gains on validation rows, set by set and over all of them."""
    results = json.loads((RESULTS / "defaults.json").read_text())
    told = "gains in validation AUC over one member, paired by seed, in brackets their 95 % intervals over seeds"
    text = f"{_measured_with(results)}; patience {results['patience']}; {told}.\n\n"
    sets = results["sets"]
    rows = [["", *sets, "over sets"], ["---"] + ["---:"] * (len(sets) + 1)]
    for name in dict.fromkeys(name for of in sets.values() for name in of):
        gained = [_gained(of.get(name, {}).get("gained", {}).get("auc")) for of in sets.values()]
        rows.append([name, *gained, _gained(results["over sets"].get(name))])
    text += _lines([row for row in rows if any(row[1:])])
    for name, of in sets.items():
        rows = [["", "validation AUC", "log loss", "passes", "seconds", "three averaged"], ["---"] + ["---:"] * 5]
        for candidate, one in of.items():
            three = results["three averaged"][name].get(candidate)
            cells = [_spread(one["auc"]), _spread(one["log_loss"])]
            cells += [f"{one[count]['mean']:.1f}" if one["epochs"]["mean"] else "" for count in ("epochs", "seconds")]
            rows.append([candidate, *cells, f"{three['auc']:.4f}" if three else ""])
        text += f"\n{name}:\n\n{_lines(rows)}"
    return text


def parity() -> str:
    """The largest difference of each part from other people's code with the same weights."""
    results = json.loads((RESULTS / "parity.json").read_text())
    rows = [["", "beside", "largest difference"], ["---", "---", "---:"]]
    for peer, found in results["largest_difference"].items():
        rows += [[name, peer, f"{difference:.1e}"] for name, difference in found.items()]
    return f"{_measured_with(results)}.\n\n{_lines(rows)}"


TABLES: Mapping[str, Callable[[], str]] = {
    "specs": spec_table,
    "blocks": blocks,
    "movielens": movielens,
    "movielens_settings": movielens_settings,
    "speed": speed,
    "raw": raw,
    "optimizers": optimizers,
    "precision": precision,
    "search": search,
    "exports": exports,
    "quantized": quantized,
    "daily": daily,
    "histories": histories,
    "attention": attention,
    "numbers": numbers,
    "sizes": sizes,
    "defaults": defaults,
    "parity": parity,
}


def markers(name: str) -> tuple[str, str]:
    """The lines around a table."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def placed(text: str, name: str, rendered: str) -> str:
    """The text with what stands between the markers of this name replaced.

    Raises:
        ValueError: There are no such markers.
    """
    opening, closing = markers(name)
    head, begin, rest = text.partition(opening)
    _, end, tail = rest.partition(closing)
    if not begin or not end:
        raise ValueError(f"The text has no {opening} followed by {closing}. Add both, each on a line of its own.")
    return f"{head}{opening}\n{rendered}{closing}{tail}"


def filled(text: str) -> str:
    """The text with every table that it has a place for as the results make it."""
    for name, render in TABLES.items():
        if markers(name)[0] in text:
            text = placed(text, name, render())
    return text


def _quality(summary: Mapping[str, Any], less: Mapping[str, Any] | None) -> list[str]:
    """Validation AUC, test AUC, the difference to a reference with its interval, and log loss; "" without test rows."""
    valid, test, loss = (_spread(summary[name]) if name in summary else "" for name in METRICS)
    return [valid, test, _less(less), loss]


def _less(gap: Mapping[str, Any] | None) -> str:
    """A difference with its interval; nothing where there is none."""
    return _interval("{:+.4f}", gap) if gap else ""


def _interval(form: str, of: Mapping[str, Any]) -> str:
    """A mean with its interval."""
    return f"{form} [{form}, {form}]".format(of["mean"], *of["interval"])


def _gained(gap: Mapping[str, Any] | None) -> str:
    return "" if not gap else "{:+.4f} [{:+.4f}, {:+.4f}]".format(gap["mean"], *gap["interval"])


def _measured_with(results: Mapping[str, Any]) -> str:
    """The machine and the versions of what was measured."""
    return f"{machine_words(results['machine'])}; {_versions(results)}"


def _versions(results: Mapping[str, Any]) -> str:
    return ", ".join(f"{package} {version}" for package, version in results["versions"].items())


def _lines(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _spread(of: Mapping[str, Any]) -> str:
    """A mean with its standard deviation; the mean alone of a single run."""
    return f"{of['mean']:.4f}" + ("" if of["sd"] is None else f" ± {of['sd']:.4f}")


def _parameters(measured: list[dict[str, Any]]) -> str:
    """Once, or one a shape where they differ."""
    return " / ".join(dict.fromkeys(f"{shape['parameters']:,}" for shape in measured))


def _cells(measured: dict[str, Any]) -> list[str]:
    ours, theirs, ratio = measured["ours"], measured.get("deepctr"), measured.get("ratio")
    if theirs is None or ratio is None:
        return [_number(ours["milliseconds"]), "", "", str(ours["peak_megabytes"])]
    low, high = ratio["interval"]
    compared = f"{ratio['median']:.2f} [{low:.2f}, {high:.2f}]" + " slower" * (ratio["verdict"] == "slower")
    peaks = f"{ours['peak_megabytes']} / {theirs['peak_megabytes']}"
    return [_number(ours["milliseconds"]), _number(theirs["milliseconds"]), compared, peaks]


def _number(value: float) -> str:
    """Three digits, more only before the point: 0.512, 5.12, 51.2, 5,120."""
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{decimals}f}"


def main() -> None:
    for path in PAGES:
        path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
