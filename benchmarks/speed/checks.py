"""What checking every batch, and the loss of every step, costs a training step of W1.

usage: python benchmarks checks [--quick] [--rounds 9]

Steps with and without the checks take turns in one process, on a batch of raw columns and on the same one encoded;
each round is a few dozen steps of a side, and each round's difference counts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
from lib.reports import SEED, Options, Report, parse
from lib.timing import median, summary, take_turns, versions
from lib.workloads import PEER_DEFINITION, Workload, generate, workload

from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models import task_model
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.optimizers import LazyAdam

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
QUICK_ROWS, QUICK_BATCH = 1000, 64


@contextmanager
def unchecked() -> Iterator[None]:
    """Traces steps as they were before there were checks."""

    @contextmanager
    def nothing(*_: Any) -> Iterator[None]:
        yield

    with (
        mock.patch.object(task_model, "checked", nothing),
        mock.patch.object(task_model, "moved_forward", return_value=[]),
        mock.patch.object(task_model, "finite_step", lambda loss, gradients, *_, **__: nullcontext(gradients)),
    ):
        yield


def measure(shape: Workload, batch_size: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a step by form of the batch, with and without the checks, and what they add."""
    keras.utils.set_random_seed(SEED)
    categories = [CategoricalFeature(f"c{n}", vocabulary_size=size) for n, size in enumerate(shape.vocabulary_sizes)]
    numbers = [NumericFeature(f"n{n}", std=2.0) for n in range(shape.numbers)]
    model = NFM(
        [*categories, *numbers],
        embedding_dim=shape.embedding_dim,
        hidden_units=shape.hidden_units,
        **PEER_DEFINITION,
    )
    model.compile(LazyAdam(1e-3))
    model.optimizer.build(model.trainable_variables)
    rows = generate(shape, batch_size, SEED)
    raw = {feature.name: tf.constant(rows.ids[:, n].astype(np.int64)) for n, feature in enumerate(categories)}
    raw |= {feature.name: tf.constant(rows.numbers[:, n]) for n, feature in enumerate(numbers)}
    found = {}
    for form, columns in {"raw": raw, "encoded": model.encoder(raw)}.items():
        checked = _step(model, columns, rows.labels)
        with unchecked():
            before = _step(model, columns, rows.labels)
        times = take_turns([checked, before], rounds)
        found[form] = {
            "checked": summary(times[:, 0]),
            "unchecked": summary(times[:, 1]),
            "added": median(times[:, 0] - times[:, 1]),
        }
        low, high = found[form]["added"]["interval"]
        print(
            f"  {form:8} {found[form]['unchecked']['milliseconds']:.2f} ms, checks add "
            f"{found[form]['added']['median']:.3f} ms [{low:.3f}, {high:.3f}]",
            flush=True,
        )
    return found


def _step(model: Any, columns: Any, labels: np.ndarray) -> Any:
    """A step that is traced, with or without checks, as they are now."""
    # Of batches of any size, as those of a dataset are.
    data = tf.data.Dataset.from_tensors((columns, labels))
    data = data.concatenate(data.map(lambda *parts: tf.nest.map_structure(lambda part: part[:-1], parts)))
    step = tf.function(model.train_step, input_signature=[data.element_spec])
    batch = next(iter(data))
    step.get_concrete_function()
    return lambda: step(batch)["loss"].numpy()


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes and returns."""
    options: Options = parse(__doc__, (), arguments)
    shape = workload("W1", QUICK_ROWS if options.quick else None)
    report = Report("checks", options)
    report.measured = {
        "versions": versions(PACKAGES),
        "forms": measure(shape, QUICK_BATCH if options.quick else shape.batch_size, options.rounds),
    }
    report.write()
    return report.measured


if __name__ == "__main__":
    main()
