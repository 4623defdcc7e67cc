"""How far the parts that embed columns are from what other people's code makes of the same weights.

usage: python benchmarks parity [--quick]        (pip install --no-deps deepctr==0.9.4)

The largest absolute difference of each pair that the tests hold against each other, which are set up there: target
attention and DeepCTR's, ragged and padded; piecewise and periodic numbers and what rtdl-num-embeddings returned, which
is kept (benchmarks/peers/rtdl_references.py).
"""

import argparse
import importlib.util
import itertools
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from lib.places import BENCHMARKS
from lib.timing import machine, versions

from nfm_tfrs.keras_compat import tf

RESULTS = BENCHMARKS / "results" / "parity.json"
TESTS = BENCHMARKS.parent / "tests" / "embedding"
ACTIVATIONS, KINDS = ("dice", "sigmoid", "prelu"), ("piecewise", "periodic")
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")


def opened(path: Path) -> ModuleType:
    """The module of a file of tests."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def attention_differences() -> dict[str, float]:
    """Of each activation and kind of weights, both forms together."""
    tests, found = opened(TESTS / "test_deepctr_attention.py"), {}
    for activation, softmax in itertools.product(ACTIVATIONS, (False, True)):
        ours, theirs, targets, keys = tests.twins(activation, softmax)
        wanted = theirs([targets[:, None], keys, tests.LENGTHS[:, None]])[:, 0].numpy()
        ragged = ours(tf.RaggedTensor.from_tensor(keys, lengths=tests.LENGTHS), targets).numpy()
        there = tf.sequence_mask(tests.LENGTHS, tests.LENGTH)
        padded = ours.padded(tf.constant(keys), targets, there).numpy()
        name = f"attention, {activation}, {'softmax' if softmax else 'plain weights'}"
        found[name] = float(max(np.abs(ragged - wanted).max(), np.abs(padded - wanted).max()))
    return found


def number_differences() -> dict[str, float]:
    """Of each encoder, without and with its activation."""
    tests, found = opened(TESTS / "test_numbers.py"), {}
    for kind, activation in itertools.product(KINDS, (False, True)):
        ours, theirs = tests.fields_of_both(kind, activation)
        found[f"{kind}{', ReLU' if activation else ''}"] = float(np.abs(ours - theirs).max())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Compares, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="writes nothing")
    quick = parser.parse_args(arguments).quick
    pairs = {
        f"DeepCTR {version('deepctr')}": attention_differences(),
        "rtdl-num-embeddings 0.0.12": number_differences(),
    }
    for peer, found in pairs.items():
        for name, difference in found.items():
            print(f"{peer:28} {name:36} {difference:.1e}")
    results: dict[str, Any] = {"machine": machine(), "versions": versions(PACKAGES), "largest_difference": pairs}
    if not quick:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
