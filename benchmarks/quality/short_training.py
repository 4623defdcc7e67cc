"""Whether a short training evaluates as it trained: each registered model after 40, 80 and 160 steps, on its own rows.

usage: python benchmarks short_training [--quick] [--seeds 5] [--models NAME ...] [--tasks TASK ...]

Rows have two ids whose effects add up, and noise. A model is trained by its defaults with Adam(0.01), 512 rows a step,
ten steps an epoch. The error, RMSE or log loss, is that of the last epoch's steps and that of the same rows evaluated
behind it; below 1 their ratio is as it should be, for dropout is off and the weights are those after the epoch. Means
over the seeds whose ratio is above 1.1 are a fault; the largest ratio of a seed is shown too.
"""

import argparse
import json
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from lib.places import RESULTS

from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf
from tfrs_registry import get_model, list_models

FILE = RESULTS / "short_training.json"
ROWS, BATCH = 5120, 512
EPOCHS = (4, 8, 16)  # of ten steps
BOUND = 1.1
ERRORS = {"regression": "rmse", "binary": "log_loss"}
FEATURES = [CategoricalFeature("user", vocabulary_size=20), CategoricalFeature("film", vocabulary_size=10)]


def rows(task: str) -> tf.data.Dataset:
    """The batches: ratings around 3.5 with a standard deviation of 0.6, or whether these are 4 and more."""
    rng = np.random.default_rng(0)
    columns = {"user": rng.integers(0, 20, ROWS), "film": rng.integers(0, 10, ROWS)}
    ratings = 3.5 + (columns["user"] % 4) * 0.3 - (columns["film"] % 2) * 0.8 + rng.normal(0, 0.2, ROWS)
    labels = ratings if task == "regression" else ratings >= 4
    return tf.data.Dataset.from_tensor_slices((columns, labels.astype(np.float32))).batch(BATCH)


def errors(name: str, task: str, seeds: int, epochs: Sequence[int] = EPOCHS) -> np.ndarray:
    """The error in training and the one in evaluation after these numbers of epochs, `[seeds, epochs, 2]`."""
    keras.backend.clear_session()
    model, data = get_model(name, features=FEATURES, task=task), rows(task)
    labels = np.concatenate([labels for _, labels in data.as_numpy_iterator()])
    model.compile(keras.optimizers.Adam(0.01))
    model.optimizer.build(model.trainable_variables)
    first = [variable.numpy() for variable in model.optimizer.variables]
    found = []
    for seed in range(seeds):  # by one model, whose steps are traced once
        keras.utils.set_random_seed(seed)
        model.set_weights(get_model(name, features=FEATURES, task=task).get_weights())
        for variable, value in zip(model.optimizer.variables, first, strict=True):
            variable.assign(value)
        model.adapt_labels(labels)
        for before, after in zip((0, *epochs), epochs, strict=False):
            history = model.fit(data, initial_epoch=before, epochs=after, verbose=0).history
            report = model.evaluate(data, return_dict=True, verbose=0)
            found.append((history[ERRORS[task]][-1], report[ERRORS[task]]))
    return np.reshape(found, [seeds, len(epochs), 2])


def measured(name: str, task: str, seeds: int, epochs: Sequence[int]) -> dict[str, Any]:
    """Means over the seeds, and the largest ratio of a seed, by the number of steps."""
    runs = errors(name, task, seeds, epochs)
    ratios = runs[:, :, 1] / runs[:, :, 0]
    return {
        str(after * ROWS // BATCH): {
            "trained": float(runs[:, place, 0].mean()),
            "evaluated": float(runs[:, place, 1].mean()),
            "largest_ratio": float(ratios[:, place].max()),
        }
        for place, after in enumerate(epochs)
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 40 steps, nfm; writes nothing")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=None, help="all if not given")
    parser.add_argument("--tasks", nargs="*", choices=list(ERRORS), default=list(ERRORS))
    options = parser.parse_args(arguments)
    names = ["nfm"] if options.quick else (options.models or list_models())
    seeds, epochs = (1, EPOCHS[:1]) if options.quick else (options.seeds, EPOCHS)
    results = json.loads(FILE.read_text()) if FILE.exists() else {"models": {}}
    for name in names:
        for task in options.tasks:
            found = measured(name, task, seeds, epochs)
            results["models"].setdefault(name, {})[task] = found
            shown = "  ".join(
                f"{steps} steps {at['trained']:.3f} → {at['evaluated']:.3f} (≤ {at['largest_ratio']:.2f})"
                for steps, at in found.items()
            )
            fault = "" if all(at["evaluated"] <= BOUND * at["trained"] for at in found.values()) else "  FAULT"
            print(f"{name:10} {task:10} {ERRORS[task]:8} {shown}{fault}", flush=True)
            if not options.quick:
                _write(results, seeds)


def _write(results: dict[str, Any], seeds: int) -> None:
    packages = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")
    results |= {"seeds": seeds, "rows": ROWS, "batch_size": BATCH, "python": platform.python_version()}
    results["versions"] = {package: metadata.version(package) for package in packages}
    FILE.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
