"""`fit`, `evaluate` and `predict` take rows of any library, and say in one line what they cannot take."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.training import predict
from tfrs_registry import get_model

ROWS = 30
NUMBERS = np.arange(ROWS)
FEATURES = [
    CategoricalFeature("user", vocabulary_size=9),
    CategoricalFeature("city", vocabulary=["Rome", "Oslo"]),
    NumericFeature("price", std=10.0),
    MultiCategoricalFeature("genres", vocabulary=["a", "b"]),
]
FRAME = pd.DataFrame(
    {
        "user": NUMBERS % 11,
        "city": np.where(NUMBERS % 3, "Rome", "Paris"),
        "price": np.where(NUMBERS % 5, NUMBERS * 1.0, np.nan),
        "genres": [["a", "b"][: row % 3] for row in NUMBERS],
        "y": NUMBERS % 2,
        "note": [object()] * ROWS,  # which no feature reads
    },
    index=NUMBERS[::-1],
)
PLAIN = {
    "user": FRAME["user"].to_numpy(),
    "city": FRAME["city"].to_numpy(str),
    "price": FRAME["price"].to_numpy(),
    "genres": tf.ragged.constant(FRAME["genres"].tolist(), tf.string, ragged_rank=1),
    "y": FRAME["y"].to_numpy(),
}


class Stream:
    """What polars hands over: Arrow's C stream, of strings as views."""

    def __init__(self, table):
        self._table = table.set_column(1, "city", table["city"].cast(pa.string_view()))

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


READ = FRAME.drop(columns="note")
FORMS = {
    "DataFrame": FRAME,
    "nullable": READ.astype({"user": "Int64", "price": "Float64", "city": "string", "y": "boolean"}),
    "categories": READ.astype({"user": "category", "city": "category"}),
    "dict of Series": dict(FRAME.items()),
    "dict of lists": {name: FRAME[name].tolist() for name in READ},
    "some arrays": {**PLAIN, "city": FRAME["city"], "genres": FRAME["genres"]},
    "list of dicts": FRAME.to_dict("records"),
    "table": pa.Table.from_pandas(READ),
    "stream": Stream(pa.Table.from_pandas(READ, preserve_index=False)),
}


def model(**config):
    tf.keras.utils.set_random_seed(1)
    made = RankingModel(FEATURES, embedding_dim=2, hidden_units=(), **config)
    made.compile()
    return made


@pytest.fixture(scope="module")
def fitted():
    made = model(label="y")
    made.fit(PLAIN, verbose=0)
    return made


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_any_library_give_what_arrays_give(fitted, form):
    rows, labels = FORMS[form], FRAME["y"].astype("float32")

    np.testing.assert_array_equal(
        fitted.predict(rows, batch_size=8, verbose=0), fitted.predict(PLAIN, batch_size=8, verbose=0)
    )
    np.testing.assert_allclose(predict(fitted, rows), fitted.predict(PLAIN, verbose=0)[:, 0], atol=1e-6)
    assert fitted.evaluate(rows, verbose=0) == fitted.evaluate(PLAIN, verbose=0)
    assert fitted.evaluate(rows, labels, verbose=0) == fitted.evaluate(PLAIN, verbose=0)


def test_a_frame_trains_as_its_arrays_do():
    weights = FRAME["price"].fillna(1.0)
    inside, beside = model(label="y"), model()

    how = {"batch_size": 7, "shuffle": False, "verbose": 0}
    first = inside.fit(PLAIN, sample_weight=weights.to_numpy(), validation_data=PLAIN, **how)
    second = beside.fit(FRAME, FRAME["y"], sample_weight=weights, validation_data=(FRAME, FRAME["y"].tolist()), **how)
    assert first.history == second.history
    again = model(label="y").fit(FRAME, sample_weight=weights, validation_data=FRAME, **how)
    assert again.history == first.history
    unweighted = model(label="y").fit(FRAME, validation_data=FRAME, **how)
    assert unweighted.history != first.history


def test_a_model_without_features_infers_them_from_a_frame():
    made = RankingModel(embedding_dim=2, hidden_units=(), label="y")
    made.compile()
    made.fit(READ, verbose=0)

    assert made.features.names == ("user", "city", "price", "genres")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "^The model reads columns by their names, in a dict .* received NoneType."),
        (np.zeros([3, 4]), "received ndarray."),
        (tf.zeros([3, 4]), "received EagerTensor."),
        ([object()], "received list of object."),
        ([PLAIN["user"], PLAIN["price"]], "received list of ndarray."),
        ("rows.parquet", "received the path 'rows.parquet'. Read it with read_table."),
        (FRAME["user"], "received Series"),
        (READ.drop(columns="city"), "^There is no column 'city', which the model reads. The data has 'user', 'price'"),
        (READ.rename(columns={"city": "City"}), "no column 'city', which the model reads; did you mean 'City'?"),
        (READ.iloc[:0], "^The columns have no rows. Give at least one."),
        (READ.assign(city=[1, "a"] * 15), "^Column 'city' is not of one type: "),
        (READ.assign(user=0.5), "^Column 'user' is 0.5 in row 0, but categories are strings or whole numbers."),
        ({**PLAIN, "user": {"a": [1]}}, "^Column 'user' is a dict, but a column is "),
        ({**PLAIN, "user": PLAIN["user"][:3]}, "must be of one length; received user 3, city 30, price 30, genres 30"),
        ({**PLAIN, "user": np.zeros([ROWS, 2, 2], int)}, r"^Feature 'user' takes one .* received shape \(1, 2, 2\)"),
        ({**PLAIN, "user": np.zeros([ROWS, 2], int)}, r"^Feature 'user' takes one .* received shape \(1, 2\)"),
        ({**PLAIN, "price": 3.0}, "^Column 'price' is a float, but a column is "),
        ({**PLAIN, "price": np.array(3.0)}, r"^Feature 'price' takes one .* received shape \(\)"),
        ({**PLAIN, "price": PLAIN["city"]}, "^Feature 'price' is a number; received strings."),
        ({**PLAIN, "user": np.zeros(ROWS, "M8[s]")}, "^Column 'user' is timestamp.s., but categories are"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_go_in_is_said_in_one_line(fitted, rows, message):
    for call in (fitted.predict, fitted.evaluate, fitted.fit):
        with pytest.raises(ValueError, match=message) as caught:
            call(rows, verbose=0)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "^Training and evaluation need labels; received columns only."),
        (["a"] * ROWS, "^The label is string, but it has to be numbers."),
        ([1, None] * 15, "^The label has no value in 15 of 30 rows, the first in row 1."),
        ([1, 0], "must be of one length; received user 30, city 30, price 30, genres 30, label 2."),
        ("y", "^The label is an array of numbers; received 'y'."),
    ],
)
def test_labels_that_cannot_be_are_said_in_one_line(labels, message):
    made = model()
    for call in (made.fit, made.evaluate):
        with pytest.raises(ValueError, match=message):
            call(FRAME, labels, verbose=0)


def test_a_label_inside_that_is_not_there_is_named(fitted):
    with pytest.raises(ValueError, match="There is no column 'y', which the label reads"):
        fitted.fit(FRAME.drop(columns="y"), verbose=0)


def test_probabilities_are_those_of_the_logits(fitted):
    found = fitted.predict_proba(FRAME, verbose=0)

    assert (found.dtype, found.shape) == (np.float32, (ROWS,))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-fitted.predict(PLAIN, verbose=0)[:, 0])), rtol=1e-6)
    with pytest.raises(ValueError, match=r"^A probability is of a binary model; RankingModel predicts numbers."):
        model(task="regression").predict_proba(FRAME)


@pytest.mark.parametrize("kind", ["arrays", "frame", "dataset"])
def test_class_weights_count_where_the_label_lies_inside(kind):
    weights = np.where(PLAIN["y"] == 1, 9.0, 1.0).astype(np.float32)
    beside = tf.data.Dataset.from_tensors((PLAIN, PLAIN["y"], weights))
    wanted = model().fit(beside, verbose=0, epochs=2).history["loss"]

    data = {"arrays": PLAIN, "frame": FRAME, "dataset": tf.data.Dataset.from_tensors(PLAIN)}[kind]
    found = model(label="y").fit(data, verbose=0, epochs=2, class_weight={0: 1.0, 1: 9.0}).history["loss"]

    assert found == pytest.approx(wanted, rel=1e-5)


def test_class_weights_and_weights_of_one_value_a_row_are_multiplied():
    given = np.linspace(0.5, 2.0, ROWS, dtype=np.float32)
    product = given * np.where(PLAIN["y"] == 1, 9.0, 1.0)
    wanted = model(label="y").fit(PLAIN, verbose=0, sample_weight=product).history["loss"]

    for shape in ([ROWS], [ROWS, 1]):
        found = model(label="y").fit(
            PLAIN, verbose=0, sample_weight=given.reshape(shape), class_weight={0: 1.0, 1: 9.0}
        )
        assert found.history["loss"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("shape", [[-1], [-1, 1]])
def test_class_weights_and_weights_of_batches_are_multiplied(shape):
    given = np.linspace(0.5, 2.0, ROWS, dtype=np.float32)
    product = given * np.where(PLAIN["y"] == 1, 9.0, 1.0)
    wanted = model(label="y").fit(PLAIN, verbose=0, sample_weight=product).history["loss"]

    rows = (PLAIN, PLAIN["y"].reshape(shape), given.reshape(shape))
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(ROWS)
    found = model().fit(batches, verbose=0, class_weight={0: 1.0, 1: 9.0})

    assert found.history["loss"] == pytest.approx(wanted, rel=1e-5)


def test_a_class_without_a_weight_is_named(fitted):
    with pytest.raises(ValueError, match=r"^class_weight has no weight of the label 1; received \{0: 1.0\}"):
        fitted.fit(PLAIN, sample_weight=np.ones(ROWS), class_weight={0: 1.0}, verbose=0)
    labels = np.arange(ROWS) % 2
    columns = {name: column for name, column in PLAIN.items() if name != "y"}
    for parts in ((columns, labels), (columns, labels, np.ones(ROWS, np.float32))):
        with pytest.raises(ValueError, match=r"^The class_weight \{0: 1.0\} has no weight of a label that there is"):
            fitted.fit(tf.data.Dataset.from_tensors(parts), class_weight={0: 1.0}, verbose=0)


def test_class_weights_are_refused_where_the_label_cannot_be_taken_out(fitted):
    with pytest.raises(ValueError, match=r"^class_weight needs the label 'y' beside the columns; received generator."):
        fitted.fit((PLAIN for _ in range(1)), class_weight={0: 1.0, 1: 2.0}, verbose=0)


@pytest.mark.parametrize("name", ["load_weights", "save_weights", "summary", "count_params", "predict", "evaluate"])
def test_a_model_without_features_says_what_is_missing(name, tmp_path):
    arguments = {"load_weights": [tmp_path / "w"], "save_weights": [tmp_path / "w"], "predict": [PLAIN]}
    made = get_model("nfm")
    made.compile()

    with pytest.raises(ValueError, match=r"^This model does not know its features yet. Pass features="):
        getattr(made, name)(*arguments.get(name, [PLAIN] if name == "evaluate" else []))
    assert not list(tmp_path.iterdir())
