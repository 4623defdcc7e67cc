"""TFRecord files of tf.train.Example, written one by one and read back by the batch."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfm_tfrs.data.readers import tfrecord
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.data.readers.tfrecord import read_tfrecord
from nfm_tfrs.keras_compat import tf

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "bag": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
            "number": st.lists(st.floats(width=32, allow_nan=False), max_size=1),
            "text": st.lists(st.text(max_size=3), max_size=1),
        }
    ),
    min_size=1,
    max_size=10,
)


def feature(values):
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if values and isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded)) if values else tf.train.Feature()


def write(path, rows):
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for row in rows:
            features = tf.train.Features(feature={name: feature(values) for name, values in row.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path


@settings(max_examples=10, deadline=None)
@given(ROWS, st.sampled_from(["a.tfrecord", "a.tfrecord.gz"]))
def test_examples_give_the_values_that_were_written(rows, name):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / name, rows)
        if not any(values for row in rows for values in row.values()):
            with pytest.raises(ValueError, match=rf"holds no value in its first {len(rows)} examples\. Write"):
                read_table(path)
            return
        table = read_table(path)
    for column in ("bag", "number", "text"):
        values = [row[column] for row in rows]
        if not any(values):
            assert column not in table.column_names
        elif max(map(len, values)) <= 1:
            assert table[column].to_pylist() == [value[0] if value else None for value in values]
        else:
            assert table[column].to_pylist() == values


def test_batches_and_files_are_read_below_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "_BATCH_ROWS", 2)
    paths = [
        write(tmp_path / "1.tfrecord", [{"a": [1]}, {"a": [2]}, {"a": [3]}]),
        write(tmp_path / "2.tfrecord", [{"a": [4], "b": ["x", "y"]}]),
    ]
    assert read_tfrecord(paths).to_pydict() == {"a": [1, 2, 3, 4], "b": [[], [], [], ["x", "y"]]}
    assert read_table(paths[0], ["a"]).to_pydict() == {"a": [1, 2, 3]}


def test_bytes_that_are_not_text_stay_bytes(tmp_path):
    assert read_table(write(tmp_path / "a.tfrecord", [{"a": [b"\xff"]}])).to_pydict() == {"a": [b"\xff"]}


def test_a_missing_feature_is_named(tmp_path):
    path = write(tmp_path / "a.tfrecord", [{"genres": [1]}])
    with pytest.raises(ValueError, match="There is no column 'genre'; did you mean 'genres'") as caught:
        read_table(path, ["genre"])
    assert str(caught.value).startswith(f"{path}: ")


def test_a_truncated_file_is_one_clear_line(tmp_path):
    path = write(tmp_path / "a.tfrecord", [{"a": [1]}] * 3)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="is not a whole TFRecord file; it may be truncated") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_a_feature_of_two_types_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="does not hold examples of one form") as caught:
        read_table(write(tmp_path / "a.tfrecord", [{"a": [1]}, {"a": ["x"]}]))
    assert "\n" not in str(caught.value)
    write(tmp_path / "b1.tfrecord", [{"a": [1]}])
    write(tmp_path / "b2.tfrecord", [{"a": ["x"]}])
    with pytest.raises(ValueError, match="Feature 'a' of the examples is of another type in another file"):
        read_table(str(tmp_path / "b?.tfrecord"))


def test_records_that_are_no_examples_are_one_clear_line(tmp_path):
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff\xff")
    with pytest.raises(ValueError, match=r"holds records that are not tf\.train\.Example"):
        read_table(path)


def test_a_file_without_records_has_no_rows(tmp_path):
    with pytest.raises(ValueError, match="has no rows"):
        read_table(write(tmp_path / "a.tfrecord", []))
