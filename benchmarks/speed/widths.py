"""What bfloat16 gains a training step on this processor, by the widths of the hidden layers and the batch.

usage: python benchmarks widths [--quick] [--rounds 9]

W1's fields on a table of 100 thousand rows, the tower behind the interaction ("stacked") and beside it, on all
embeddings ("parallel"). Steps in float32 and in bfloat16 take turns; above 1 bfloat16 is faster. `dtype="auto"` follows
from it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lib.reports import SEED, Options, Report, parse
from lib.timing import compare, summary, take_turns, versions
from lib.workloads import Workload, generate, workload

from nfm_tfrs.features.encoder import IDS, NUMBERS
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdam

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
WIDTHS = ((64,), (128,), (128, 64), (256,), (256, 128), (400, 400, 400), (1024, 512))
BATCH_SIZES = (512, 4096)
ROWS, QUICK_ROWS = 100_000, 1_000


def step(
    shape: Workload, structure: Any, hidden_units: Sequence[int], batch_size: int, dtype: str
) -> Callable[[], Any]:
    """A call of a training step."""
    keras.utils.set_random_seed(SEED)
    categories = [CategoricalFeature(f"c{n}", vocabulary_size=s) for n, s in enumerate(shape.vocabulary_sizes)]
    spec = FeatureSpec((*categories, *(NumericFeature(f"n{n}") for n in range(shape.numbers))))
    model = RankingModel(
        spec, embedding_dim=16, hidden_units=hidden_units, structure=structure, numeric="concat", dtype=dtype
    )
    model.compile(LazyAdam(1e-3))
    model.optimizer.build(model.trainable_variables)
    rows = generate(shape, batch_size, SEED)
    ids = np.array([spec.offsets[feature.name] for feature in categories]) + 1 + rows.ids.astype(np.int64)
    batch = {IDS: tf.constant(ids), NUMBERS: tf.constant(rows.numbers)}, tf.constant(rows.labels)
    take = tf.function(model.take_step, reduce_retracing=True)
    return lambda: take(batch).numpy()


def measure(shape: Workload, rounds: int, widths: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Milliseconds in float32, and how many times as fast bfloat16 is, by structure, widths and batch."""
    found = []
    for structure in ("stacked", "parallel"):
        for hidden_units in widths:
            for batch_size in BATCH_SIZES:
                sides = [step(shape, structure, hidden_units, batch_size, d) for d in ("float32", "mixed_bfloat16")]
                times = take_turns(sides, rounds)
                ratio = compare(times[:, 0], times[:, 1])
                where = {"structure": structure, "hidden_units": list(hidden_units), "batch_size": batch_size}
                found.append({**where, "float32": summary(times[:, 0]), "bfloat16": ratio})
                low, high = ratio["interval"]
                print(
                    f"  {structure:8} {hidden_units!s:16} {batch_size:5} {ratio['median']:5.2f} [{low:.2f}, {high:.2f}]"
                )
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes and returns."""
    options: Options = parse(__doc__, (), arguments)
    shape = workload("W1", QUICK_ROWS if options.quick else ROWS)
    report = Report("widths", options)
    report.measured = {
        "versions": versions(PACKAGES),
        "steps": measure(shape, options.rounds, WIDTHS[:1] if options.quick else WIDTHS),
    }
    report.write()
    return report.measured


if __name__ == "__main__":
    main()
