"""Claim: streaming a 5 GB Parquet file grows resident memory by less than 500 MB, however its row groups are cut.

usage: python benchmarks stream_memory --gigabytes 5

Writes the file twice, as one row group and as many, streams each in a fresh process and records how far the peak of
resident memory rose above what the process held before the stream was made. Linux only: reads /proc/self.
"""

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lib.places import BENCHMARKS
from lib.timing import resident_megabytes, versions

CATEGORIES, STRINGS, NUMBERS = 20, 2, 13
BATCH_SIZE = 4096
CHUNK_ROWS = 1 << 17
RESULT = BENCHMARKS / "results" / "stream_memory.json"


def write(path: Path, gigabytes: float, row_group_rows: int | None) -> None:
    """Writes random columns that do not compress; one row group if `row_group_rows` is None."""
    random = np.random.default_rng(0)
    writer: pq.ParquetWriter | None = None
    chunks: list[pa.Table] = []
    written = 0
    while written < gigabytes * 1e9:
        table = _chunk(random)
        written += table.nbytes
        if row_group_rows is None:
            chunks.append(table)
            continue
        writer = writer or _writer(path, table.schema)
        writer.write_table(table, row_group_rows)
    if chunks:
        table = pa.concat_tables(chunks)
        with _writer(path, table.schema) as whole:
            whole.write_table(table, table.num_rows)
    if writer:
        writer.close()


def measure(path: str, epochs: int, window_rows: int | None, results: multiprocessing.Queue) -> None:
    """Streams the file in this process and reports the rise of the peak of resident memory."""
    from nfm_tfrs.data import stream
    from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
    from nfm_tfrs.features.spec import FeatureSpec
    from nfm_tfrs.keras_compat import tf

    spec = FeatureSpec(
        (
            *(CategoricalFeature(f"category_{n}", num_hash_buckets=100_000) for n in range(CATEGORIES)),
            *(CategoricalFeature(f"string_{n}", num_hash_buckets=100_000) for n in range(STRINGS)),
            *(NumericFeature(f"number_{n}") for n in range(NUMBERS)),
            MultiCategoricalFeature("bag", num_hash_buckets=100_000),
        )
    )
    for _ in tf.data.Dataset.range(3).map(lambda n: n + 1):  # what any pipeline of TensorFlow takes
        pass
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = resident_megabytes("VmRSS")
    dataset = stream(path, spec, "click", batch_size=BATCH_SIZE, shuffle=True, seed=0, window_rows=window_rows)
    rates, peaks = [], []
    for _ in range(epochs):
        start, rows = time.perf_counter(), 0
        for _, label in dataset:
            rows += len(label)
        rates.append(round(rows / (time.perf_counter() - start)))
        peaks.append(round(resident_megabytes("VmHWM") - before))
    groups = pq.read_metadata(path).num_row_groups
    results.put(
        {"rows": rows, "row_groups": groups, "peak_growth_megabytes_by_epoch": peaks, "rows_per_second_by_epoch": rates}
    )


def _chunk(random: np.random.Generator) -> pa.Table:
    rows = CHUNK_ROWS
    lengths = random.integers(0, 6, rows)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    columns = {f"category_{n}": random.integers(0, 2**40, rows) for n in range(CATEGORIES)}
    columns |= {
        f"string_{n}": pa.array(random.integers(10**15, 10**16, rows)).cast(pa.string()) for n in range(STRINGS)
    }
    columns |= {f"number_{n}": random.standard_normal(rows, np.float32) for n in range(NUMBERS)}
    columns["bag"] = pa.ListArray.from_arrays(offsets, pa.array(random.integers(0, 2**40, lengths.sum())))
    columns["click"] = random.integers(0, 2, rows, np.int8)
    return pa.table(columns)


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="none", use_dictionary=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the file")
    parser.add_argument("--quick", action="store_true", help="a tenth of a gigabyte and one epoch, nothing recorded")
    parser.add_argument("--epochs", type=int, default=2, help="a leak would grow with them")
    parser.add_argument("--window-rows", type=int, help="of the stream; its own if not given")
    arguments = parser.parse_args()
    gigabytes, epochs = (0.1, 1) if arguments.quick else (arguments.gigabytes, arguments.epochs)
    processes = multiprocessing.get_context("spawn")
    variants = {}
    for name, row_group_rows in (("many row groups", CHUNK_ROWS), ("one row group", None)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            writing = processes.Process(target=write, args=(path, gigabytes, row_group_rows))
            writing.start()
            writing.join()
            size = path.stat().st_size
            results = processes.Queue()
            reading = processes.Process(target=measure, args=(str(path), epochs, arguments.window_rows, results))
            reading.start()
            variants[name] = {"file_gigabytes": round(size / 1e9, 2), **results.get(timeout=7200)}
            reading.join()
    report = {
        "columns": {"int64": CATEGORIES, "string": STRINGS, "float32": NUMBERS, "list<int64>": 1},
        "batch_size": BATCH_SIZE,
        "cpu_cores": multiprocessing.cpu_count(),
        "python": platform.python_version(),
        "versions": versions(("tensorflow", "pyarrow", "numpy")),
        "variants": variants,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if not arguments.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text + "\n")


if __name__ == "__main__":
    main()
