"""Time of training on bags, W5: as compressed sparse rows, as this package takes them, against padding.

usage: python benchmarks sequences [--quick] [--rounds 9] [--peers NAME ...]

"pooling" is the mean of each bag, its gradient and one Adagrad update of the table, in one process: by this package,
by plain TensorFlow and Keras on ids padded to the longest possible bag ("padded"), and by the same with this package's
optimizer ("padded, row-wise"). "attention" is the same of DIN's attention to a target, with Dice behind its layers, and
the update of all its weights: by this package and, padded, by Keras' own layers, with one optimizer. "nfm" is the whole
training step of an NFM with five more fields, against DeepCTR's, which pads.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from lib.reports import Options, Pair, Report, comparison, parse, sides_of
from lib.runners import Process, Side, Start, ask_in_turn, fleet, median_call
from lib.timing import Step, summary, take_turns, times_as_fast, versions
from lib.workloads import BAG_VOCABULARY, MOST_IN_BAG, Bags, generate_bags, workload

from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.attention import Attention
from nfm_tfrs.features.encoder import IDS, NUMBERS, bag_key
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.optimizers import LazyAdagrad

SEED = 0
POOL = 16
PEERS = ("deepctr",)
OWN, DEEPCTR = Side("own", "adam"), Side("deepctr", "adam", file="deepctr_bags")
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")
QUICK_BATCH_SIZE, QUICK_ROWS = 32, 100


class Way(NamedTuple):
    """How bags are pooled: the weights, the pooling to `[batch, dim]`, the batches it takes, and their type."""

    weights: list[Any]
    pool: Callable[[Any], tf.Tensor]
    convert: Callable[[Bags], Any]
    signature: Any


def by_rows(dim: int, batch_size: int) -> Way:
    """This package's way: bags as compressed sparse rows."""
    del batch_size
    spec = FeatureSpec((MultiCategoricalFeature("bag", vocabulary_size=BAG_VOCABULARY),))
    layer = FusedEmbedding(spec, dim, linear=False)

    def pool(bag: tf.RaggedTensor) -> tf.Tensor:
        batch = bag.nrows()
        beside = {IDS: tf.zeros([batch, 0], tf.int64), NUMBERS: tf.zeros([batch, 0])}
        # distinct: as a model calls it in training.
        return tf.squeeze(layer({**beside, bag_key("bag"): bag}, distinct=True).embeddings, axis=1)

    def convert(bags: Bags) -> tf.RaggedTensor:
        ids = tf.constant(spec.offsets["bag"] + 1 + bags.values, tf.int64)
        return tf.RaggedTensor.from_row_splits(ids, bags.row_splits)

    pool(convert(generate_bags(1, SEED)))  # builds the table
    return Way([layer.table], pool, convert, tf.RaggedTensorSpec([None, None], tf.int64))


def by_padding(dim: int, batch_size: int) -> Way:
    """The way of plain TensorFlow: ids padded to `[batch, MOST_IN_BAG]`."""
    table = tf.Variable(tf.random.stateless_normal([BAG_VOCABULARY + 1, dim], [SEED, 0]) * 0.01)

    def pool(ids: tf.Tensor) -> tf.Tensor:
        filled = tf.cast(ids > 0, tf.float32)  # [batch, MOST_IN_BAG]
        rows = tf.gather(table, ids) * filled[:, :, None]
        return tf.math.divide_no_nan(tf.reduce_sum(rows, axis=1), tf.reduce_sum(filled, axis=1, keepdims=True))

    def convert(bags: Bags) -> tf.Tensor:
        return tf.constant(bags.padded(), tf.int64)

    return Way([table], pool, convert, tf.TensorSpec([batch_size, MOST_IN_BAG], tf.int64))


def attended_by_rows(dim: int, batch_size: int) -> Way:
    """This package's attention: its network runs on the values alone."""
    rows = {"vocabulary_size": BAG_VOCABULARY, "embedding_name": "item"}
    spec = FeatureSpec(
        (
            CategoricalFeature("item", **rows),
            MultiCategoricalFeature("bag", **rows, combiner="attention", target="item"),
        )
    )
    layer = FusedEmbedding(spec, dim, linear=False)

    def pool(batch: tuple[tf.RaggedTensor, tf.Tensor]) -> tf.Tensor:
        bag, items = batch
        encoded = {IDS: items[:, None], NUMBERS: tf.zeros([bag.nrows(), 0]), bag_key("bag"): bag}
        return layer(encoded, distinct=True, training=True).embeddings[:, 1]

    def convert(bags: Bags) -> tuple[tf.RaggedTensor, tf.Tensor]:
        ids = tf.constant(1 + bags.values, tf.int64)
        return tf.RaggedTensor.from_row_splits(ids, bags.row_splits), tf.constant(1 + _items(bags), tf.int64)

    pool(convert(generate_bags(1, SEED)))  # makes the weights
    signature = (tf.RaggedTensorSpec([batch_size, None], tf.int64), tf.TensorSpec([batch_size], tf.int64))
    return Way(layer.trainable_weights, pool, convert, signature)


class PlainDice(keras.layers.Layer):
    """DIN's activation of Keras' own parts."""

    def build(self, input_shape: Any) -> None:
        self.norm = keras.layers.BatchNormalization(center=False, scale=False, epsilon=1e-9)
        self.alpha = self.add_weight("alpha", [input_shape[-1]], initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        share = tf.sigmoid(self.norm(inputs, training=True))
        return self.alpha * (1.0 - share) * inputs + share * inputs


def attended_by_padding(dim: int, batch_size: int) -> Way:
    """Attention as it is mostly written: its network runs on `[batch, MOST_IN_BAG, 4 dim]`, padding included."""
    table = tf.Variable(tf.random.stateless_normal([BAG_VOCABULARY + 1, dim], [SEED, 0]) * 0.01)
    units = Attention().units
    network = keras.Sequential([layer for n in units for layer in (keras.layers.Dense(n), PlainDice())])
    network.add(keras.layers.Dense(1))

    def pool(batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        ids, items = batch
        seen = tf.gather(table, ids)  # [batch, MOST_IN_BAG, dim]
        target = tf.repeat(tf.gather(table, items)[:, None, :], MOST_IN_BAG, axis=1)
        scores = network(tf.concat([seen, target, seen - target, seen * target], axis=2))
        return tf.squeeze(tf.matmul(tf.where((ids > 0)[:, :, None], scores, 0.0), seen, transpose_a=True), axis=1)

    def convert(bags: Bags) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.constant(bags.padded(), tf.int64), tf.constant(1 + _items(bags), tf.int64)

    pool(convert(generate_bags(1, SEED)))  # makes the weights
    signature = (
        tf.TensorSpec([batch_size, MOST_IN_BAG], tf.int64),
        tf.TensorSpec([batch_size], tf.int64),
    )
    return Way([table, *network.trainable_weights], pool, convert, signature)


def _items(bags: Bags) -> np.ndarray:
    """A target for each bag: the first value of the bag before it."""
    return np.roll(bags.values[bags.row_splits[:-1]], 1)


def training_step(way: Way, optimizer: Any, dim: int, batch_size: int) -> Step:
    """A call of a step: pools the next batch of bags and moves the table along a made-up gradient."""
    optimizer.build(way.weights)
    upstream = tf.random.stateless_normal([batch_size, dim], [SEED, 1])
    batches = itertools.cycle([way.convert(generate_bags(batch_size, SEED + number)) for number in range(POOL)])

    @tf.function(autograph=False, input_signature=[way.signature])
    def step(bags: Any) -> tf.Tensor:
        with tf.GradientTape() as tape:
            objective = tf.reduce_sum(way.pool(bags) * upstream)
        optimizer.apply_gradients(zip(tape.gradient(objective, way.weights), way.weights, strict=True))
        return objective

    return lambda: step(next(batches)).numpy()


POOLING = {
    "own": (by_rows, LazyAdagrad),
    "padded": (by_padding, keras.optimizers.Adagrad),
    "padded, row-wise": (by_padding, LazyAdagrad),
}
ATTENTION = {"own": (attended_by_rows, LazyAdagrad), "padded, row-wise": (attended_by_padding, LazyAdagrad)}


def compared(what: str, sides: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Times of some ways in turn, and how many times as fast ours is."""
    shape = workload("W5")
    keras.utils.set_random_seed(SEED)
    dim, batch_size = shape.embedding_dim, QUICK_BATCH_SIZE if options.quick else shape.batch_size
    steps = [training_step(way(dim, batch_size), kind(0.01), dim, batch_size) for way, kind in sides.values()]
    times = dict(zip(sides, take_turns(steps, options.rounds).T, strict=True))
    found: dict[str, Any] = {"sides": {name: summary(values) for name, values in times.items()}, "ratios": {}}
    print(f"{what}: milliseconds of a training step", flush=True)
    for name, values in times.items():
        print(f"  {name:32} {np.median(values):10.2f} ms", flush=True)
    for name in list(sides)[1:]:
        ratio = found["ratios"][name] = times_as_fast(times["own"], times[name])
        low, high = ratio["interval"]
        print(f"  own : {name:54} {ratio['median']:.2f}x as fast [{low:.2f}, {high:.2f}]", flush=True)
    return found


def nfm(report: Report, options: Options, start: Start) -> dict[str, Any]:
    """Times of the whole training step of both sides."""
    chosen = [Pair(OWN, DEEPCTR)] if "deepctr" in options.peers else []
    print("W5: milliseconds of a training step", flush=True)
    with fleet(sides_of([OWN], chosen), "W5", QUICK_ROWS if options.quick else None, start=start) as running:
        report.ran(running)
        return comparison(ask_in_turn(running, median_call("step"), options.rounds), chosen)


def main(arguments: Sequence[str] | None = None, start: Start = Process) -> None:
    """Measures, prints and writes."""
    options = parse(__doc__, PEERS, arguments)
    report = Report("sequences", options)
    for what, sides in (("pooling", POOLING), ("attention", ATTENTION)):
        report.measured[what] = {"versions": versions(PACKAGES), **compared(what, sides, options)}
    report.measured["nfm"] = nfm(report, options, start)
    report.write()


if __name__ == "__main__":
    main()
