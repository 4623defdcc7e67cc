"""Files and tables changed at random: each opens, or is refused in one line; nothing runs, hangs or takes all memory.

usage: python benchmarks fuzz [--minutes 30] [--only NAME ...] [--seed 0]

Each kind of file is written once, honest, and opened again and again, changed each time by a seed of its own. What is
refused is a ValueError, LookupError or FileNotFoundError of one line that names the file, or the column, label or
feature that is wrong. Whatever else comes is a finding, printed with its seed: `--only KIND --seed SEED --minutes 0`
makes it again. Each kind runs in a process of its own, so that one that dies is found too. The result is
results/fuzz.json: attempts, how many were refused, and the findings, by kind.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lib.changes import changed_bytes, changed_json, changed_lines
from lib.places import BENCHMARKS, RESULTS
from lib.timing import machine, versions

from nfm_tfrs import CategoricalFeature, FeatureSpec, MultiCategoricalFeature, NumericFeature, RankingModel, load_model
from nfm_tfrs.data import prepare, prepare_files
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.keras_compat.private import saved_metadata_pb2
from nfm_tfrs.models import ranking
from nfm_tfrs.runs.folder import read_features
from nfm_tfrs.runs.record import RunRecord, Source
from nfm_tfrs.target import Target
from nfm_tfrs.training import Best, Recipe, predict

REFUSED = (ValueError, LookupError, FileNotFoundError)
LONGEST = 700  # characters of what is said
SECONDS = 60.0  # of the processor that an attempt may take: a pause of the machine is not the attempt's
MEGABYTES = 1500  # that the process may grow by in it
ROWS = 60
SPEC = FeatureSpec(
    [
        CategoricalFeature("user", vocabulary_size=9),
        CategoricalFeature("city", vocabulary=["Rome", "Oslo"]),
        MultiCategoricalFeature("tags", num_hash_buckets=9, dtype="string"),
        NumericFeature("price", mean=1.0, std=2.0),
    ]
)

Attempt = Callable[[Random], Any]  # changes something by what the random numbers say, and opens it


@dataclass
class Found:
    """What came of the attempts at one kind.

    Args:
        attempts: How many there were.
        refused: How many were refused as they should be; the others opened.
        findings: What came otherwise, by seed.
    """

    attempts: int = 0
    refused: int = 0
    findings: dict[int, str] = field(default_factory=dict)


def attempted(attempt: Attempt, seed: int, found: Found) -> None:
    """Adds one attempt to what was found."""
    before, start = _megabytes(), time.process_time()
    problem = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            attempt(Random(seed))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is judged
            problem = wrong(error)
            found.refused += problem is None
    grown, seconds = _megabytes() - before, time.process_time() - start
    if seconds > SECONDS or grown > MEGABYTES:
        problem = f"took {seconds:.0f} s and {grown:.0f} MB"
    if "evil_module" in sys.modules:
        problem = "imported a module that the file named"
    found.attempts += 1
    if problem:
        found.findings[seed] = problem


def wrong(error: BaseException) -> str | None:
    """Returns what is wrong with how something was refused; None if nothing is."""
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    about = any(word in said for word in ("changed", "olumn", "abel", "eature", "eight", "rows", "classes"))
    refused = isinstance(error, REFUSED) and not isinstance(error, UnicodeError)
    if refused and about and "\n" not in said and len(said) < LONGEST:
        return None
    return f"{type(error).__name__}: {said[:300]}"


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- the kinds


def _model() -> Any:
    tf.keras.utils.set_random_seed(0)
    model = RankingModel(SPEC, interaction=["fm", "bi_interaction"], embedding_dim=2, hidden_units=(2,))
    model.compile("adam")
    model(_rows())
    return model


def _rows() -> dict[str, Any]:
    return {
        "user": tf.constant([1, 2]),
        "city": tf.constant(["Rome", ""]),
        "tags": tf.ragged.constant([["a"], []], tf.string, ragged_rank=1),
        "price": tf.constant([0.5, 2.0]),
    }


def _table(seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "user": random.integers(0, 9, ROWS),
            "city": random.choice(["Rome", "Oslo", ""], ROWS),
            "tags": [[["a", "b"][n] for n in range(size)] for size in random.integers(0, 3, ROWS)],
            "price": random.normal(1, 2, ROWS),
            "day": pa.array(np.arange(ROWS), pa.timestamp("s")),
            "trust": random.random(ROWS),
            "click": np.arange(ROWS) % 2,
        }
    )


def _packed(folder: Path) -> Path:
    path = folder / "honest.keras"
    _model().save(path)
    return path


def keras_bytes(folder: Path) -> Attempt:
    """A `.keras` file with other bytes."""
    honest, path = _packed(folder).read_bytes(), folder / "changed.keras"

    def attempt(random: Random) -> None:
        path.write_bytes(changed_bytes(honest, random))
        load_model(path)

    return attempt


def keras_parts(folder: Path) -> Attempt:
    """A `.keras` file of which one member has other bytes, or whose config has other values."""
    with zipfile.ZipFile(_packed(folder)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config, path = json.loads(members["config.json"]), folder / "changed.keras"

    def attempt(random: Random) -> None:
        parts = dict(members)
        if random.random() < 0.7:
            parts["config.json"] = json.dumps(changed_json(config, random)).encode()
        else:
            name = random.choice(list(parts))
            parts[name] = changed_bytes(parts[name], random)
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
        load_model(path)

    return attempt


def saved_model(folder: Path) -> Attempt:
    """A SavedModel's folder with other bytes, or another config."""
    honest, out = folder / "honest", folder / "changed"
    _model().save(honest, save_format="tf")
    metadata = saved_metadata_pb2.SavedMetadata()
    metadata.ParseFromString((honest / "keras_metadata.pb").read_bytes())
    root = next(node for node in metadata.nodes if node.node_path == "root")
    config = json.loads(root.metadata)

    def attempt(random: Random) -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(honest, out)
        if random.random() < 0.7:
            root.metadata = json.dumps(changed_json(config, random))
            (out / "keras_metadata.pb").write_bytes(metadata.SerializeToString())
        else:
            path = random.choice([path for path in sorted(out.rglob("*")) if path.is_file()])
            path.write_bytes(changed_bytes(path.read_bytes(), random))
        load_model(out)

    return attempt


def weights(folder: Path) -> Attempt:
    """Weights alone, in a file or as a checkpoint, with other bytes."""
    model = _model()
    model.save_weights(folder / "honest.weights.h5")
    model.save_weights(folder / "honest" / "weights")

    def attempt(random: Random) -> None:
        if random.random() < 0.5:
            path = folder / "changed.weights.h5"
            path.write_bytes(changed_bytes((folder / "honest.weights.h5").read_bytes(), random))
            model.load_weights(path)
            return
        shutil.rmtree(folder / "changed", ignore_errors=True)
        shutil.copytree(folder / "honest", folder / "changed")
        path = random.choice(sorted((folder / "changed").iterdir()))
        path.write_bytes(changed_bytes(path.read_bytes(), random))
        model.load_weights(folder / "changed" / "weights")

    return attempt


def json_files(folder: Path) -> Attempt:
    """A features.json, run.json or best.json with other values or bytes; of a best.json its model is made."""
    recipe = Recipe(model="nfm", config={"embedding_dim": 2, "features": SPEC.to_dict()}, learning_rate=0.1)
    record = RunRecord(
        target=Target.parse("click"), recipe=recipe, source=Source(data=("a.csv",)), epochs=2, patience=1
    )
    best = Best(recipe=recipe, slices=9, fingerprint="f00")

    def made(path: Path) -> None:
        best = Best.from_file(path)
        try:
            with mock.patch.object(
                ranking, "memory_bytes", return_value=MEGABYTES * 10**6 // 2
            ):  # as on a small machine
                best.recipe.build(steps=10)
        except REFUSED as error:  # which know of no file
            raise ValueError(f"{path}: {error}") from error

    kinds = [(SPEC.to_dict(), read_features), (record.to_json(), RunRecord.from_file), (best.to_json(), made)]
    path = folder / "changed.json"

    def attempt(random: Random) -> None:
        written, read = random.choice(kinds)
        if random.random() < 0.8:
            path.write_text(json.dumps(changed_json(written, random)))
        else:
            path.write_bytes(changed_bytes(json.dumps(written).encode(), random))
        read(path)

    return attempt


def cache(folder: Path) -> Attempt:
    """An entry of the cache with other bytes or values: made anew, so that the rows are as ever."""
    pq.write_table(_table(), folder / "data.parquet")
    prepared = {"features": SPEC, "cache": folder / "changed", "keep": ["click"]}
    honest = prepare_files(folder / "data.parquet", "click", "random", **prepared)
    shutil.copytree(folder / "changed", folder / "honest")
    logits = {name: np.array(part.labels) for name, part in honest.encoded.items()}
    ids = {name: np.array(part.columns["encoded/ids"]) for name, part in honest.encoded.items()}

    def attempt(random: Random) -> None:
        shutil.rmtree(folder / "changed")
        shutil.copytree(folder / "honest", folder / "changed")
        path = random.choice([path for path in sorted((folder / "changed").rglob("*")) if path.is_file()])
        if path.name == "entry.json" and random.random() < 0.8:
            path.write_text(json.dumps(changed_json(json.loads(path.read_text()), random)))
        else:
            path.write_bytes(changed_bytes(path.read_bytes(), random))
        found = prepare_files(folder / "data.parquet", "click", "random", **prepared)
        for name, part in found.encoded.items():
            np.testing.assert_array_equal(part.labels, logits[name])
            np.testing.assert_array_equal(part.columns["encoded/ids"], ids[name])

    return attempt


def _texts() -> dict[str, tuple[str, str, str]]:
    """The lines of each format of text, what separates its tokens, and the label's name."""
    rows = [{name: value for name, value in row.items() if name != "tags"} for row in _table().to_pylist()]
    lines = {
        mark: "\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]) for mark in ",\t"
    }
    svm = "\n".join(f"{n % 2} {n % 5 + 1}:1 {n % 7 + 7}:{n / 9:.3f}" for n in range(ROWS))
    ffm = "\n".join(f"{n % 2} 0:{n % 5}:1 1:{n % 7}:{n / 9:.3f}" for n in range(ROWS))
    return {
        "csv": (lines[","], ",", "click"),
        "tsv": (lines["\t"], "\t", "click"),
        "libsvm": (svm, " :", "label"),
        "libffm": (ffm, " :", "label"),
    }


def text_files(folder: Path) -> Attempt:
    """CSV, TSV, libsvm and libffm with other lines or bytes, packed or not."""
    import gzip

    texts = _texts()

    def attempt(random: Random) -> None:
        name = random.choice(list(texts))
        text, separators, label = texts[name]
        data = text.encode()
        if random.random() < 0.8:
            data = changed_lines(text, separators, random).encode("utf-8", "surrogatepass")
        path = folder / f"changed.{name}"
        if random.random() < 0.2:
            path, data = path.with_suffix(f".{name}.gz"), gzip.compress(data)
        if random.random() < 0.3:
            data = changed_bytes(data, random)
        path.write_bytes(data)
        prepare_files(path, label, "random", min_count=1)

    return attempt


def binary_files(folder: Path) -> Attempt:
    """Parquet and TFRecord with other bytes."""
    pq.write_table(_table(), folder / "honest.parquet", row_group_size=20)
    with tf.io.TFRecordWriter(str(folder / "honest.tfrecord")) as writer:
        for row in _table().to_pylist():
            writer.write(_example(row))

    def attempt(random: Random) -> None:
        honest = random.choice([folder / "honest.parquet", folder / "honest.tfrecord"])
        path = folder / f"changed{honest.suffix}"
        path.write_bytes(changed_bytes(honest.read_bytes(), random))
        prepare_files(path, "click", "random", min_count=1)

    return attempt


def _example(row: dict[str, Any]) -> bytes:
    features = {
        "user": tf.train.Feature(int64_list=tf.train.Int64List(value=[row["user"]])),
        "city": tf.train.Feature(bytes_list=tf.train.BytesList(value=[row["city"].encode()])),
        "tags": tf.train.Feature(bytes_list=tf.train.BytesList(value=[tag.encode() for tag in row["tags"]])),
        "price": tf.train.Feature(float_list=tf.train.FloatList(value=[row["price"]])),
        "click": tf.train.Feature(int64_list=tf.train.Int64List(value=[row["click"]])),
    }
    written: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    return written


TYPES = (
    *(pa.null(), pa.bool_(), pa.int8(), pa.uint8(), pa.int32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.date32(), pa.timestamp("ns"), pa.duration("s")),
    *(pa.decimal128(9, 2), pa.list_(pa.string()), pa.large_list(pa.int32()), pa.list_(pa.float32(), 2)),
    *(pa.list_(pa.list_(pa.int8())), pa.struct([("a", pa.int8())]), pa.dictionary(pa.int8(), pa.string())),
    *(pa.map_(pa.string(), pa.int8()), pa.time32("s")),
)
NUMBERS = (0, 1, 2, -1, 5, 127, 2**31 - 1, 2**63 - 1, 2**64 - 1, 0.5, -0.0, 1e-320, 1e300, np.nan, np.inf, -np.inf)


def _odd_column(random: Random, rows: int) -> pa.Array:
    kind = random.choice(TYPES)
    share = random.choice((0.0, 0.1, 0.9))
    values = [None if random.random() < share else _odd_value(kind, random) for _ in range(rows)]
    return pa.array(values, kind)


def _odd_value(kind: pa.DataType, random: Random) -> Any:
    """A value that such a column can hold."""
    if pa.types.is_dictionary(kind):
        return _odd_value(kind.value_type, random)
    if pa.types.is_fixed_size_list(kind):
        return [_odd_value(kind.value_type, random) for _ in range(kind.list_size)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_odd_value(kind.value_type, random) for _ in range(random.randint(0, 3))]
    if pa.types.is_map(kind):
        return [("a", 1)]
    if pa.types.is_struct(kind):
        return {"a": 1}
    words = ("", "a", "b", "a|b", "1", "nan", "\0", "\u202e", "x" * 300)
    for value in random.sample((*NUMBERS, *words, b"a", True), len(NUMBERS) + len(words) + 2):
        try:
            pa.scalar(value, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            continue
        return value
    return None


def tables(folder: Path) -> Attempt:
    """Tables whose columns, label and weights have other types and values: prepared, and predicted by a model."""
    del folder
    model = _model()

    def attempt(random: Random) -> None:
        table = _table(random.randrange(9))
        for _ in range(random.choice((1, 1, 2))):
            at = random.randrange(table.num_columns)
            table = table.set_column(at, table.column_names[at], _odd_column(random, table.num_rows))
        if random.random() < 0.1:
            table = table.slice(0, random.randint(0, 3))
        target = Target.parse(random.choice(("click", "price", "price>=1", 'city="Rome"')), weight="trust")
        if random.random() < 0.5:
            prepare(table, target, random.choice(("random", "time:day", "time:user")), min_count=1)
            return
        prepared = prepare(table, Target.parse("click"), "random", features=SPEC)
        logits = predict(model, prepared.train)
        if not np.isfinite(logits).all():
            raise AssertionError(f"the columns {table.schema.types} give logits that are not finite")

    return attempt


def batches(folder: Path) -> Attempt:
    """Batches for `fit` whose columns, labels or weights have other values, types, shapes or rows."""
    del folder
    model = _model()
    start = model.get_weights()

    def attempt(random: Random) -> None:
        model.set_weights(start)
        columns, rows = dict(_rows()), 2
        labels, weights = tf.constant([0.0, 1.0]), tf.constant([1.0, 2.0])
        for _ in range(random.choice((1, 1, 2))):
            odd = _odd_tensor(random, rows)
            place = random.choice([*columns, "labels", "weights"])
            if place == "labels":
                labels = odd
            elif place == "weights":
                weights = odd
            elif random.random() < 0.1:
                del columns[place]
            else:
                columns[place] = odd
        try:
            model.fit(tf.data.Dataset.from_tensors((columns, labels, weights)), verbose=0)
        finally:
            if not all(np.isfinite(weight).all() for weight in model.get_weights()):
                raise AssertionError(f"a batch of {columns}, {labels}, {weights} leaves weights that are not finite")

    return attempt


def _odd_tensor(random: Random, rows: int) -> Any:
    """A column of some type, of as many rows as the others or not."""
    count = random.choices((rows, 0, 1, 3), [7, 1, 1, 1])[0]
    dtype = random.choice((tf.int64, tf.int32, tf.float32, tf.float64, tf.string, tf.bool, tf.uint64, tf.float16))
    floats = (0.0, 1.0, 0.5, -1.0, 1e30, 1e300, np.nan, np.inf, -np.inf)
    whole = (0, 1, 2, 8, 9, 2**31 - 1)
    words: tuple[str, ...] = ("", "Rome", "a", "1", "nan", "\0")

    def value() -> Any:
        if dtype is tf.string:
            return random.choice(words)
        if dtype is tf.bool:
            return random.random() < 0.5
        with np.errstate(over="ignore"):
            return dtype.as_numpy_dtype(random.choice(floats if dtype.is_floating else whole))

    shape = random.choices(("flat", "column", "wide", "ragged", "sparse"), [6, 2, 1, 2, 1])[0]
    if shape == "ragged":
        lists = [[value() for _ in range(random.randint(0, 3))] for _ in range(count)]
        return tf.ragged.constant(lists, dtype, ragged_rank=1)
    values = tf.constant([value() for _ in range(count)], dtype, shape=[count])
    if shape == "sparse":
        return tf.sparse.from_dense(values[:, None]) if dtype is not tf.bool else values
    return {"flat": values, "column": values[:, None], "wide": tf.stack([values, values], 1)}[shape]


KINDS: dict[str, Callable[[Path], Attempt]] = {
    make.__name__: make
    for make in (
        *(keras_bytes, keras_parts, saved_model, weights, json_files, cache),
        *(text_files, binary_files, tables, batches),
    )
}


# --- running them


def run(kind: str, folder: Path, seeds: Iterator[int] | range, *, until: float | None = None) -> Iterator[Found]:
    """Makes one attempt a seed, and yields what was found so far after each.

    Args:
        kind: One of `KINDS`.
        folder: An empty folder.
        seeds: Of the attempts.
        until: When to stop, in seconds of `time.monotonic`; never before the seeds end if not given.
    """
    (folder / "evil_module.py").write_text("class Evil:\n    from_config = __init__ = print\n")
    sys.path.insert(0, str(folder))
    try:
        attempt, found = KINDS[kind](folder), Found()
        for seed in seeds:
            attempted(attempt, seed, found)
            yield found
            if until is not None and time.monotonic() > until:
                return
    finally:
        sys.path.remove(str(folder))


def _child(kind: str, seed: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        until = time.monotonic() + seconds
        for number, found in enumerate(run(kind, Path(folder), iter(range(seed, 2**31)), until=until)):
            print(json.dumps({"next": seed + number + 1, **asdict(found)}), flush=True)


def _parent(kind: str, seed: int, seconds: float) -> Found:
    """Runs a kind in processes of its own; one that dies is a finding, and the next goes on behind it."""
    total, start = Found(), time.monotonic()
    while True:
        left = seconds - (time.monotonic() - start)
        command = [sys.executable, str(BENCHMARKS), "fuzz", "--child", kind, "--seed", str(seed), "--minutes"]
        done = subprocess.run([*command, str(left / 60)], capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"next"')]
        last = json.loads(lines[-1]) if lines else {"next": seed, "attempts": 0, "refused": 0, "findings": {}}
        total.attempts += last["attempts"]
        total.refused += last["refused"]
        total.findings |= {int(at): said for at, said in last["findings"].items()}
        seed = last["next"]
        if done.returncode == 0:
            return total
        total.findings[seed] = f"the process ended with {done.returncode}: {done.stderr[-300:]}"
        total.attempts, seed = total.attempts + 1, seed + 1
        if time.monotonic() - start > seconds:
            return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="of all kinds together")
    parser.add_argument("--only", nargs="*", choices=KINDS, help="kinds to try; all if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the first attempt")
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _child(given.child, given.seed, given.minutes * 60)
        return
    kinds = given.only or list(KINDS)
    result = {}
    for kind in kinds:
        found = _parent(kind, given.seed, given.minutes * 60 / len(kinds))
        print(f"{kind:14} {found.attempts:6} attempts, {found.refused:6} refused, {len(found.findings)} findings")
        for seed, said in found.findings.items():
            print(f"  seed {seed}: {said}")
        result[kind] = asdict(found)
    if not given.only and given.minutes >= 1:
        packages = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy", "pyarrow", "h5py")
        written = {"minutes": given.minutes, "seed": given.seed, "kinds": result}
        written |= {"machine": machine(), "versions": versions(packages)}
        (RESULTS / "fuzz.json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
