"""CSV files: what their text becomes, and what is no table."""

import re

import pyarrow as pa
import pytest

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
