"""Vectors that were learnt elsewhere: the files they are read from, and what is refused."""

import io
import re
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from nfm_tfrs.features.compression import MultiHash
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.vectors import read_vectors, with_vectors

VALUES, ROWS = ["b", "z", "a"], np.float32([[1, 2], [3, 4], [5, 6]])
FILM = CategoricalFeature("film", vocabulary=["a", "b", "c"], free_ids=[2])


def written(path, columns):
    parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2), pa.large_list(pa.float16())])
def test_a_parquet_file_of_any_list_is_read(kind, tmp_path):
    rows = pa.array([list(map(np.float16, row)) for row in ROWS], kind)
    vectors = read_vectors(written(tmp_path / "v.parquet", {"item": VALUES, "vector": rows}), "film")
    assert (vectors.values, vectors.rows.tolist(), vectors.rows.dtype) == (VALUES, ROWS.tolist(), np.float32)


def test_the_column_called_as_the_feature_is_taken_where_there_are_several(tmp_path):
    columns = {"year": [1, 2, 3], "film": VALUES, "vector": ROWS.tolist()}
    path = written(tmp_path / "v.parquet", columns)
    assert read_vectors(path, "film").values == VALUES
    with pytest.raises(ValueError, match="needs one column of vectors and one of values, called 'movie' or alone"):
        read_vectors(path, "movie")


def test_an_npz_file_and_arrays_are_read(tmp_path):
    np.savez(tmp_path / "v.npz", values=np.array(VALUES), rows=ROWS)
    for source in (str(tmp_path / "v.npz"), (VALUES, ROWS), (np.array(VALUES), ROWS.tolist())):
        vectors = read_vectors(source, "film")
        assert (vectors.values, vectors.rows.tolist()) == (VALUES, ROWS.tolist())


def test_values_are_found_by_the_vocabulary_and_a_freed_place_is_nobody_s():
    at, ids = read_vectors((["b", "z", "c", "a"], np.eye(4)), "film").ids(FILM)
    assert (at.tolist(), ids.tolist()) == ([0, 3], [1, 0])
    at, ids = read_vectors(([7, 0, 8, 3], np.eye(4)), "user").ids(CategoricalFeature("user", vocabulary_size=8))
    assert (at.tolist(), ids.tolist()) == ([0, 1, 3], [7, 0, 3])


def test_features_get_the_length_of_their_vectors_and_so_do_those_that_share_their_rows():
    spec = FeatureSpec(
        [
            FILM,
            CategoricalFeature("user", vocabulary_size=8),
            MultiCategoricalFeature("seen", vocabulary=FILM.vocabulary, free_ids=[2], embedding_name="film"),
        ]
    )
    found = with_vectors(spec, {"seen": read_vectors((VALUES, ROWS), "seen")}, frozen=True)
    assert [(one.embedding_dim, one.frozen) for one in found] == [(2, True), (None, False), (2, True)]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("v.csv", "Vectors are read from .parquet and .npz files; received"),
        (3, "are a .parquet or .npz file, or a pair of arrays; received int."),
        ((["a"], [[1.0, np.inf]]), "has a vector that is not finite, of 'a'."),
        ((["a", "b"], [[1.0], [np.nan]]), "has a vector that is not finite, of 'b'."),
        ((["a", "a"], [[1.0], [2.0]]), "has two vectors of 'a'."),
        ((["a", None], [[1.0], [2.0]]), "strings or integers; received None. Leave out the rows without a value."),
        ((np.array([1.0, np.nan]), [[1.0], [2.0]]), "received 1.0. Leave out the rows without a value, and make int"),
        ((["a", True], [[1.0], [2.0]]), "strings or integers; received True. Give the feature's own values."),
        ((["a", "b"], [[1.0]]), "received 2 values and vectors of shape (1, 1)."),
        ((["a", "b"], [[1.0], [2.0, 3.0]]), "needs vectors of numbers, all of one length."),
        ((3, [[1.0]]), "needs a list of values; received int. Give [values]."),
        ((np.array("a"), [[1.0]]), "needs a list of values; received them in shape ()."),
        ((np.array([["a"], ["b"]]), [[1.0], [2.0]]), "needs a list of values; received them in shape (2, 1)."),
        (([], np.zeros([0, 2])), "received 0 values and vectors of shape (0, 2)."),
    ],
)
def test_what_is_no_vectors_is_refused_in_one_line(source, line, tmp_path):
    if isinstance(source, str):
        (tmp_path / source).write_text("a,b\n")
        source = tmp_path / source
    with pytest.raises(ValueError, match=re.escape(line)) as error:
        read_vectors(source, "film")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"film": VALUES}, "called 'film' or alone; it has none and film."),
        ({"film": VALUES, "v": [[1.0], None, [2.0]]}, "has 1 values without a vector."),
        ({"film": VALUES, "v": [[1.0], [1.0, 2.0], [2.0]]}, "all of one length; it has double of [1, 2]."),
        ({"film": VALUES, "v": [["x"], ["y"], ["z"]]}, "needs vectors of numbers, all of one length; it has string"),
        ({"film": VALUES, "v": [[1.0, None], [1.0, 2.0], [2.0, 3.0]]}, "has a vector that is not finite, of 'b'."),
    ],
)
def test_a_parquet_file_of_anything_else_is_refused(columns, line, tmp_path):
    with pytest.raises(ValueError, match=re.escape(line)):
        read_vectors(written(tmp_path / "v.parquet", columns), "film")


def test_files_that_are_not_there_or_damaged_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .* of vectors"):
        read_vectors(tmp_path / "v.npz", "film")
    for name in ("v.npz", "v.parquet"):
        (tmp_path / name).write_bytes(b"nothing of the sort")
        with pytest.raises(ValueError, match=f"{name} is no"):
            read_vectors(tmp_path / name, "film")
    np.savez(tmp_path / "v.npz", values=np.array(VALUES))
    with pytest.raises(ValueError, match="needs arrays called values and rows; it has values"):
        read_vectors(tmp_path / "v.npz", "film")


def whole(save=np.savez):
    file = io.BytesIO()
    save(file, values=np.array(VALUES), rows=ROWS)
    return file.getvalue()


def changed(held, at, bits):
    return held[:at] + bytes([held[at] ^ bits]) + held[at + 1 :]


def array_alone():
    file = io.BytesIO()
    np.save(file, ROWS)
    return file.getvalue()


def of_terabytes():
    file, array = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (10**14, 3)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("values.npy", array.getvalue())
    return file.getvalue()


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(b"", id="empty"),
        pytest.param(of_terabytes(), id="terabytes"),
        pytest.param(whole()[:-30], id="cut"),
        pytest.param(changed(whole(), whole().index(ROWS.tobytes()), 1), id="wrong checksum"),
        pytest.param(changed(whole(np.savez_compressed), 60, 255), id="wrong deflation"),
        pytest.param(changed(whole(), whole().index(b"PK\x01\x02") + 10, 255), id="unknown compression"),
        pytest.param(array_alone(), id="an array alone"),
    ],
)
def test_a_damaged_archive_is_refused_in_one_line(held, tmp_path):
    (tmp_path / "v.npz").write_bytes(held)
    with pytest.raises(ValueError, match=r"v\.npz is no npz file of arrays: [^\n]+\. Give another\.$"):
        read_vectors(tmp_path / "v.npz", "film")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("genre", "There is no feature 'genre' for vectors to be of; there are film, price, bucket, hashed, small."),
        ("price", "Feature 'price' is a number, and has no rows by value."),
        ("bucket", "Feature 'bucket' is a number, and has no rows by value."),
        ("hashed", "Several values of feature 'hashed' share a row"),
        ("small", "Several values of feature 'small' share a row"),
    ],
)
def test_features_without_a_row_for_each_value_are_refused(name, line):
    spec = FeatureSpec(
        [
            FILM,
            NumericFeature("price"),
            NumericFeature("bucket", boundaries=[1.0]),
            CategoricalFeature("hashed", num_hash_buckets=5),
            CategoricalFeature("small", vocabulary_size=50, compression=MultiHash(num_rows=5)),
        ]
    )
    with pytest.raises(ValueError, match=re.escape(line)):
        with_vectors(spec, {name: read_vectors((VALUES, ROWS), name)}, frozen=False)


def test_frozen_features_stay_so_and_vectors_of_another_length_are_refused():
    spec = FeatureSpec([CategoricalFeature("film", vocabulary=["a", "b"], frozen=True)])
    vectors = {"film": read_vectors((VALUES, ROWS), "film")}
    found = with_vectors(spec, vectors, frozen=False)
    assert (found["film"].embedding_dim, found["film"].frozen) == (2, True)
    assert with_vectors(found, vectors, frozen=False) == found
    longer = {"film": read_vectors((VALUES, np.eye(3)), "film")}
    with pytest.raises(
        ValueError, match=r"has vectors of 3 numbers, and feature .film. has embedding_dim=2\. Give it 3"
    ):
        with_vectors(found, longer, frozen=False)


def test_vectors_of_no_known_value_are_refused():
    with pytest.raises(ValueError, match="has no value that feature 'film' knows: its values are such as 1, and"):
        read_vectors(([1, 2], [[1.0], [2.0]]), "film").ids(FILM)
