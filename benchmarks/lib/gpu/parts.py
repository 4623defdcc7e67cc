"""What benchmarks/gpu.py measures with: batches on the device, models that train on them, rates, speed."""

import dataclasses
import gc
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lib.gpu.plan import PRECISIONS, SLOTS, Configuration, Plan, Variant
from lib.timing import median, take_turns
from lib.workloads import PEER_DEFINITION, generate, workload
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.blocks.cin import CIN
from nfm_tfrs.blocks.cross import Cross
from nfm_tfrs.blocks.self_attention import SelfAttention
from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.encoder import IDS, FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdam

SEED = 0
FLOAT_BYTES = 4
BLOCKS = {"bi_interaction": BiInteraction, "cross": Cross, "self_attention": SelfAttention, "cin": CIN}
OPTIMIZERS = {"LazyAdam": LazyAdam, "Keras Adagrad": keras.optimizers.Adagrad}


class Data:
    """Batches of W1's shape, encoded, on the device.

    Args:
        plan: The plan, for its rows of vocabulary and its number of batches.
        largest: The largest batch that will be asked for.
    """

    def __init__(self, plan: Plan, largest: int) -> None:
        shape = workload("W1", plan.vocabulary_rows)
        categories = [CategoricalFeature(f"c{n}", vocabulary_size=s) for n, s in enumerate(shape.vocabulary_sizes)]
        self.spec = FeatureSpec((*categories, *(NumericFeature(f"n{n}") for n in range(shape.numbers))))
        self._encoder = FeatureEncoder(self.spec)
        self._rows, self._pool = generate(shape, plan.pool * largest, SEED), plan.pool
        self._batches: tuple[int, list[Any]] = (0, [])

    def batches(self, size: int) -> list[Any]:
        """(what the encoder returns, labels float32 `[size]`), once for each batch of the pool."""
        if self._batches[0] != size:
            self._batches = (size, [self._batch(slice(n * size, (n + 1) * size)) for n in range(self._pool)])
        return self._batches[1]

    def _batch(self, rows: slice) -> Any:
        ids, numbers, labels = (column[rows] for column in self._rows)
        columns = {f"c{n}": field for n, field in enumerate(ids.T)}
        return self._encoder(columns | {f"n{n}": field for n, field in enumerate(numbers.T)}), tf.constant(labels)


class Trainer:
    """A model that trains on encoded batches.

    Args:
        configuration: The model.
        variant: How the model computes.
        spec: Features of the model.
        seed: Seed of the model's weights.
    """

    def __init__(self, configuration: Configuration, variant: Variant, spec: FeatureSpec, seed: int = SEED) -> None:
        dtype, self._tf32 = PRECISIONS[variant.precision]
        self._let_tf32()
        keras.utils.set_random_seed(seed)
        self._block = BLOCKS[configuration.block](dtype=dtype)
        definition = {**PEER_DEFINITION, "numeric": configuration.numeric}
        self._model = RankingModel(
            spec,
            embedding_dim=configuration.embedding_dim,
            interaction=self._block,
            structure=configuration.structure,
            hidden_units=configuration.hidden_units,
            dtype=dtype,
            **definition,
        )
        optimizer = OPTIMIZERS[configuration.optimizer](configuration.learning_rate)
        self._model.compile(optimizer, jit_compile=variant.xla)
        self._model.optimizer.build(self._model.trainable_variables)  # else the first step is traced twice
        self._step = tf.function(self._model.train_step, autograph=False)

    def train(self, batches: Sequence[Any]) -> None:
        """Takes a step on each batch; returns when the device is done."""
        self._let_tf32()
        for batch in batches:
            report = self._step(batch)
        report["loss"].numpy()

    def scores(self, encoded: Mapping[str, tf.Tensor]) -> np.ndarray:
        """The logits, `[batch]`."""
        self._let_tf32()
        scores: np.ndarray = self._model(encoded, training=False).numpy()[:, 0]
        return scores

    def flops(self, batch_size: int) -> int:
        """FLOPs of a step: three times the forward pass of the dense layers and the block."""
        table = self._model.embedding
        others = {id(weight) for weight in (table.table, *self._block.weights)}
        kernels = [w for w in self._model.trainable_weights if id(w) not in others and w.shape.rank == 2]
        layers = 2 * sum(int(np.prod(kernel.shape)) for kernel in kernels)
        return 3 * batch_size * (layers + self._block.cost(table.num_fields, table.embedding_dim).flops)

    def _let_tf32(self) -> None:
        tf.config.experimental.enable_tensor_float_32_execution(self._tf32)  # of the process: before each use


# --- the least time --------------------------------------------------------------------------------------------------


def rates(plan: Plan) -> dict[str, Any]:
    """Bytes a second of this card, and its FLOPs a second by precision."""
    source, one = tf.ones([int(plan.copied_megabytes * 1e6 / FLOAT_BYTES)]), tf.constant(1.0)
    moved, size = 2 * FLOAT_BYTES * int(source.shape[0]), plan.matrix_size
    bandwidth = moved / best(lambda: source + one, plan.rate_seconds)
    print(f"  {bandwidth / 1e9:,.0f} GB/s", flush=True)
    flops = {}
    for precision, (dtype, tf32) in PRECISIONS.items():
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
        matrix = tf.cast(tf.random.stateless_normal([size, size], [SEED, 0]), dtype.removeprefix("mixed_"))
        flops[precision] = 2 * size**3 / best(partial(tf.matmul, matrix, matrix), plan.rate_seconds)
        print(f"  {precision:14} {flops[precision] / 1e12:,.1f} TFLOP/s", flush=True)
    return {"bytes_per_second": bandwidth, "flops_per_second": flops}


def best(operation: Callable[[], tf.Tensor], seconds: float, calls: int = 10) -> float:
    """Seconds of an operation, of the fastest of the series of calls that this time allows."""
    _series(operation, calls)  # compiles
    fastest, end = _series(operation, calls), time.perf_counter() + seconds
    while time.perf_counter() < end:
        fastest = min(fastest, _series(operation, calls))
    return fastest / calls


def _series(operation: Callable[[], tf.Tensor], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        result = operation()
    tf.reshape(result, [-1])[0].numpy()  # waits for the device
    return time.perf_counter() - start


def bytes_moved(configuration: Configuration, fields: int, distinct: float) -> int:
    """Bytes that the embeddings of a step move."""
    row = (configuration.embedding_dim + 1) * FLOAT_BYTES
    looked_up = configuration.batch_size * fields
    return round(2 * looked_up * row + 2 * (1 + SLOTS[configuration.optimizer]) * distinct * row)


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(
    configuration: Configuration, data: Data, of_card: Mapping[str, Any], rounds: int, train: Any = Trainer
) -> dict[str, Any]:
    """Samples a second, memory and share of the least time of each variant; of one that fails, why."""
    batches = data.batches(configuration.batch_size)
    distinct = float(np.mean([tf.size(tf.unique(tf.reshape(encoded[IDS], [-1])).y) for encoded, _ in batches]))
    moved = bytes_moved(configuration, len(data.spec.single), distinct)
    trainers: dict[Variant, Any] = {}
    variants: dict[str, dict[str, Any]] = {}
    for variant in configuration.variants:
        gc.collect()
        before = _bytes_in_use("current")
        try:
            trainer = train(configuration, variant, data.spec)
            trainer.train(batches)  # compiles, the first kernels from PTX
            peak = _peak(partial(trainer.train, batches))
        except tf.errors.OpError as error:
            variants[variant.name] = _failure(error)
            continue
        trainers[variant] = trainer
        variants[variant.name] = {"peak_bytes": peak - before if peak else None}
    try:
        steps = [partial(trainer.train, batches) for trainer in trainers.values()]
        times = take_turns(steps, rounds) / len(batches)
    except tf.errors.OpError as error:
        variants |= {variant.name: _failure(error) for variant in trainers}
        trainers = {}
    for at, (variant, trainer) in enumerate(trainers.items()):
        flops = trainer.flops(configuration.batch_size)
        of_bytes = moved / of_card["bytes_per_second"] * 1e3
        of_flops = flops / of_card["flops_per_second"][variant.precision] * 1e3
        variants[variant.name] |= {
            **variant._asdict(),
            "samples_per_second": median(configuration.batch_size / times[:, at] * 1e3),
            "milliseconds": times[:, at].tolist(),
            "flops": flops,
            "least_milliseconds": {"bytes": of_bytes, "flops": of_flops},
            "share": median((of_bytes + of_flops) / times[:, at]),
            "bandwidth_share": median(of_bytes / times[:, at]),
        }
    keras.backend.clear_session()
    for name, found in variants.items():
        print(f"  {_line(name, found)}", flush=True)
    return {
        "configuration": dataclasses.asdict(configuration),
        "distinct_rows": distinct,
        "bytes": moved,
        "variants": variants,
    }


def _bytes_in_use(kind: str) -> int:
    """Bytes in use on the GPU, "current" or "peak"; 0 without one."""
    return tf.config.experimental.get_memory_info("GPU:0")[kind] if tf.config.get_visible_devices("GPU") else 0


def _peak(call: Callable[[], Any]) -> int:
    if tf.config.get_visible_devices("GPU"):
        tf.config.experimental.reset_memory_stats("GPU:0")
    call()
    return _bytes_in_use("peak")


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return {"error": "out of memory"}
    return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}


def _line(name: str, found: Mapping[str, Any]) -> str:
    if "error" in found:
        return f"{name:14} {found['error']}"
    samples, (low, high) = found["samples_per_second"]["median"], found["samples_per_second"]["interval"]
    memory = f", peak {found['peak_bytes'] / 1e6:,.0f} MB" if found["peak_bytes"] else ""
    return (
        f"{name:14} {np.median(found['milliseconds']):8.3f} ms, {samples / 1e6:7.3f} M samples/s "
        f"[{low / 1e6:.3f}, {high / 1e6:.3f}], roofline {found['share']['median']:.0%} "
        f"(by bytes {found['bandwidth_share']['median']:.0%}){memory}"
    )


def look_ups(configuration: Configuration, data: Data, rounds: int) -> dict[str, Any]:
    """Milliseconds of each way to read the rows of a batch, with the gradient of the table."""
    layer = FusedEmbedding(data.spec, configuration.embedding_dim, numbers=False)
    batches = data.batches(configuration.batch_size)

    @tf.function(autograph=False)
    def look_up(encoded: Any, distinct: bool, sums: bool) -> Any:
        with tf.GradientTape() as tape:
            parts = [part for part in layer(encoded, distinct=distinct, sums=sums) if part is not None]
        return tape.gradient(parts, layer.table).values, parts

    def run(distinct: bool, sums: bool) -> None:
        for encoded, _ in batches:
            values, _ = look_up(encoded, distinct, sums)
        values[0, 0].numpy()  # waits for the device

    ways = list(itertools.product((False, True), repeat=2))
    times = take_turns([partial(run, *way) for way in ways], rounds) / len(batches)
    found = {f"distinct={ways[at][0]}, sums={ways[at][1]}": median(times[:, at]) for at in range(len(ways))}
    for name, milliseconds in found.items():
        print(f"  {name:28} {milliseconds['median']:8.3f} ms", flush=True)
    return {"configuration": dataclasses.asdict(configuration), "milliseconds": found}
