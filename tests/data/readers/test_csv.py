"""CSV files: what their text becomes, and what is no table."""

import gzip
import re

import pyarrow as pa
import pytest

from nfm_tfrs.data.readers import leading_zeros
from nfm_tfrs.data.readers.table import read_table


def test_csv_strings_survive(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,text\n7,"a, ""b"""\n,ÿ\n8,\n', encoding="utf-8")
    assert read_table(path).to_pydict() == {"id": [7, None, 8], "text": ['a, "b"', "ÿ", ""]}


def test_a_csv_column_that_turns_to_text_late_is_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "12345678\n" * 150_000 + "x\n")  # more than one block of integers
    assert read_table(path)["a"][-1].as_py() == "x"


def test_a_csv_that_is_no_table_is_one_clear_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is not a table: "):
        read_table(path)


@pytest.mark.parametrize("types", [{}, {"id": "int64", "n": "int64"}], ids=["guessed", "declared"])
def test_whole_numbers_beyond_int64_keep_their_digits(types, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"x,id,n\n1.5,{2**63 + 1},{2**64 - 2}\n2.5,3,\n")
    table = read_table(path, types=types)
    assert table.schema.types == [pa.float64(), pa.uint64(), pa.uint64()]
    assert table.to_pydict() == {"x": [1.5, 2.5], "id": [2**63 + 1, 3], "n": [2**64 - 2, None]}


def test_other_numbers_beyond_int64_stay_float64(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1e19,18446744073709551616\n0.5,1\n")
    assert read_table(path).to_pydict() == {"x": [1e19, 0.5], "y": [2.0**64, 1.0]}


def test_a_header_that_is_no_text_is_one_clear_line(tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"caf\xe9,click\n1,0\n")
    with pytest.raises(ValueError, match=r"latin.csv is no text in UTF-8: byte 0xe9 in the names of its columns"):
        read_table(tmp_path / "latin.csv")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv"])
def test_whole_numbers_that_begin_with_zeros_stay_text(tmp_path, suffix):
    path = tmp_path / f"codes{suffix}"

    def read(first, **arguments):
        text = f"zip,quoted,user,price,born,empty\n{first},01,0,0.05,2020-01-01,\n" + "".join(
            f'{k},"{k % 90 + 10}",{k * 10},{k}.05,2020-01-{k % 28 + 1:02d},{"" if k % 2 else k}\n'
            for k in range(700, 900)
        )
        text = text.replace(",", "\t") if suffix == ".tsv" else text
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
        return read_table(path, **arguments)

    types = ["string", "string", "int64", "double", "date32[day]", "int64"]
    assert [str(kind) for kind in read("007").schema.types] == types
    assert [str(kind) for kind in read("7").schema.types] == ["int64", *types[1:]]
    assert read("007")["zip"].to_pylist()[:2] == ["007", "700"]
    assert read("007", types={"zip": "int64"})["zip"][0].as_py() == 7  # as an older model was trained
    assert read("007", types={"zip": "number"})["zip"].type == pa.int64()
    assert read("007", columns=["user"])["user"].type == pa.int64()


def test_a_column_that_is_text_in_one_file_is_text_in_all(tmp_path):
    (tmp_path / "a.csv").write_text("zip,user\n700,1\n800,2\n")
    (tmp_path / "b.csv").write_text("zip,user\n007,1\n800,3\n")
    table = read_table(tmp_path)
    assert table["zip"].to_pylist() == ["700", "800", "007", "800"]
    assert table["user"].to_pylist() == [1, 2, 1, 3]


@pytest.mark.parametrize("block", [1, 2, 3, 64])
def test_a_zero_at_the_end_of_a_block_is_seen(tmp_path, monkeypatch, block):
    monkeypatch.setattr(leading_zeros, "_BLOCK", block)
    path = tmp_path / "a.csv"
    for text, expected in (("u,v\n10,0\n1,2\n", False), ("u,v\n10,3\n1,02\n", True), ("0.5,10.05,100\n", False)):
        path.write_text(text)
        assert leading_zeros.may_hold(path, ",") is expected
