"""Time of a training step of NFM with four members in one network, against one and against one as wide.

usage: python benchmarks members [--quick] [--rounds 9]

Steps take turns; a step is all of it: look-ups, interaction, towers, gradients, row-wise Adagrad. "ml" is the package's
default NFM on columns as of MovieLens-small (user, movie, year, and a bag of genres), batches of 256; W1 and W2 have
their own sizes. "four" has four members; "wide" is one member whose table has as many columns.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lib.reports import SEED, Options, Report, parse
from lib.timing import compare, summary, take_turns, versions
from lib.workloads import generate, workload

from nfm_tfrs.features.encoder import IDS, NUMBERS
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.nfm import NFM

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
MEMBERS, DEFAULT_DIM = 4, 64
MOVIELENS = {"user": 610, "movie": 9_742, "year": 107}
GENRES, MOST_GENRES, BATCH_SIZE = 20, 5, 256
STEPS = 8  # a call, as an execution of `fit`
QUICK_ROWS, QUICK_BATCH_SIZE = 1_000, 32


def movielens(batch_size: int) -> tuple[FeatureSpec, Any, dict[str, Any]]:
    """Features, a batch, and the sizes of the model, on columns as of MovieLens-small; few values are most of them."""
    rng = np.random.default_rng(SEED)
    columns: dict[str, Any] = {
        name: tf.constant((size * rng.power(0.5, batch_size)).astype(np.int64)) for name, size in MOVIELENS.items()
    }
    lengths = rng.integers(1, MOST_GENRES, batch_size)
    columns["genres"] = tf.RaggedTensor.from_row_lengths(rng.integers(0, GENRES, lengths.sum()), lengths)
    features = [CategoricalFeature(name, vocabulary_size=size) for name, size in MOVIELENS.items()]
    spec = FeatureSpec((*features, MultiCategoricalFeature("genres", vocabulary_size=GENRES)))
    return spec, (columns, tf.constant(rng.integers(0, 2, batch_size), tf.float32)), {"embedding_dim": DEFAULT_DIM}


def made_up(name: str, rows: int | None, batch_size: int | None) -> tuple[FeatureSpec, Any, dict[str, Any]]:
    """Features, a batch, and the sizes of the model, of a workload."""
    shape = workload(name, rows)
    categories = [CategoricalFeature(f"c{n}", vocabulary_size=s) for n, s in enumerate(shape.vocabulary_sizes)]
    spec = FeatureSpec((*categories, *(NumericFeature(f"n{n}") for n in range(shape.numbers))))
    drawn = generate(shape, batch_size or shape.batch_size, SEED)
    ids = np.array([spec.offsets[feature.name] for feature in categories]) + 1 + drawn.ids.astype(np.int64)
    batch = {IDS: tf.constant(ids), NUMBERS: tf.constant(drawn.numbers)}, tf.constant(drawn.labels)
    return spec, batch, {"embedding_dim": shape.embedding_dim, "hidden_units": shape.hidden_units}


def steps(spec: FeatureSpec, batch: Any, arguments: dict[str, Any]) -> Callable[[], Any]:
    """A call of training steps."""
    keras.utils.set_random_seed(SEED)
    model = NFM(spec, **arguments)
    model.compile()
    model.optimizer.build(model.trainable_variables)
    columns = batch[0] if IDS in batch[0] else model.encoder(batch[0])
    take = tf.function(model.take_step, reduce_retracing=True)

    def call() -> None:
        for _ in range(STEPS):
            loss = take((columns, batch[1]))
        loss.numpy()

    return call


def measure(spec: FeatureSpec, batch: Any, arguments: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Milliseconds of a step by form, and how many times those of one member they are."""
    forms = {
        "one": arguments,
        "four": {**arguments, "members": MEMBERS},
        "wide": {**arguments, "embedding_dim": MEMBERS * arguments["embedding_dim"]},
    }
    times = take_turns([steps(spec, batch, form) for form in forms.values()], rounds) / STEPS
    found = {}
    for form, own in zip(forms, times.T, strict=True):
        ratio = compare(own, times[:, 0])
        found[form] = {**summary(own), "ratio": ratio}
        low, high = ratio["interval"]
        print(f"  {form:6} {np.median(own):8.2f} ms  {ratio['median']:5.2f} [{low:.2f}, {high:.2f}]", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes and returns."""
    options: Options = parse(__doc__, (), arguments)
    report = Report("members", options)
    rows, batch_size = (QUICK_ROWS, QUICK_BATCH_SIZE) if options.quick else (None, None)
    found = {}
    for name in ("ml", "W1", "W2"):
        print(name, flush=True)
        shape = movielens(batch_size or BATCH_SIZE) if name == "ml" else made_up(name, rows, batch_size)
        found[name] = measure(*shape, options.rounds)
    report.measured = {"versions": versions(PACKAGES), "steps": found}
    report.write()
    return report.measured


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")
    main()
