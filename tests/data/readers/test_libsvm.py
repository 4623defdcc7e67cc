"""libsvm and libffm text, compared with a parser of one line at a time."""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.data.readers import libsvm
from nfm_tfrs.data.readers.libsvm import read_libffm, read_libsvm
from nfm_tfrs.data.readers.table import read_table

VALUES = st.floats(-100, 100, width=32)
LABELS = st.sampled_from(["1", "0", "-1", "+1", "0.5", "1e-3"])
LIBSVM = st.lists(
    st.tuples(LABELS, st.lists(st.tuples(st.integers(0, 2**40), VALUES), max_size=4)), min_size=1, max_size=8
)
ENTRIES = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 99), VALUES), max_size=5)
LIBFFM = st.lists(st.tuples(LABELS, ENTRIES), min_size=1, max_size=8)


def text_of(rows, separator=" "):
    return "".join(
        separator.join([label, *(":".join(map(repr, entry)) for entry in entries)]) + "\n" for label, entries in rows
    )


def read(reader, text, suffix=".txt"):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(gzip.compress(text.encode()) if suffix == ".gz" else text.encode())
        return reader([path])


@settings(max_examples=60, deadline=None)
@given(LIBSVM, st.sampled_from([" ", "  ", "\t"]), st.sampled_from([".txt", ".gz"]))
def test_libsvm_gives_the_entries_that_were_written(rows, separator, suffix):
    table = read(read_libsvm, text_of(rows, separator), suffix)
    assert table["label"].to_pylist() == [float(np.float32(label)) for label, _ in rows]
    assert table["indices"].to_pylist() == [[index for index, _ in entries] for _, entries in rows]
    assert table["values"].to_pylist() == [[value for _, value in entries] for _, entries in rows]


@settings(max_examples=60, deadline=None)
@given(LIBFFM)
def test_libffm_gives_the_entries_of_each_field(rows):
    table = read(read_libffm, text_of(rows))
    fields = sorted({field for _, entries in rows for field, _, _ in entries})
    names = [name for field in fields for name in (f"field_{field}", f"field_{field}_value")]
    assert table.column_names == ["label", *names]
    for field in fields:
        own = [[entry[1:] for entry in entries if entry[0] == field] for _, entries in rows]
        assert table[f"field_{field}"].to_pylist() == [[index for index, _ in entries] for entries in own]
        assert table[f"field_{field}_value"].to_pylist() == [[value for _, value in entries] for entries in own]
        assert table.schema.field(f"field_{field}_value").metadata == {b"weights_of": f"field_{field}".encode()}


def test_values_are_marked_as_the_weights_of_their_indices(tmp_path):
    path = tmp_path / "a.svm"
    path.write_text("1 3:0.5\n0\n")
    table = read_table(path, ["label", "values"])
    assert table.schema.field("values").metadata == {b"weights_of": b"indices"}
    assert table["values"].to_pylist() == [[0.5], []]


def test_comments_blank_lines_and_carriage_returns_are_skipped():
    table = read(read_libsvm, "# header\r\n1 3:0.5 # first\r\n\r\n  \n0 4:1")
    assert table["label"].to_pylist() == [1, 0]
    assert table["indices"].to_pylist() == [[3], [4]]


def test_several_files_and_blocks_are_read_below_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(libsvm, "_BLOCK_BYTES", 7)
    (tmp_path / "1.libffm").write_text("1 0:1:1\n0 2:2:1 0:5:1\n" * 3)
    (tmp_path / "2.libffm").write_text("1 1:9:0.5\n")
    table = read_table(tmp_path)
    assert table.column_names[1::2] == ["field_0", "field_1", "field_2"]
    assert table["field_0"].to_pylist() == [[1], [5]] * 3 + [[]]
    assert table["field_1"].to_pylist() == [[]] * 6 + [[9]]


@pytest.mark.parametrize("block", [1 << 25, 20], ids=["one block", "many blocks"])
@pytest.mark.parametrize(
    ("reader", "name", "good", "bad"),
    [
        (read_libsvm, "libsvm line, 'label index:value …'", "1 3:0.5 4:1\n", bad)
        for bad in (
            "user,item",
            "1 3",
            "1 3:",
            "1 a:1",
            "1 -3:1",
            "1 3.5:1",
            "1 3:x",
            "1 1:2:3",
            "yes 3:1",
            "1 qid:7 3:1",
            "3:1",
        )
    ]
    + [
        (read_libffm, "libffm line, 'label field:index:value …'", "1 0:3:0.5\n", bad)
        for bad in ("1 3:0.5", "1 0:3:0.5:7", "1 x:3:1", "1 -1:3:1", "1 0:3:", "0:3:1")
    ],
)
def test_a_wrong_line_is_named_by_file_and_number(tmp_path, monkeypatch, reader, name, good, bad, block):
    monkeypatch.setattr(libsvm, "_BLOCK_BYTES", block)
    path = tmp_path / "a.txt"
    path.write_text(good * 4 + "\n# note\n" + bad + "\n" + good + bad)
    with pytest.raises(ValueError, match="is not a lib") as caught:
        reader([path])
    assert str(caught.value) == f"{path}, line 7 is not a {name}: {bad!r}. Correct it or take it out."


def test_a_long_or_binary_line_is_shortened(tmp_path):
    path = tmp_path / "a.svm"
    path.write_bytes(b"\xff" + b"x" * 500)
    with pytest.raises(ValueError, match="line 1 is not a libsvm line") as caught:
        read_libsvm([path])
    assert len(str(caught.value)) < len(str(path)) + 160
