"""The benchmark for a GPU runs without one where it is told to, needs little, and judges what it found."""

import itertools
import json
from types import MappingProxyType

import gpu
import numpy as np
import pytest
from lib.gpu import parts as gpu_parts
from lib.gpu import quality as gpu_quality
from lib.gpu.plan import ALL, BLOCKS, GRID, PLAN, QUICK, Configuration, K, Variant
from lib.places import BENCHMARKS

from nfm_tfrs.keras_compat import tf

ABSENT = ("pyarrow", "sklearn", "typer", "rich", "matplotlib", "pandas", "keras_tuner")


def millisecond_rounds(milliseconds):
    """A variant with nine rounds around this time."""
    rounds = [milliseconds * factor for factor in (0.98, 0.99, 0.99, 1.0, 1.0, 1.0, 1.01, 1.01, 1.02)]
    share = {"median": 0.5 / milliseconds, "interval": [0.49 / milliseconds, 0.51 / milliseconds]}
    return {"milliseconds": rounds, "bandwidth_share": share}


def part(**milliseconds):
    """A configuration of variants with these times."""
    variants = {}
    for name, time in milliseconds.items():
        precision, _, xla = name.partition("_")
        variant = Variant(precision, bool(xla))
        variants[variant.name] = {**variant._asdict(), **millisecond_rounds(time)}
    return {"variants": variants}


# --- the script ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick(run_python, tmp_path_factory):
    """What the script says, and writes, without a GPU and without the packages it must not need."""
    folder = tmp_path_factory.mktemp("gpu")
    script = f"""
import runpy, sys
for name in {ABSENT!r}:
    sys.modules[name] = None
def run(*arguments):
    sys.argv = ["gpu.py", *arguments]
    runpy.run_path({str(BENCHMARKS / "gpu.py")!r}, run_name="__main__")
try:
    run("--out", "none")
except SystemExit as error:
    print(error)
print("---")
run("--quick", "--out", "found")
"""
    done = run_python(script, folder=folder, CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(BENCHMARKS))
    refusal, said = done.stdout.split("---\n")
    assert not (folder / "none").exists()
    return refusal, said.splitlines(), json.loads((folder / "found" / "gpu.json").read_text())


@pytest.mark.slow
def test_without_a_gpu_it_says_so_in_one_line(quick):
    assert quick[0] == "benchmarks/gpu.py needs a GPU, and TensorFlow finds none; --quick runs on a CPU.\n"


@pytest.mark.slow
def test_a_quick_run_measures_every_part_without_the_packages_that_a_gpu_machine_lacks(quick):
    _, said, found = quick
    assert list(found["parts"]) == ["rates", "wide MLP", "embedding-bound", "cin", "quality", "look-ups"]
    assert [line for line in said if line in found["parts"]] == list(found["parts"])
    assert found["device"] is None
    for name in ("wide MLP", "embedding-bound", "cin"):
        variants = found["parts"][name]["variants"]
        assert list(variants) == [
            one.name for plan in QUICK.configurations if plan.name == name for one in plan.variants
        ]
        for variant in variants.values():
            assert variant["samples_per_second"]["median"] > 0
            assert variant["share"]["median"] > variant["bandwidth_share"]["median"] > 0
    assert len(found["parts"]["look-ups"]["milliseconds"]) == 4
    assert all(0.4 < area < 1 for area in found["parts"]["quality"]["auc"]["bfloat16"])


@pytest.mark.slow
def test_its_last_lines_are_the_verdicts_that_it_writes(quick):
    _, said, found = quick
    assert [line.partition(":")[0] for line in said[-3:]] == ["wide MLP", "wide MLP", "embedding-bound"]
    assert all(line.endswith(f", {one['verdict']}") for line, one in zip(said[-3:], found["verdicts"], strict=True))


# --- what is measured ------------------------------------------------------------------------------------------------


def test_the_default_configurations_vary_each_axis_of_the_base_by_itself():
    base, names = PLAN.configurations[0], [one.name for one in PLAN.configurations]
    assert len(set(names)) == len(names)
    axes = ("batch_size", "embedding_dim", "hidden_units", "block", "numeric", "optimizer")
    for one in PLAN.configurations[gpu.JUDGED :]:
        assert sum(getattr(one, axis) != getattr(base, axis) for axis in axes) == 1
    for axis, values in {
        "batch_size": {8 * K, 32 * K, 128 * K, 256 * K},
        "embedding_dim": {16, 64, 128},
        "hidden_units": {(256, 128), (1024, 512, 256)},
        "block": set(BLOCKS),
        "optimizer": {"LazyAdam", "Keras Adagrad"},
    }.items():
        assert {getattr(one, axis) for one in PLAN.configurations} == values
    assert all(one.variants == ALL for one in PLAN.configurations[: gpu.JUDGED])
    assert len(ALL) == 8


def test_the_grid_holds_every_combination_once():
    found = {(one.batch_size, one.embedding_dim, one.hidden_units, one.block) for one in GRID.configurations}
    expected = itertools.product(
        (8192, 32768, 131072, 262144), (16, 64, 128), ((256, 128), (1024, 512, 256)), gpu_parts.BLOCKS
    )
    assert found == set(expected)
    assert len({one.name for one in GRID.configurations}) == len(found) == 96


def test_bytes_are_those_of_the_look_ups_and_of_each_distinct_row_and_its_slots():
    adam, adagrad = (Configuration("any", 10, 3, optimizer=name) for name in ("LazyAdam", "Keras Adagrad"))
    row = (3 + 1) * 4
    read_and_written = 10 * 2 * 2 * row
    assert gpu_parts.bytes_moved(adam, fields=2, distinct=7) == read_and_written + 7 * 2 * (row + row + row)
    assert gpu_parts.bytes_moved(adagrad, fields=2, distinct=7) == read_and_written + 7 * 2 * (row + row)


def test_flops_are_three_times_those_of_the_layers_and_the_block():
    configuration = Configuration("any", 10, 4, hidden_units=(8,), block="cross", structure="concat")
    data = gpu_parts.Data(QUICK, 10)
    trainer = gpu_parts.Trainer(configuration, Variant("float32"), data.spec)
    cross = 3 * 2 * (26 * 4) ** 2  # three layers of one square product, and what is not products
    tower = 2 * ((26 * 4 + 26 * 4 + 13) * 8 + 8)
    products = 3 * 10 * (cross + tower + 2 * 13)  # the numbers' first-order weights
    assert products <= trainer.flops(10) <= 1.02 * products


def test_tf32_is_let_in_for_the_time_of_a_trainer_that_wants_it():
    data, allowed = gpu_parts.Data(QUICK, 8), []
    trainers = [gpu_parts.Trainer(Configuration("any", 8, 4), Variant(name), data.spec) for name in ("float32", "tf32")]
    for trainer in trainers:
        trainer.train(data.batches(8))
        allowed.append(tf.config.experimental.tensor_float_32_execution_enabled())
    assert allowed == [False, True]


class FakeTrainer:
    """Fails as it is told to; trains nothing."""

    errors = MappingProxyType({})  # what is raised, by a variant's name

    def __init__(self, configuration, variant, spec):
        if variant.name in self.errors:
            raise self.errors[variant.name]

    def train(self, batches):
        pass

    def flops(self, batch_size):
        return 1


def test_a_variant_that_runs_out_of_memory_is_noted_and_the_others_run_on(monkeypatch, capsys):
    errors = {
        "float32": tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
        "bfloat16, XLA": tf.errors.InternalError(None, None, "no ptxas\nat all"),
    }
    monkeypatch.setattr(FakeTrainer, "errors", errors)
    configuration = Configuration("any", 8, 4, variants=(*ALL[:2], *ALL[4:6]))
    card = {"bytes_per_second": 1.0, "flops_per_second": dict.fromkeys(("float32", "bfloat16"), 1.0)}
    monkeypatch.setattr(gpu_parts, "take_turns", lambda steps, rounds: np.ones([rounds, len(steps)]))
    found = gpu_parts.speed(configuration, gpu_parts.Data(QUICK, 8), card, 6, FakeTrainer)["variants"]
    assert found["float32"] == {"error": "out of memory"}
    assert found["bfloat16, XLA"] == {"error": "InternalError: no ptxas"}
    assert [name for name, one in found.items() if "milliseconds" in one] == ["float32, XLA", "bfloat16"]
    assert "float32        out of memory" in capsys.readouterr().out


def test_memory_grows_on_the_one_gpu_that_is_used_and_is_set_before_it_starts(monkeypatch):
    calls = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["first", "second"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: calls.append(devices))
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda device, grows: calls.append((device, grows))
    )
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: {"device_name": f"the {device}"})
    assert gpu.prepare() == "the first"
    assert calls == [["first"], ("first", True)]


# --- quality ---------------------------------------------------------------------------------------------------------


def test_clicks_follow_from_pairs_of_ids_and_from_no_id_alone():
    ids, labels = gpu_quality.clicks(20_000, 4)
    assert 0.3 < labels.mean() < 0.7
    pairs = [
        labels[(ids[:, 0] == one) & (ids[:, 1] == other)].mean() for one, other in itertools.product(range(4), repeat=2)
    ]
    assert np.std(pairs) > 0.05


# --- what is made of it ----------------------------------------------------------------------------------------------


def verdict_words(parts):
    return [found["verdict"] for found in gpu.verdicts(parts)]


def test_verdicts_take_the_fastest_of_each_precision():
    parts = {
        "wide MLP": part(float32=2.6, float32_xla=9.0, tf32=9.0, tf32_xla=1.7, bfloat16=1.5, bfloat16_xla=1.0),
        "embedding-bound": part(float32=1.0, tf32=0.8),
    }
    found = gpu.verdicts(parts)
    assert [one["found"] for one in found] == pytest.approx([1.7, 2.6, 0.5 / 0.8])
    assert [one["wanted"] for one in found] == [1.6, 2.5, 0.6]
    assert verdict_words(parts) == ["reached"] * 3


def test_verdicts_say_missed_undecided_and_not_measured():
    parts = {"wide MLP": part(float32=2.5, bfloat16=1.0), "embedding-bound": part(float32=1.0)}
    assert verdict_words(parts) == ["not measured", "reached", "missed"]
    wide = parts["wide MLP"]["variants"]
    wide["float32"]["milliseconds"] = list(np.linspace(2.3, 2.7, 9))
    wide["bfloat16"] = {"error": "out of memory"}
    assert verdict_words(parts) == ["not measured", "not measured", "missed"]
    wide["bfloat16"] = {**Variant("bfloat16")._asdict(), "milliseconds": [1.0] * 9}
    assert verdict_words(parts)[1] == "undecided"


def test_parts_run_in_order_are_written_each_and_are_not_measured_twice():
    parts, written = {"b": 1}, []
    left_out = gpu.study(parts, {name: lambda: 2 for name in "abc"}, lambda: written.append(dict(parts)), 60)
    assert left_out == []
    assert written == [{"b": 1, "a": 2}, {"b": 1, "a": 2, "c": 2}]


def test_no_part_is_begun_when_the_time_is_up():
    clock, parts = iter(range(0, 100, 10)), {}
    left_out = gpu.study(parts, dict.fromkeys("abcd", dict), lambda: None, 25, lambda: next(clock))
    assert list(parts) == ["a", "b"]
    assert left_out == ["c", "d"]


class Options:
    only = None
    minutes = 1.0


def started(path, monkeypatch, rounds=6, only=None):
    """The parts that a start measures, of three."""
    calls = []
    measures = {name: lambda name=name: calls.append(name) or {"variants": {}} for name in ("rates", "base", "cin")}
    monkeypatch.setattr(gpu, "measures_of", lambda plan, parts, rounds: measures)
    options = Options()
    options.only = only
    gpu.run(path, PLAN, rounds, "card", options)
    return calls


def test_started_again_it_goes_on_and_measures_anew_only_what_it_is_told_to(tmp_path, monkeypatch):
    path = tmp_path / "gpu.json"
    assert started(path, monkeypatch) == ["rates", "base", "cin"]
    assert started(path, monkeypatch) == []
    assert started(path, monkeypatch, only=["cin"]) == ["cin"]
    assert list(json.loads(path.read_text())["parts"]) == ["rates", "base", "cin"]


def test_results_of_other_settings_and_unknown_parts_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "gpu.json"
    started(path, monkeypatch)
    with pytest.raises(SystemExit, match=r"was measured with other settings\. Remove it, or give another --out"):
        started(path, monkeypatch, rounds=7)
    with pytest.raises(SystemExit, match="There is no part dcn; there are rates, base, cin"):
        started(path, monkeypatch, only=["dcn"])
