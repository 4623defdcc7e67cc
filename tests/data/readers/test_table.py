"""Files and frames to Arrow: what goes in comes out, and what is wrong is said in one line."""

import base64
import gzip
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv

from nfm_tfrs.data.readers.parquet import ParquetFiles
from nfm_tfrs.data.readers.table import find_files, iterate_batches, read_table
from nfm_tfrs.features.check import Bag
from nfm_tfrs.features.spec import FeatureSpec

INTEGERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
FLOATS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32))
TEXTS = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=4))
BAGS = st.one_of(st.none(), st.lists(INTEGERS, max_size=3))
TABLES = st.lists(st.tuples(INTEGERS, FLOATS, TEXTS, BAGS), min_size=1, max_size=12).map(
    lambda rows: pa.table(
        {
            "i": pa.array([row[0] for row in rows], pa.int64()),
            "f": pa.array([row[1] for row in rows], pa.float32()),
            "s": pa.array([row[2] for row in rows], pa.string()),
            "b": pa.array([row[3] for row in rows], pa.list_(pa.int64())),
        }
    )
)
SMALL = pa.table({"a": [1, 2, 3], "b": ["x", "y", None]})


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "small.parquet"
    pq.write_table(SMALL, path)
    return path


def error(kind, source, *arguments, **keywords):
    with pytest.raises(kind) as caught:
        read_table(source, *arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings(max_examples=40, deadline=None)
@given(TABLES, st.integers(1, 5), st.integers(1, 5))
def test_parquet_gives_the_table_that_was_written(table, group_rows, batch_rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        pq.write_table(table, path, row_group_size=group_rows)
        assert read_table(path).to_pylist() == table.to_pylist()
        streamed = list(iterate_batches(path, batch_rows=batch_rows))
        assert max(batch.num_rows for batch in streamed) <= batch_rows
        assert [row for batch in streamed for row in batch.to_pylist()] == table.to_pylist()
        assert read_table(path, ["s", "b"]).to_pylist() == table.select(["s", "b"]).to_pylist()
        batches = list(iterate_batches(path, ["s", "b"]))
        assert [row for batch in batches for row in batch.to_pylist()] == table.select(["s", "b"]).to_pylist()


@settings(max_examples=40, deadline=None)
@given(TABLES, st.booleans(), st.booleans())
def test_csv_gives_the_table_that_was_written(table, tabs, zipped):
    texts = pa.array([None if text is None else f"s{text}" for text in table["s"].to_pylist()], pa.string())
    table = table.drop_columns(["b", "s"]).append_column("s", texts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (("table.tsv" if tabs else "table.csv") + (".gz" if zipped else ""))
        with gzip.open(path, "wb") if zipped else path.open("wb") as file:
            csv.write_csv(table, file, csv.WriteOptions(delimiter="\t" if tabs else ",", quoting_style="needed"))
        read = read_table(path)
        if any(texts.to_pylist()):
            assert read["s"].to_pylist() == [text or "" for text in texts.to_pylist()]
        for name, kind in (("i", pa.int64()), ("f", pa.float32())):
            assert read[name].cast(kind).to_pylist() == table[name].to_pylist()


@settings(max_examples=40, deadline=None)
@given(TABLES)
def test_a_data_frame_and_a_dict_give_their_columns(table):
    rows = table.to_pydict()
    assert read_table(rows).to_pydict() == rows
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    read = read_table(frame)
    assert read["i"].to_pylist() == rows["i"]
    assert read["s"].to_pylist() == rows["s"]
    assert read["f"].cast(pa.float32()).to_pylist() == rows["f"]
    lists = [
        None if bag is None else [int(value) for value in bag if value is not None] for bag in read["b"].to_pylist()
    ]
    if all(value is not None for bag in rows["b"] for value in bag or []):  # pandas turns nulls in lists into NaN
        assert lists == rows["b"]


def test_a_dict_takes_arrays_of_two_axes_lists_and_bags():
    table = read_table(
        {
            "matrix": np.array([[1, 2], [3, 4]]),
            "lists": [["x"], []],
            "bag": Bag(np.array([5, 6]), np.array([0, 0, 2])),
            "bytes": np.array([b"u", b"v"]),
            "column": np.array([[1.5], [2.5]], np.float32),
        }
    )
    assert table.to_pydict() == {
        "matrix": [[1, 2], [3, 4]],
        "lists": [["x"], []],
        "bag": [[], [5, 6]],
        "bytes": [b"u", b"v"],
        "column": [[1.5], [2.5]],
    }


def test_an_arrow_table_stays_itself():
    assert read_table(SMALL) is SMALL
    assert read_table(SMALL, ["b", "a"]).column_names == ["b", "a"]
    assert read_table(SMALL.to_batches()[0]) == SMALL
    assert [batch.num_rows for batch in iterate_batches(SMALL, batch_rows=2)] == [2, 1]


def test_repeating_strings_of_parquet_come_as_dictionary(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"few": ["x", "y"] * 500, "many": [f"{n:030}" for n in range(1000)]})
    pq.write_table(table, path)
    read = read_table(path)
    assert pa.types.is_dictionary(read.schema.field("few").type)
    assert read.schema.field("many").type == pa.string()
    assert read.to_pydict() == table.to_pydict()


def test_files_of_a_list_a_folder_and_a_pattern_are_read_below_each_other(tmp_path):
    for name, table in (("1.parquet", SMALL), ("2.parquet", SMALL.slice(0, 1)), ("_3.parquet", SMALL)):
        pq.write_table(table, tmp_path / name)
    (tmp_path / "notes.md").write_text("not data")
    rows = [1, 2, 3, 1]
    assert read_table(tmp_path)["a"].to_pylist() == rows
    assert read_table(str(tmp_path / "?.parquet"))["a"].to_pylist() == rows
    assert read_table([tmp_path / "2.parquet", tmp_path / "1.parquet"])["a"].to_pylist() == [1, 1, 2, 3]


def test_types_are_widened_where_files_differ(tmp_path):
    pq.write_table(pa.table({"a": pa.array([1], pa.int32())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": pa.array([2**40], pa.int64())}), tmp_path / "2.parquet")
    assert read_table(tmp_path)["a"].to_pylist() == [1, 2**40]


def test_files_whose_columns_differ_in_type_are_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [[1]]}), tmp_path / "2.parquet")
    with pytest.raises(ValueError, match=r"^The columns of \S+1\.parquet and the files after it differ in type: "):
        read_table(tmp_path)


def test_format_says_what_the_suffix_does_not(tmp_path):
    path = tmp_path / "part-0"
    pq.write_table(SMALL, path)
    assert read_table(path, format="parquet") == SMALL
    assert read_table(tmp_path, format="parquet") == SMALL
    assert [batch.num_rows for batch in iterate_batches(path, format="parquet")] == [3]


def test_a_row_group_is_read_in_batches_with_the_number_of_their_first_row(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(10)}), path, row_group_size=6)
    files = ParquetFiles([path])
    read = [(group.number, row, batch.num_rows) for group, row, batch in files.batches(reversed(files.row_groups), 4)]
    assert read == [(1, 6, 4), (0, 0, 4), (0, 4, 2)]
    assert files.num_rows == 10


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.int64())], ids=str)
def test_a_missing_column_is_named_with_the_nearest_one(tmp_path, kind):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"genres": pa.nulls(1, kind)}), path)
    line = f"{path}: There is no column 'genre'; did you mean 'genres'? The data has 'genres'."
    assert error(ValueError, path, ["genre"]) == line
    assert error(ValueError, {"genres": [1]}, ["genre"]) == line.removeprefix(f"{path}: ")
    (tmp_path / "a.csv").write_text("genres\n1\n")
    assert error(ValueError, tmp_path / "a.csv", ["genre"]) == line.replace(".parquet", ".csv")


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "none.parquet"
    assert error(FileNotFoundError, path) == f"There is no file {path}. Check the path."
    pattern = str(tmp_path / "*.parquet")
    assert error(FileNotFoundError, pattern) == f"No file matches {pattern!r}. Check the pattern."
    assert error(FileNotFoundError, tmp_path).startswith(f"Folder {tmp_path} holds no file that ends in .parquet, .pq,")
    assert error(FileNotFoundError, []) == "The list of files is empty. Give at least one path."


def test_a_name_that_is_no_utf8_is_said_to_be_damage(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"name": [1, 2]}), path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"name", b"\xf2ame"))
    for read in (read_table, FeatureSpec.from_parquet):
        with pytest.raises(ValueError, match=r"rows.parquet is not a whole Parquet file; it may be"):
            read(path)


def test_a_truncated_parquet_is_said_to_be_one(tmp_path, parquet):
    whole = parquet.read_bytes()
    path = tmp_path / "cut.parquet"
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        line = error(ValueError, path)
        assert line.startswith(f"{path} is not a whole Parquet file; it may be truncated. Write it again. (")


def test_a_parquet_damaged_behind_its_footer_is_said_to_be_one(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(1000)}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(bytes(content))
    assert error(ValueError, path).startswith(f"{path} is not a whole Parquet file; it may be truncated.")
    with pytest.raises(ValueError, match="is not a whole Parquet file"):
        list(iterate_batches(path))


@pytest.mark.parametrize("kind", ["csv", "tsv", "libsvm", "libffm", "tfrecord"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "plain"])
def test_a_damaged_compressed_file_is_one_line_that_names_it(tmp_path, kind, damage):
    path = tmp_path / f"a.{kind}.gz"
    rows = {"csv": "u,y\n" + "3,1\n5,0\n" * 99, "tsv": "u\ty\n" + "3\t1\n" * 99}
    text = rows.get(kind, ("1 0:3:1\n0 0:5:1\n" if kind == "libffm" else "1 3:1\n0 5:0.5\n") * 99).encode()
    whole = gzip.compress(text, mtime=0)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    path.write_bytes({"cut": whole[:-9], "flipped": bytes(flipped), "plain": text}[damage])
    line = error(ValueError, path)
    assert line.startswith(
        f"{path} is not a whole {'TFRecord' if kind == 'tfrecord' else 'gzip'} file; it may be trunc"
    )
    assert "\n" not in line


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_two_columns_of_a_name_are_refused_where_they_are_read(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    table = pa.table([["a"] * 9, ["b"] * 9, [3] * 9], names=["user", "user", "item"])
    pq.write_table(table, path) if kind == "parquet" else csv.write_csv(table, path)
    line = f"{path} has two columns 'user'. Give each a name of its own."
    assert error(ValueError, path) == line
    assert error(ValueError, path, ["user"]) == line
    assert read_table(path, ["item"]).to_pydict() == {"item": [3] * 9}


def test_a_table_with_two_columns_of_a_name_is_refused():
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["user", "user"])
    for data in (batch, pa.Table.from_batches([batch])):
        line = f"The {type(data).__name__} has two columns 'user'. Give each a name of its own."
        assert error(ValueError, data) == line


@pytest.mark.parametrize("from_file", [True, False])
def test_views_of_strings_are_read_as_strings(tmp_path, from_file):
    rows = {"s": ["a", None], "b": [b"a", b"b"], "l": [["a"], []], "i": [1, 2]}
    kinds = {"s": pa.string_view(), "b": pa.binary_view(), "l": pa.list_(pa.string_view()), "i": pa.int64()}
    table = pa.table({name: pa.array(values, kinds[name]) for name, values in rows.items()})
    pq.write_table(table, tmp_path / "a.parquet")
    read = read_table(tmp_path / "a.parquet" if from_file else table)
    expected = [pa.large_string(), pa.large_binary(), pa.list_(pa.field("element", pa.large_string())), pa.int64()]
    assert [field.type for field in read.schema] == expected
    assert read.take([1, 0]).to_pydict() == {name: values[::-1] for name, values in rows.items()}


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "b.csv", "a.libsvm", "a.libffm"])
def test_a_file_without_rows_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_text("a,b\n" if name == "b.csv" else "")
    if name == "a.parquet":
        pq.write_table(SMALL.slice(0, 0), path)
    assert error(ValueError, path) == f"{path} has no rows. Give " + (
        "a file with at least one." if name in ("a.parquet", "a.csv") else "data with at least one."
    )


def test_data_without_rows_is_refused():
    assert error(ValueError, {"a": []}) == "The dict has no rows. Give data with at least one."
    assert error(ValueError, pd.DataFrame({"a": []})) == "The DataFrame has no rows. Give data with at least one."


def test_an_unknown_suffix_or_format_lists_the_known(tmp_path, parquet):
    path = shutil.copy(parquet, tmp_path / "a.dat")
    line = error(ValueError, path)
    assert line.startswith(f"The suffix of {path} says no format; known are .parquet, .pq, .csv, .tsv,")
    assert line.endswith("Give format=, one of parquet, csv, tsv, libsvm, libffm, tfrecord.")
    assert error(ValueError, path, format="xls").endswith("received 'xls'.")
    assert error(ValueError, [parquet, _csv(tmp_path)]) == (
        "The files are of several formats: csv, parquet. Read them one format at a time."
    )


def _csv(folder):
    path = folder / "b.csv"
    path.write_text("a\n1\n")
    return path


def test_columns_of_different_length_or_mixed_type_are_one_clear_line():
    assert error(ValueError, {"a": [1], "b": [1, 2]}) == "The columns must be of one length; received a 1, b 2."
    assert error(ValueError, {"a": [1, "x"]}).startswith("Column 'a' is not of one type: ")
    assert error(ValueError, pd.DataFrame({"a": [1, "x"]})).startswith("Column 'a' is not of one type: ")
    assert error(ValueError, 7) == (
        "Data is a DataFrame (pandas, or with Arrow's C stream as polars has), a dict of columns, a list of dicts, an "
        "Arrow table, or, where files are read, a path or a list of paths; received int."
    )


@pytest.mark.parametrize("source", [dict, pd.DataFrame])
def test_whole_numbers_of_python_beyond_int64_are_uint64(source):
    table = read_table(source({"id": [2**63 + 1, 3]}))
    assert (table["id"].type, table["id"].to_pylist()) == (pa.uint64(), [2**63 + 1, 3])


def test_whole_numbers_of_python_of_more_than_64_bits_are_refused():
    with pytest.raises(ValueError, match=r"^Column 'id' is not of one type: .* Give it one type\.$"):
        read_table({"id": [2**64, 3]})


def test_find_files_opens_the_home_folder(tmp_path, monkeypatch, parquet):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_files("~/small.parquet") == [parquet]


# A column of strings in whose sizes one bit is flipped.
DAMAGED_SIZES = (
    "UEFSMRUEFRQVFEwVBBUAEgAAAQAAAGEBAAAAYhUAFRIVEiwVCBUQFQYVBhw2ACgBYhgBYRERAAAAAgAAAAgBAQMEFQQZLDUA"
    "GAZzY2hlbWEVAgAVDCQCGAFjJQBMHAAAABYIGRwZHCYAHBUMGTUABhAZGAFjFQAWCBZ8FnwmOCYIHDYAKAFiGAFhEREAGSwV"
    "BBUAFQIAFQAVEBUCADwWCBkGGSYACAAAABZ8FggmCBZ8ACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZHBwA"
    "AACYAAAAUEFSMQ=="
)


def test_sizes_at_which_arrow_ends_the_process_are_one_line(tmp_path):
    (tmp_path / "damaged.parquet").write_bytes(base64.b64decode(DAMAGED_SIZES))
    with pytest.raises(ValueError, match=r"damaged.parquet is not a whole Parquet file; .* histogram size mismatch"):
        read_table(tmp_path / "damaged.parquet")
