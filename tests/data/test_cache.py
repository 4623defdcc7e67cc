"""The cache: what was prepared comes back as it was, and nothing stale, half-written or damaged is ever taken."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from importlib import metadata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.data import cache
from nfm_tfrs.data.cache import cached
from nfm_tfrs.data.entry_checks import checksum
from nfm_tfrs.data.parts import encode_part, encode_tables
from nfm_tfrs.data.pipeline.batches import batches
from nfm_tfrs.features.check import Bag
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.target import Target

SPEC = FeatureSpec(
    [
        CategoricalFeature("city", vocabulary=["Rome", "Oslo"]),
        MultiCategoricalFeature("tags/values", num_hash_buckets=9, weights="w"),
        MultiCategoricalFeature("none", num_hash_buckets=9),
        NumericFeature("price", mean=1.0, std=3.0),
    ]
)
TABLE = pa.table(
    {
        "city": ["Rome", "", None, "Oslo", "Paris"],
        "tags/values": [["a", "b"], [], None, ["c"], ["a"]],
        "w": [[1.0, 2.0], [], None, [0.5], [3.0]],
        "none": pa.array([[], None, [], [], []], pa.list_(pa.string())),
        "price": [1.0, None, 0.1, 7.0, -2.5],
        "click": [1, 0, 0, 1, 1],
        "weight": [1.0, 2.0, 3.0, 4.0, 0.5],
        "user": pa.chunked_array([pa.array(["u", None]), pa.array(["v", "u", "u"])]).dictionary_encode(),
    }
)


class Preparing:
    """A `prepare` that counts its calls."""

    def __init__(self, table=TABLE):
        self.table = table
        self.calls = 0

    def __call__(self):
        self.calls += 1
        tables = {"train": self.table, "valid": self.table.slice(0, 2)}
        return encode_tables(tables, FeatureEncoder(SPEC), Target.parse("click", weight="weight"))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("1,2,3")
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def take(folder, source, prepare=None, settings=None, **arguments):
    return cached(folder, {"data": [source]}, settings or {"label": "click"}, prepare or Preparing(), **arguments)


def assert_same(part, expected):
    assert list(part.columns) == list(expected.columns)
    for name, column in expected.columns.items():
        arrays = [(column, part.columns[name])]
        if isinstance(column, Bag):
            arrays = [(column.values, part.columns[name].values), (column.row_splits, part.columns[name].row_splits)]
        for one, other in arrays:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(part.labels, expected.labels)
    np.testing.assert_array_equal(part.weights, expected.weights)


def test_what_was_prepared_comes_back_as_it_was(folder, source):
    prepare = Preparing()
    expected = prepare()
    for _ in range(2):  # written, then opened
        parts = take(folder, source, prepare, keep=["user"])
        assert parts.features == SPEC
        assert list(parts.encoded) == ["train", "valid"]
        for name, part in parts.encoded.items():
            assert_same(part, expected.encoded[name])
            assert part.rates == expected.encoded[name].rates
            assert parts.tables[name].column_names == ["user"]
            assert parts.tables[name]["user"].to_pylist() == TABLE["user"].to_pylist()[: len(part)]
    assert prepare.calls == 2


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_come_from_the_mapped_files(folder, source, shuffle):
    part, expected = take(folder, source).train, Preparing()().train
    assert isinstance(part.columns["encoded/ids"], np.memmap)
    ours, theirs = (rows.dataset(2, shuffle=shuffle, seed=3) for rows in (part, expected))
    for pair in zip(ours, theirs, strict=True):
        for one, other in zip(*(tf.nest.flatten(batch, expand_composites=True) for batch in pair), strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_part_of_a_mapped_array_is_copied(folder, source):
    ids = take(folder, source).train.columns["encoded/ids"]
    ((ids_of_batch,),) = [
        list(batch.values()) for batch in batches({"ids": ids[1:]}, None, batch_size=9, shuffle=False, seed=0)
    ]
    assert ids_of_batch.numpy().tolist() == ids[1:].tolist()


def test_pieces_of_the_training_rows_are_put_together(folder, source):
    whole, encoder = Preparing()(), FeatureEncoder(SPEC)

    def pieces(parts):
        for start in (0, 2, 4):
            yield encode_part(TABLE.slice(start, 2), encoder, Target.parse("click", weight="weight"))

    parts = take(folder, source, lambda: replace(whole, encoded={"valid": whole.valid}), windows=pieces)
    assert list(parts.encoded) == ["valid", "train"]
    assert_same(parts.train, whole.train)
    for rates, expected in zip(parts.train.rates, whole.train.rates, strict=True):
        assert (rates.name, rates.values) == (expected.name, expected.values)
        assert [rates.missing, rates.unknown] == pytest.approx([expected.missing, expected.unknown])


def test_training_rows_that_come_twice_are_refused(folder, source):
    with pytest.raises(ValueError, match=r"^The part train was prepared, and comes in windows too\. Leave one of the"):
        take(folder, source, windows=lambda parts: iter([parts.train]))
    assert list(folder.iterdir()) == []


def changed_content(source):
    stat = source.stat()
    source.write_text("1,2,4")  # as long
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # and no younger


def replaced(source):
    source.with_suffix(".new").write_text("1,2,4")
    source.with_suffix(".new").replace(source)


@pytest.mark.parametrize("change", [changed_content, replaced])
def test_a_changed_file_is_noticed_and_its_old_rows_are_removed(folder, source, change):
    take(folder, source)
    take(folder, source, settings={"label": "other"})
    old = set(folder.iterdir())
    change(source)
    prepare = Preparing(TABLE.slice(0, 3))
    assert len(take(folder, source, prepare).train) == 3
    assert prepare.calls == 1
    assert len(set(folder.iterdir()) - old) == 1
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"settings": {"label": "click", "weight": "w"}},
        {"keep": ["user"]},
    ],
)
def test_another_question_is_another_entry(folder, source, other):
    take(folder, source)
    prepare = Preparing()
    take(folder, source, prepare, **other)
    assert prepare.calls == 1
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("package", ["nfm-tfrs", "tensorflow", "numpy", "pyarrow"])
def test_another_version_replaces_the_entry(folder, source, package, monkeypatch):
    take(folder, source)
    version = metadata.version
    monkeypatch.setattr(cache.metadata, "version", lambda name: "99" if name == package else version(name))
    prepare = Preparing()
    take(folder, source, prepare)
    assert prepare.calls == 1
    assert len(list(folder.iterdir())) == 1


def cut_short(path):
    os.truncate(path, path.stat().st_size - 1)


def grown(path):
    with path.open("ab") as file:
        file.write(b"\0")


def removed(path):
    path.unlink()


@pytest.mark.parametrize("damage", [cut_short, grown, removed])
def test_a_damaged_entry_is_made_anew_with_a_warning(folder, source, damage):
    take(folder, source, keep=["user"])
    (entry,) = folder.iterdir()
    files = sorted(path.name for path in entry.iterdir() if path.stat().st_size)
    assert len(files) > 15
    for name in files:
        damage(entry / name)
        prepare = Preparing()
        reason = r"(entry\.json|delimiter|Extra data)" if name == "entry.json" else rf"\b{re.escape(name)}"
        with pytest.warns(
            UserWarning, match=f"The cache's entry {entry} is damaged and made anew: .*{reason}"
        ) as warned:
            parts = take(folder, source, prepare, keep=["user"])
        assert "\n" not in str(warned[0].message)
        assert prepare.calls == 1
        assert_same(parts.train, Preparing()().train)
        assert list(folder.iterdir()) == [entry]
    prepare = Preparing()
    take(folder, source, prepare, keep=["user"])
    assert prepare.calls == 0


def test_two_processes_that_prepare_the_same_at_once_agree(folder, source):
    prepare = Preparing()

    def slower():
        take(folder, source, prepare)  # the other process begins later and is done first
        return prepare()

    parts = take(folder, source, slower)
    assert_same(parts.train, prepare().train)
    assert len(list(folder.iterdir())) == 1
    assert_same(take(folder, source, prepare).train, prepare().train)
    assert prepare.calls == 4


def test_an_entry_replaced_while_it_is_used_stays_readable(folder, source):
    parts = take(folder, source)
    changed_content(source)
    take(folder, source, Preparing(TABLE.slice(0, 3)))
    assert_same(parts.train, Preparing()().train)


def test_a_file_that_changes_while_it_is_read_is_not_kept(folder, source):
    def prepare():
        changed_content(source)
        return Preparing()()

    with pytest.raises(ValueError, match=r"A file changed while it was read\. Run again when it is written\."):
        take(folder, source, prepare)

    def remove():
        source.unlink()
        return Preparing()()

    with pytest.raises(ValueError, match="A file changed while it was read"):
        take(folder, source, remove)
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_what_a_killed_process_left_is_never_read_and_removed_some_day(folder, source):
    script = f"""
import os, runpy, signal
test = runpy.run_path({__file__!r})

def prepare():
    parts = test["Preparing"]()()
    del parts.encoded["train"]
    return parts

def windows(parts):
    yield parts.valid
    os.kill(os.getpid(), signal.SIGKILL)

test["take"]({str(folder)!r}, __import__("pathlib").Path({str(source)!r}), prepare, windows=windows)
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert len(list(left.iterdir())) > 5
    prepare = Preparing()
    assert_same(take(folder, source, prepare).train, Preparing()().train)
    assert prepare.calls == 1
    assert left.exists()  # somebody may still write to it

    days_ago = time.time() - 2 * 86_400
    for path in (*left.iterdir(), left):
        os.utime(path, (days_ago, days_ago))
    take(folder, source, settings={"label": "other"})
    assert not left.exists()
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("{source}", "The cache {source} is a file. Choose a folder."),
        ("{source}/cache", "The cache {source}/cache cannot be written: Not a directory. Choose another folder."),
        ("/proc/cache", "The cache /proc/cache cannot be written: No such file or directory. Choose another folder."),
    ],
    ids=["a file", "below a file", "no place to write"],
)
def test_a_cache_that_cannot_be_is_one_clear_line_before_anything_is_prepared(source, path, line):
    prepare = Preparing()
    with pytest.raises(ValueError, match=f"^{re.escape(line.format(source=source))}$"):
        take(path.format(source=source), source, prepare)
    assert prepare.calls == 0


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(folder, source, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ValueError, match=r"cannot be written: No space left on device\. Choose another folder\."):
        take(folder, source)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("where", ["prepare", "windows"])
def test_a_source_that_vanished_says_so_itself(folder, source, where):
    def read(*parts):
        source.unlink()
        source.read_text()

    whole = replace(Preparing()(), encoded={})
    arguments = {"prepare": read} if where == "prepare" else {"prepare": lambda: whole, "windows": read}
    with pytest.raises(FileNotFoundError, match=re.escape(source.name)):
        take(folder, source, **arguments)
    assert list(folder.iterdir()) == []


def test_an_error_of_what_prepares_is_its_own_and_leaves_nothing(folder, source):
    def prepare():
        raise ValueError("Column 'price' is infinite in row 7.")

    def windows(parts):
        yield parts.valid
        raise ValueError("Column 'price' is infinite in row 70000.")

    with pytest.raises(ValueError, match=r"^Column 'price' is infinite in row 7\.$"):
        take(folder, source, prepare)
    valid = replace(Preparing()(), encoded={"valid": Preparing()().valid})
    with pytest.raises(ValueError, match=r"^Column 'price' is infinite in row 70000\.$"):
        take(folder, source, lambda: valid, windows=windows)
    with pytest.raises(ValueError, match="There is no column 'person'"):
        take(folder, source, keep=["person"])
    assert list(folder.iterdir()) == []


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def changed(entry, change):
    """Writes an entry's contents anew, with new checksums, as whoever changes a file could."""
    contents = json.loads((entry / "entry.json").read_text())
    change(contents, entry)
    (entry / "entry.json").write_text(
        json.dumps(contents | {"checksums": {name: checksum(entry / name) for name in contents["bytes"]}})
    )


def test_a_file_of_an_entry_that_holds_other_bytes_is_named(folder, source):
    take(folder, source, keep=["user"])
    (entry,) = folder.iterdir()
    files = [path.name for path in entry.iterdir() if path.stat().st_size and path.name != "entry.json"]
    assert len(files) > 14
    for name in files:
        flipped(entry / name)
        with pytest.warns(UserWarning, match=f"made anew: {re.escape(name)} holds other bytes than were written"):
            parts = take(folder, source, keep=["user"])
        assert_same(parts.train, Preparing()().train)


@pytest.mark.parametrize(
    ("left_out", "line"),
    [
        (("checksums",), "not every file has a size and a checksum"),
        (("checksums", "bytes"), "not every file has a che"),
    ],
)
def test_an_entry_whose_files_have_no_checksums_is_made_anew(folder, source, left_out, line):
    take(folder, source)
    (entry,) = folder.iterdir()
    contents = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps(contents | {key: {} for key in left_out}))
    with pytest.warns(UserWarning, match=f"is damaged and made anew: {line}"):
        assert_same(take(folder, source).train, Preparing()().train)


def array_of(contents, kind, name=""):
    return next(array for array in contents["arrays"] if array["of"] == ["train", kind, name])


def filled(kind, name, value):
    def change(contents, entry):
        array = array_of(contents, kind, name)
        np.full(array["shape"], value, array["dtype"]).tofile(entry / array["file"])

    return change


def named(path):
    def change(contents, entry):
        array_of(contents, "labels")["file"] = path.format(entry=entry)

    return change


def linked(contents, entry):
    path = entry / array_of(contents, "labels")["file"]
    path.rename(entry.parent.parent / "elsewhere")
    path.symlink_to(entry.parent.parent / "elsewhere")


def typed(name, value):
    return lambda contents, entry: array_of(contents, "labels").update({name: value})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (named("../rows"), r"'\.\./rows' leads out of the entry"),
        (named("{entry}/0.array"), r"'/.* leads out of the entry"),
        (named("a\\b"), r"'a.*b' leads out of the entry"),
        (named(".."), r"'\.\.' is no name of a file"),
        (linked, r"\d+\.array is a link, or no file"),
        (typed("dtype", "|O"), r"\d+\.array is of type object, none of plain numbers"),
        (typed("shape", [4]), r"\d+\.array has 20 bytes, and its shape \(4,\) another number"),
        (typed("shape", [-5]), r"\d+\.array has the shape \(-5,\)"),
        (typed("shape", [5, 1]), "its columns are not of one length, or not those of its features"),
        (filled("columns", "encoded/ids", 3), "an id of 'city' has no row in its table"),
        (filled("columns", "encoded/ids", -1), "an id of 'city' has no row in its table"),
        (filled("values", "encoded/bag/tags/values", 99), "an id of 'tags/values' has no row in its table"),
        (filled("row_splits", "encoded/bag/tags/values", 9), "the bags of 'tags/values' do not fit their values"),
    ],
)
def test_an_entry_that_was_tampered_with_is_made_anew_with_a_warning(folder, source, change, line):
    take(folder, source)
    (entry,) = folder.iterdir()
    changed(entry, change)
    with pytest.warns(UserWarning, match=f"The cache's entry {re.escape(str(entry))} is damaged and made anew: {line}"):
        parts = take(folder, source)
    assert_same(parts.train, Preparing()().train)
    assert_same(take(folder, source).train, Preparing()().train)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("x\n" * 5000),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=4,
)


def places(value, place=()):
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*place, key))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_an_odd_value_anywhere_in_an_entry_opens_or_is_made_anew(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "odd cache"
    source = tmp_path_factory.getbasetemp() / "odd rows.csv"
    source.exists() or source.write_text("1,2,3")
    take(folder, source, keep=["user"])
    (entry,) = folder.iterdir()
    written = (entry / "entry.json").read_text()
    contents = {"whole": json.loads(written)}
    place = data.draw(st.sampled_from(list(places(contents["whole"], ("whole",)))))
    inside = contents
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = data.draw(JSON)
    (entry / "entry.json").write_text(json.dumps(contents["whole"]))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        parts = take(folder, source, keep=["user"])
    lines = [str(one.message) for one in warned]
    assert all(re.fullmatch(r"The cache's entry .* is damaged and made anew: .{3,300}\.", line) for line in lines), (
        lines
    )
    if lines:
        assert_same(parts.train, Preparing()().train)
    (entry / "entry.json").write_text(written)


def test_an_entry_says_what_it_holds(folder, source):
    take(folder, source)
    (entry,) = folder.iterdir()
    contents = json.loads((entry / "entry.json").read_text())
    assert FeatureSpec.from_dict(contents["features"]) == SPEC
