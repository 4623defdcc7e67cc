"""Every registered model exported and answered by other runtimes: older TensorFlow, onnxruntime, onnxruntime-node.

usage: python benchmarks exports [--quick] [--tensorflow 2.16.2 2.18.1 2.20.0] [--node]

Each model is exported as a SavedModel and as an ONNX file; the same rows are scored by each runtime in a process that
knows nothing of this package, and its logits are held against the model's, of max(1, |logit|). Each TensorFlow has an
environment of its own, made in a temporary folder; onnxruntime-node is installed by npm without its scripts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.places import BENCHMARKS, RESULTS
from lib.timing import machine, versions

from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.serving import encode, export
from nfm_tfrs.serving.drawn import drawn_rows
from nfm_tfrs.serving.parity import outputs_of
from nfm_tfrs.serving.runtime import opened
from tfrs_registry import get_model, list_models

TENSORFLOWS = ("2.16.2", "2.18.1", "2.20.0")
QUICK_MODELS = ("nfm", "dcnv2")
ROWS, SEED = 1000, 3
BOUND = 1e-5
# Logarithms and exponentials of embeddings: a few moves of its weights by their last bits are as much.
BOUNDS = {"afn": 1e-4}
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "onnx", "onnxruntime", "tf2onnx", "numpy")
ANSWERS = {form: BENCHMARKS / "lib" / f"answer.{ending}" for form, ending in (("savedmodel", "py"), ("onnx", "mjs"))}
FILMS = tuple(range(0, 300, 3))
FEATURES = [
    CategoricalFeature("in", vocabulary=["Rome", "Oslo", "Bern"]),
    CategoricalFeature("movie id", vocabulary=FILMS, embedding_name="films"),
    CategoricalFeature("zone", vocabulary_size=70),
    CategoricalFeature("C1-hash", num_hash_buckets=300, dtype="string"),
    NumericFeature("price", log=True, mean=3.5, std=1.2),
    NumericFeature("dist"),
    NumericFeature("age", boundaries=(18.0, 30.0, 50.0)),
    MultiCategoricalFeature("tags", vocabulary=[f"w{n}" for n in range(500)], combiner="mean"),
    MultiCategoricalFeature(
        "hist", vocabulary=FILMS, embedding_name="films", combiner="sqrtn", weights="w", max_length=4
    ),
    MultiCategoricalFeature("best", vocabulary_size=50, combiner="max"),
    MultiCategoricalFeature("last", vocabulary_size=50, combiner=None, max_length=3),
]


def made(name: str) -> Any:
    """A model whose weights are not those it began with."""
    keras.utils.set_random_seed(SEED)
    model = get_model(name, features=FEATURES, embedding_stddev=0.3)
    for number, variable in enumerate(model.trainable_variables):
        variable.assign_add(tf.random.stateless_normal(variable.shape, [SEED, number], 0.0, 0.05))
    return model


def written(names: Sequence[str], folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Exports each model in both forms, with the rows that it is asked and what it says of them."""
    for name in names:
        model = made(name)
        rows = drawn_rows(model.features, ROWS, seed=SEED)
        rows = rows.take([n for n in range(ROWS) if n != 1])  # not the huge number, whose square cancels
        expected = outputs_of(model, rows)
        found: dict[str, Any] = {}
        for form in ANSWERS:
            place = folder / form / name
            start = time.perf_counter()
            result = export(model, place, format=form)  # type: ignore[arg-type]
            seconds = time.perf_counter() - start
            found[form] = {"parity": result.parity.largest, "bytes": result.bytes, "seconds": seconds}
            arrays = encode(place, rows)
            types = {one.name: one.dtype for one in result.signature.inputs}
            if form == "onnx":
                answer = opened(place, result.signature).run("serving_default", arrays)["logit"]
                found["difference"] = float(np.max(np.abs(answer - expected) / np.maximum(1.0, np.abs(expected))))
            asked = {
                key: {
                    "dtype": types[key],
                    "shape": values.shape,
                    "values": list(map(_plain, values.reshape(-1).tolist())),
                }
                for key, values in arrays.items()
            }
            (place / "asked.json").write_text(json.dumps({"rows": asked, "logits": expected.tolist()}))
        yield name, found


def _plain(value: Any) -> Any:
    """Integers as text, which JavaScript reads whole, and NaN as null."""
    return str(value) if isinstance(value, int) else None if value != value else value


def answered(command: Sequence[str], folder: Path) -> dict[str, float]:
    """The largest difference of each model in a folder, as a program says it."""
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Exports, asks, prints, writes and returns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two models, this TensorFlow alone; writes nothing")
    parser.add_argument("--tensorflow", nargs="*", help=f"versions of it; {', '.join(TENSORFLOWS)} if not given")
    parser.add_argument("--node", action="store_true", help="ask onnxruntime-node, which npm installs")
    options = parser.parse_args(arguments)
    others = () if options.quick else TENSORFLOWS if options.tensorflow is None else options.tensorflow
    runtimes: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        exports = dict(written(QUICK_MODELS if options.quick else list_models(), folder / "exports"))
        saved, onnx = (folder / "exports" / form for form in ANSWERS)
        runtimes[f"tensorflow {versions(['tensorflow'])['tensorflow']}"] = answered(
            [sys.executable, str(ANSWERS["savedmodel"])], saved
        )
        for version in others:
            python = folder / version / "bin" / "python"
            subprocess.run([sys.executable, "-m", "venv", str(folder / version)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "-q", f"tensorflow=={version}"], check=True)
            runtimes[f"tensorflow {version}"] = answered([str(python), str(ANSWERS["savedmodel"])], saved)
        runtimes[f"onnxruntime {versions(['onnxruntime'])['onnxruntime']}"] = {
            name: found.pop("difference") for name, found in exports.items()
        }
        if options.node:
            program = folder / "node"
            program.mkdir()
            install = ["npm", "install", "--silent", "--ignore-scripts", "onnxruntime-node"]
            subprocess.run(install, cwd=program, check=True)
            (program / ANSWERS["onnx"].name).write_text(ANSWERS["onnx"].read_text())
            of_node = json.loads((program / "node_modules" / "onnxruntime-node" / "package.json").read_text())[
                "version"
            ]
            runtimes[f"onnxruntime-node {of_node}"] = answered(["node", str(program / ANSWERS["onnx"].name)], onnx)
    for runtime, found in runtimes.items():
        print(f"{runtime:24} {len(found)} models, largest difference {max(found.values()):.1e}", flush=True)
    results = {"machine": machine(), "versions": versions(PACKAGES), "exports": exports, "differences": runtimes}
    if not options.quick:
        (RESULTS / "exports.json").write_text(json.dumps(results, indent=1) + "\n")
    answers = [(name, value) for found in runtimes.values() for name, value in found.items()]
    if not all(np.isfinite(value) and value <= BOUNDS.get(name, BOUND) for name, value in answers):
        raise SystemExit("A runtime does not answer as the models do.")
    return results


if __name__ == "__main__":
    main()
