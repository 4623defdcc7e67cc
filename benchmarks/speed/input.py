"""Rows a second of the input alone, and of training from a Parquet file, W1.

usage: python benchmarks input [--quick] [--rounds 9]

A generated file of 5 million rows: 26 columns of int64 ids, 13 of float32 numbers, a label. "alone" are shuffled
batches without a model: read, encoded and cut from the file ("parquet"; "parquet, strings" from a smaller file whose
ids are strings, looked up in a vocabulary), from a cache of encoded rows, from columns in memory, and by the usual
`from_tensor_slices(columns).shuffle().batch()`.

"training" is an epoch of `fit`, the reading included: streamed from the file, from the cache, and from the file read
and encoded as a whole first ("whole file"). Its rows a second are divided by those of the bare training step of the
same model on 16 batches in memory, measured before and after it. "end_to_end" is this ratio for the streamed file.
Beside it stands the processor time of all threads a row: where all cores are busy, it is that which the input adds.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lib.reports import SEED, Options, Report, parse
from lib.timing import median, versions
from lib.workloads import PEER_DEFINITION, Workload, generate, workload

from nfm_tfrs.data import read_labels, read_table, stream
from nfm_tfrs.data.cache import cached
from nfm_tfrs.data.parts import Prepared, encode_part
from nfm_tfrs.data.pipeline.windows import encode_windows
from nfm_tfrs.features.check import checked_arrays, raw_columns
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.optimizers import LazyAdam
from nfm_tfrs.target import Target

PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy", "pyarrow")
LABEL = "click"
TARGET = Target.parse(LABEL)
POOL = 16
STEPS = 100  # of the bare step, before and after each epoch


class Sizes(NamedTuple):
    """Numbers of rows: of each file, of the slow idiom, of a row group, of the vocabulary; and of bare steps."""

    rows: int = 5_000_000
    strings: int = 1_000_000
    slices: int = 100_000
    group: int = 1_000_000
    vocabulary: int | None = None
    steps: int = STEPS


QUICK = Sizes(rows=10_000, strings=5_000, slices=5_000, group=4_000, vocabulary=1_000, steps=2)


class Spent(NamedTuple):
    """Nanoseconds a row by the clock, and of the processor in all threads."""

    wall: float
    processor: float


Way = Callable[[], int]  # goes through some rows once and returns how many


def spent(way: Way) -> Spent:
    """Time of a row, on average over those that a way goes through."""
    wall, processor = time.perf_counter(), time.process_time()
    rows = way()
    return Spent((time.perf_counter() - wall) * 1e9 / rows, (time.process_time() - processor) * 1e9 / rows)


def features(shape: Workload, *, strings: bool = False) -> FeatureSpec:
    """The features of the file: ids as they are, or strings by a vocabulary."""
    sizes = enumerate(shape.vocabulary_sizes)
    categories = [
        CategoricalFeature(f"c{n}", vocabulary=tuple(_names(size)))
        if strings
        else CategoricalFeature(f"c{n}", vocabulary_size=size)
        for n, size in sizes
    ]
    return FeatureSpec((*categories, *(NumericFeature(f"n{n}") for n in range(shape.numbers))))


def write(path: Path, shape: Workload, rows: int, group_rows: int, *, strings: bool = False) -> None:
    """Writes rows of the workload, group by group."""
    writer: pq.ParquetWriter | None = None
    for seed, start in enumerate(range(0, rows, group_rows)):
        drawn = generate(shape, min(group_rows, rows - start), SEED + seed)
        columns: dict[str, Any] = {}
        for field, size in enumerate(shape.vocabulary_sizes):
            ids = drawn.ids[:, field]
            columns[f"c{field}"] = pa.array(_names(size)).take(pa.array(ids)) if strings else ids.astype(np.int64)
        columns |= {f"n{n}": drawn.numbers[:, n] for n in range(shape.numbers)}
        table = pa.table({**columns, LABEL: drawn.labels.astype(np.int8)})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


class Sources:
    """The same rows from everywhere they can come from, as datasets of batches.

    Args:
        folder: Where the files and the cache are written.
        shape: The workload.
        sizes: Numbers of rows.
    """

    def __init__(self, folder: Path, shape: Workload, sizes: Sizes) -> None:
        self.path, strings = folder / "rows.parquet", folder / "strings.parquet"
        self.rows, self.batch_size, self.spec = sizes.rows, shape.batch_size, features(shape)
        write(self.path, shape, sizes.rows, sizes.group)
        write(strings, shape, sizes.strings, sizes.group, strings=True)
        sides: dict[str, Any] = {"embedding_dim": shape.embedding_dim, "hidden_units": shape.hidden_units}
        self.model = NFM(self.spec, **sides, **PEER_DEFINITION)
        self.model.compile(LazyAdam(1e-3))
        spec = features(shape, strings=True)
        encode = NFM(spec, embedding_dim=1, hidden_units=()).encoder.encode_arrays
        self.strings = self._options(strings, spec) | {"transform": encode}
        self._cached = cached(
            folder / "cache",
            {"data": [self.path]},
            {},
            lambda: Prepared(self.model.encoder, {}, {}),
            windows=lambda parts: encode_windows(self.path, self.spec, TARGET, parts.encoder.encode_arrays),
        ).train
        table = pq.ParquetFile(self.path).read_row_group(0).slice(0, sizes.slices)
        self._slices = raw_columns(checked_arrays(table, self.spec), self.spec)
        self._slice_labels = read_labels(table, TARGET)

    def _options(self, path: Path, spec: FeatureSpec) -> dict[str, Any]:
        return {
            "paths": path,
            "spec": spec,
            "target": TARGET,
            "batch_size": self.batch_size,
            "shuffle": True,
            "seed": SEED,
        }

    def parquet(self) -> tf.data.Dataset:
        """Batches streamed from the file."""
        return stream(**self._options(self.path, self.spec), transform=self.model.encoder.encode_arrays)

    def parquet_of_strings(self) -> tf.data.Dataset:
        """Batches streamed from the file of strings."""
        return stream(**self.strings)

    def cache(self) -> tf.data.Dataset:
        """Batches from the files of the cache."""
        return self._cached.dataset(self.batch_size, shuffle=True, seed=SEED)

    def whole_file(self) -> tf.data.Dataset:
        """Batches from memory, once the file is read and encoded."""
        table = read_table(self.path)
        part = encode_part(table, self.model.encoder, TARGET)
        return part.dataset(self.batch_size, shuffle=True, seed=SEED)

    def slices(self) -> tf.data.Dataset:
        """Batches of raw columns by the usual idiom of tf.data."""
        slices = tf.data.Dataset.from_tensor_slices((self._slices, self._slice_labels))
        return slices.shuffle(10_000).batch(self.batch_size).prefetch(2)


def drained(dataset: tf.data.Dataset) -> int:
    """Goes through a dataset; returns its number of rows."""
    return sum(len(labels) for _, labels in dataset)


def alone(sources: Sources, rounds: int) -> dict[str, Any]:
    """Time of a row from each source, without a model."""
    memory = sources.whole_file()
    ways: dict[str, Way] = {
        "parquet": lambda: drained(sources.parquet()),
        "parquet, strings": lambda: drained(sources.parquet_of_strings()),
        "cache": lambda: drained(sources.cache()),
        "memory": lambda: drained(memory),
        "from_tensor_slices": lambda: drained(sources.slices()),
    }
    found: dict[str, list[Spent]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(spent(way))
    return {name: _summary(name, values) for name, values in found.items()}


def training(sources: Sources, rounds: int, steps: int) -> dict[str, Any]:
    """Time of a row from each source in training, and the bare step's share of it."""
    model, pool = sources.model, list(sources.cache().take(POOL))
    step = tf.function(model.take_step, reduce_retracing=True)

    def bare() -> int:
        for number in range(steps):
            step(pool[number % len(pool)]).numpy()
        return steps * sources.batch_size

    def fitted(dataset: tf.data.Dataset) -> int:
        model.fit(dataset, epochs=1, verbose=0)
        return sources.rows

    ways = {
        "parquet": lambda: fitted(sources.parquet()),
        "cache": lambda: fitted(sources.cache()),
        "whole file": lambda: fitted(sources.whole_file()),
    }
    bare()
    model.fit(sources.cache().take(POOL), verbose=0)  # traced
    steps_alone = [spent(bare)]
    found: dict[str, list[Spent]] = {name: [] for name in ways}
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(spent(way))
            steps_alone.append(spent(bare))
            ratios[name].append((steps_alone[-2].wall + steps_alone[-1].wall) / 2 / found[name][-1].wall)
    summaries = {name: {**_summary(name, values), "share": median(ratios[name])} for name, values in found.items()}
    for name, summary in summaries.items():
        low, high = summary["share"]["interval"]
        print(f"  {name:20} {summary['share']['median']:.2f} of the bare step [{low:.2f}, {high:.2f}]", flush=True)
    return {"bare step": _summary("bare step", steps_alone), **summaries}


def _summary(name: str, found: Sequence[Spent]) -> dict[str, Any]:
    rates = median(1e9 / one.wall for one in found)
    processor = float(np.median([one.processor for one in found]))
    print(f"  {name:20} {rates['median']:12,.0f} rows/s   {processor:8,.0f} ns of processor time a row", flush=True)
    return {"rows_per_second": rates, "processor_nanoseconds_per_row": processor}


def _names(size: int) -> list[str]:
    """Names of eight hexadecimal digits, in no order, as click logs have them."""
    return [f"{number * 2654435761 % 2**32:08x}" for number in range(size)]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes and returns."""
    options: Options = parse(__doc__, (), arguments)
    sizes = QUICK if options.quick else Sizes()
    keras.utils.set_random_seed(SEED)
    report = Report("input", options)
    with tempfile.TemporaryDirectory() as folder:
        sources = Sources(Path(folder), workload("W1", sizes.vocabulary), sizes)
        report.measured |= {"versions": versions(PACKAGES), **sizes._asdict()}
        print("alone", flush=True)
        report.measured["alone"] = alone(sources, options.rounds)
        print("training", flush=True)
        report.measured["training"] = training(sources, options.rounds, sizes.steps)
    report.measured["end_to_end"] = report.measured["training"]["parquet"]["share"]
    report.write()
    return report.measured


if __name__ == "__main__":
    main()
