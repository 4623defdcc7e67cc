"""Time of a training step by the encoder of numbers, on W1: 26 categories and 13 numbers, batches of 4096.

usage: python benchmarks number_steps [--quick] [--rounds 9]

Steps of models whose numbers are x v, as ever, and of models that embed them take turns; a step is all of it: look-ups,
interaction, tower, gradients, row-wise Adam. The ratio is the encoder's time by the linear one's; above 1 it is slower.
Blocks of sums ("bi_interaction") never see fields side by side, others ("cross") do.
"""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from lib.reports import SEED, Options, Report, parse
from lib.timing import compare, summary, take_turns, versions
from lib.workloads import Workload, generate, workload

from nfm_tfrs.features.encoder import IDS, NUMBERS
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.number_encoders import LINEAR, NUMBER_ENCODERS
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdam

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
INTERACTIONS = ("bi_interaction", "cross")
QUICK_ROWS, QUICK_BATCH_SIZE = 1_000, 64
LIMITS = [NormalDist().inv_cdf(percent / 100) for percent in range(1, 100, 2)]  # as inference finds them


def step(shape: Workload, interaction: str, encoder: str, batch_size: int) -> Callable[[], Any]:
    """A call of a training step."""
    keras.utils.set_random_seed(SEED)
    categories = [CategoricalFeature(f"c{n}", vocabulary_size=s) for n, s in enumerate(shape.vocabulary_sizes)]
    numbers = [NumericFeature(f"n{n}", boundaries=LIMITS, encoder=LINEAR) for n in range(shape.numbers)]
    spec = FeatureSpec((*categories, *numbers))
    model = RankingModel(
        spec,
        embedding_dim=shape.embedding_dim,
        interaction=interaction,
        hidden_units=shape.hidden_units,
        number_encoder=encoder,
    )
    model.compile(LazyAdam(1e-3))
    model.optimizer.build(model.trainable_variables)
    rows = generate(shape, batch_size, SEED)
    ids = np.array([spec.offsets[feature.name] for feature in categories]) + 1 + rows.ids.astype(np.int64)
    batch = {IDS: tf.constant(ids), NUMBERS: tf.constant(rows.numbers)}, tf.constant(rows.labels)
    take = tf.function(model.take_step, reduce_retracing=True)
    return lambda: take(batch).numpy()


def measure(shape: Workload, rounds: int, batch_size: int, interactions: Sequence[str]) -> dict[str, Any]:
    """Milliseconds by encoder and how many times those of the linear one they are, by interaction."""
    found: dict[str, Any] = {}
    for interaction in interactions:
        times = take_turns([step(shape, interaction, encoder, batch_size) for encoder in NUMBER_ENCODERS], rounds)
        found[interaction] = {}
        for encoder, own in zip(NUMBER_ENCODERS, times.T, strict=True):
            ratio = compare(own, times[:, 0])
            found[interaction][encoder] = {**summary(own), "ratio": ratio}
            low, high = ratio["interval"]
            shown = f"{np.median(own):8.2f} ms  {ratio['median']:5.2f} [{low:.2f}, {high:.2f}]"
            print(f"  {interaction:15} {encoder:10} {shown}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes and returns."""
    options: Options = parse(__doc__, (), arguments)
    shape = workload("W1", QUICK_ROWS if options.quick else None)
    report = Report("number_steps", options)
    batch_size, interactions = (QUICK_BATCH_SIZE, INTERACTIONS[:1]) if options.quick else (None, INTERACTIONS)
    report.measured = {
        "versions": versions(PACKAGES),
        "steps": measure(shape, options.rounds, batch_size or shape.batch_size, interactions),
    }
    report.write()
    return report.measured


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")
    main()
