"""Time and memory of a training step of every block of this package, beside DeepCTR's layer for the same.

usage: python benchmarks blocks [--quick] [--rounds 9] [--blocks NAME ...]

A step is the forward pass and the gradients by embeddings and weights, given the output's: one tf.function, float32,
no XLA, on the CPU with TensorFlow's own number of threads. Each side takes the input it is written for, made before.
Both sides take turns in one process. Memory is how far the peak of resident memory rises above what a process of its
own held before the block was built. Without DeepCTR (pip install --no-deps deepctr==0.9.4) ours are measured alone.
Linux only: reads /proc/self.
"""

import argparse
import contextlib
import importlib
import importlib.util
import inspect
import io
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from lib.places import BENCHMARKS, command_of
from lib.timing import LEAST_ROUNDS, Step, compare, machine, resident_megabytes, summary, take_turns, versions

import tfrs_registry
from nfm_tfrs.keras_compat import keras, tf

RESULTS = BENCHMARKS / "results" / "blocks.json"
SHAPES = ((39, 16), (10, 64))  # fields, dim
BATCH_SIZE, QUICK_BATCH_SIZE = 4096, 32
MEMORY_STEPS = 3
SEED = 0


class Peer(NamedTuple):
    """DeepCTR's layer: its name, its input, and how to make it of DeepCTR's interaction module and our fields."""

    name: str
    takes: Literal["stacked", "fields", "flat"]
    make: Callable[[Any, int], Any]


class Entry(NamedTuple):
    """What is measured: a registered block with arguments of its constructor, and DeepCTR's layer of the same size."""

    block: str
    arguments: dict[str, Any]
    peer: Peer | None = None


class SenetBilinear(keras.layers.Layer):
    """What DeepCTR's FiBiNET puts between the embeddings and its tower."""

    def __init__(self, deepctr: Any, kind: str, reduction_ratio: int) -> None:
        super().__init__()
        self._senet = deepctr.SENETLayer(reduction_ratio)
        self._reweighted, self._plain = deepctr.BilinearInteraction(kind), deepctr.BilinearInteraction(kind)
        self._concat, self._flatten = deepctr.concat_func, keras.layers.Flatten()

    def call(self, fields: list[tf.Tensor]) -> tf.Tensor:
        return self._flatten(self._concat([self._reweighted(self._senet(fields)), self._plain(fields)]))


class SplitBilinear(keras.layers.Layer):
    """DeepCTR's layer behind one tensor of all fields, which it takes apart within the step, as ours does."""

    def __init__(self, deepctr: Any, kind: str) -> None:
        super().__init__()
        self._bilinear = deepctr.BilinearInteraction(kind)

    def call(self, embeddings: tf.Tensor) -> tf.Tensor:
        return self._bilinear(tf.split(embeddings, embeddings.shape[1], axis=1))


def _bilinear(kind: str) -> dict[str, Entry]:
    """Entries of one kind, without and with SENET, and against a peer that takes the same tensor."""
    alone = Peer("BilinearInteraction", "fields", lambda deepctr, _: deepctr.BilinearInteraction(kind))
    both = Peer("SENETLayer, 2 BilinearInteraction", "fields", lambda deepctr, _: SenetBilinear(deepctr, kind, 3))
    same = Peer("BilinearInteraction, split", "stacked", lambda deepctr, _: SplitBilinear(deepctr, kind))
    return {
        f"bilinear ({kind})": Entry("bilinear", {"kind": kind, "senet": False}, alone),
        f"bilinear ({kind}), split": Entry("bilinear", {"kind": kind, "senet": False}, same),
        f"bilinear ({kind}, SENET)": Entry("bilinear", {"kind": kind, "senet": True, "reduction_ratio": 3}, both),
    }


def _cross(kind: str) -> Peer:
    return Peer(f"CrossNet ({kind})", "flat", lambda deepctr, _: deepctr.CrossNet(3, kind))


# A registered block that is not here is measured with its defaults, alone.
ENTRIES = {
    "bi_interaction": Entry(
        "bi_interaction", {}, Peer("BiInteractionPooling", "stacked", lambda deepctr, _: deepctr.BiInteractionPooling())
    ),
    "fm": Entry("fm", {}, Peer("FM", "stacked", lambda deepctr, _: deepctr.FM())),
    "attention_fm": Entry(
        "attention_fm", {"attention_units": 8}, Peer("AFMLayer", "fields", lambda deepctr, _: deepctr.AFMLayer(8))
    ),
    "field_weighted_fm": Entry(
        "field_weighted_fm",
        {},
        Peer("FwFMLayer", "stacked", lambda deepctr, fields: deepctr.FwFMLayer(fields, regularizer=0.0)),
    ),
    "cross (vector)": Entry("cross", {"num_layers": 3, "kind": "vector"}, _cross("vector")),
    "cross (matrix)": Entry("cross", {"num_layers": 3, "kind": "matrix"}, _cross("matrix")),
    "cross (mixture)": Entry(
        "cross",
        {"num_layers": 3, "kind": "mixture", "rank": 32, "num_experts": 4},
        Peer("CrossNetMix", "flat", lambda deepctr, _: deepctr.CrossNetMix(low_rank=32, num_experts=4, layer_num=3)),
    ),
    "inner_product": Entry(
        "inner_product", {}, Peer("InnerProductLayer", "fields", lambda deepctr, _: deepctr.InnerProductLayer())
    ),
    **_bilinear("all"),
    **_bilinear("each"),
    **_bilinear("interaction"),
    "cin": Entry(
        "cin",
        {"layer_sizes": (128, 128), "split_half": True},
        Peer("CIN", "stacked", lambda deepctr, _: deepctr.CIN((128, 128), "relu", True, l2_reg=0)),
    ),
    "self_attention": Entry(
        "self_attention",
        {"num_layers": 3, "num_heads": 2, "attention_dim": 8},
        Peer(
            "3 InteractingLayer",
            "stacked",
            lambda deepctr, _: keras.Sequential([deepctr.InteractingLayer(8, 2) for _ in range(3)]),
        ),
    ),
}


def own_blocks() -> list[str]:
    """The registered blocks of this distribution."""
    return [name for name in tfrs_registry.list_blocks() if tfrs_registry.blocks.provider(name).startswith("nfm-tfrs ")]


def entries_of(blocks: Sequence[str]) -> dict[str, Entry]:
    """All that is measured of these blocks."""
    alone = {name: Entry(name, {}) for name in blocks if name not in {entry.block for entry in ENTRIES.values()}}
    return {name: entry for name, entry in {**ENTRIES, **alone}.items() if entry.block in blocks}


def load_deepctr() -> Any:
    """DeepCTR's interaction layers, or None where it is not installed."""
    if importlib.util.find_spec("deepctr") is None:
        return None
    offline: Any = ModuleType("deepctr.utils")
    offline.check_version = lambda version: None  # its own asks PyPI for a newer one, in a thread
    sys.modules["deepctr.utils"] = offline
    tf.get_logger().setLevel("ERROR")  # Keras warns of its Lambda layers
    return importlib.import_module("deepctr.layers.interaction")


def normal(shape: Sequence[int], number: int) -> tf.Tensor:
    # The op alone: the scaling of tf.random's leaves free memory behind, which would hide what a step takes.
    return tf.raw_ops.StatelessRandomNormal(shape=shape, seed=[SEED, number])


def embeddings(fields: int, dim: int, batch_size: int, takes: str = "stacked") -> Any:
    """The same embeddings for every side, as it takes them."""
    stacked = normal([batch_size, fields, dim], 0)
    if takes == "fields":
        return tf.split(stacked, fields, axis=1)
    return tf.reshape(stacked, [batch_size, fields * dim]) if takes == "flat" else stacked


def our_block(entry: Entry) -> Any:
    return tfrs_registry.get_block(entry.block, **entry.arguments)


def peer_layer(peer: Peer, deepctr: Any, fields: int) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # CrossNet prints
        return peer.make(deepctr, fields)


def training_step(layer: Any, inputs: Any) -> Step:
    """Builds the layer; returns a call of its step, which gives the gradients by inputs and weights."""
    mode = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}
    few = layer(tf.nest.map_structure(lambda tensor: tensor[:2], inputs), **mode)
    batch_size = tf.nest.flatten(inputs)[0].shape[0]
    upstream = normal([batch_size, *few.shape[1:]], 1)

    @tf.function(autograph=False)
    def step(inputs: Any, upstream: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, **mode)
        return tape.gradient(outputs, [inputs, layer.trainable_variables], output_gradients=upstream)

    return lambda: step(inputs, upstream)


def measure(entry: Entry, deepctr: Any, fields: int, dim: int, batch_size: int, rounds: int) -> dict[str, Any]:
    """Times of an entry at one shape, its size, and the ratio to DeepCTR's layer if there is one."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    steps = [training_step(our_block(entry), embeddings(fields, dim, batch_size))]
    if entry.peer and deepctr:
        layer = peer_layer(entry.peer, deepctr, fields)
        steps.append(training_step(layer, embeddings(fields, dim, batch_size, entry.peer.takes)))
    times = take_turns(steps, rounds)
    cost = our_block(entry).cost(fields, dim)
    measured: dict[str, Any] = {"parameters": cost.parameters, "flops": cost.flops, "ours": summary(times[:, 0])}
    if len(steps) > 1:
        measured |= {"deepctr": summary(times[:, 1]), "ratio": compare(times[:, 0], times[:, 1])}
    return measured


def peak_megabytes(name: str, side: str, fields: int, dim: int) -> int:
    """What one side's steps add to the peak of a fresh process."""
    command = [*command_of("blocks"), "--peak", name, side, str(fields), str(dim)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.splitlines()[-1]}")
    return int(done.stdout)


def own_peak_megabytes(name: str, side: str, fields: int, dim: int) -> int:
    """What one side's steps add to the peak of this process: weights, graph, what the steps need and return."""
    entry = entries_of(own_blocks())[name]
    peer = entry.peer if side == "deepctr" else None
    deepctr = load_deepctr() if peer else None
    training_step(keras.layers.Dense(4), tf.zeros([8, 4]))()  # what any step takes
    keras.utils.set_random_seed(SEED)
    inputs = embeddings(fields, dim, BATCH_SIZE, peer.takes if peer else "stacked")
    # Not ru_maxrss: a child's starts with its parent's.
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = resident_megabytes("VmRSS")
    layer = peer_layer(peer, deepctr, fields) if peer else our_block(entry)
    step = training_step(layer, inputs)
    for _ in range(MEMORY_STEPS):
        step()
    return round(resident_megabytes("VmHWM") - before)


def line(name: str, fields: int, dim: int, measured: dict[str, Any]) -> str:
    """An entry at one shape, as it is printed."""
    sides = [measured[side] for side in ("ours", "deepctr") if side in measured]
    text = f"{name:29} {fields:2} x {dim:2}  " + " / ".join(f"{side['milliseconds']:8.2f}" for side in sides) + " ms"
    if "ratio" in measured:
        low, high = measured["ratio"]["interval"]
        text += f"  ratio {measured['ratio']['median']:.2f} [{low:.2f}, {high:.2f}] {measured['ratio']['verdict']}"
    peaks = [str(side["peak_megabytes"]) for side in sides if "peak_megabytes" in side]
    return text + (f"  peak {' / '.join(peaks)} MB" if peaks else "")


def settings(rounds: int, deepctr: Any) -> dict[str, Any]:
    """All but the entries that a result depends on."""
    packages = ["nfm-tfrs", "tensorflow", "tf-keras", "numpy"] + ["deepctr"] * (deepctr is not None)
    return {
        "batch_size": BATCH_SIZE,
        "rounds": rounds,
        "seed": SEED,
        "machine": machine(),
        "python": platform.python_version(),
        "versions": versions(packages),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny batch, two rounds, no memory; writes nothing")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--blocks", nargs="+", choices=own_blocks(), help="measured anew; the others stay as they are")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)  # this script's own: a side in a fresh process
    options = parser.parse_args()
    tf.config.set_visible_devices([], "GPU")
    if options.peak:
        name, side, fields, dim = options.peak
        print(own_peak_megabytes(name, side, int(fields), int(dim)))
        return
    if options.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds must be at least {LEAST_ROUNDS} for a 95 % interval; received {options.rounds}.")
    deepctr = load_deepctr()
    if deepctr is None:
        print("DeepCTR is not installed: only this package's blocks are measured.")
    results: dict[str, Any] = {**settings(options.rounds, deepctr), "entries": {}}
    if options.blocks and not options.quick and RESULTS.exists():
        known = json.loads(RESULTS.read_text())
        if {**known, "entries": {}} != results:
            parser.error(f"{RESULTS} was measured with other settings; run it without --blocks.")
        results = known
    batch_size, rounds = (QUICK_BATCH_SIZE, 2) if options.quick else (BATCH_SIZE, options.rounds)
    for name, entry in entries_of(options.blocks or own_blocks()).items():
        shapes: dict[str, Any] = {}
        for fields, dim in SHAPES:
            measured = measure(entry, deepctr, fields, dim, batch_size, rounds)
            if not options.quick:
                for side in measured.keys() & {"ours", "deepctr"}:
                    measured[side]["peak_megabytes"] = peak_megabytes(name, side, fields, dim)
            shapes[f"{fields} x {dim}"] = measured
            print(line(name, fields, dim, measured), flush=True)
        results["entries"][name] = {
            "block": entry.block,
            "arguments": entry.arguments,
            "deepctr": entry.peer.name if entry.peer else None,
            "shapes": shapes,
        }
        if not options.quick:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
