"""What the readers refuse, `fit` refuses: in every way to train and to evaluate, in one line."""

import numpy as np
import pytest

from nfm_tfrs.features.encoder import IDS, FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel

FEATURES = [
    CategoricalFeature("c", vocabulary_size=5),
    NumericFeature("price", mean=1.0, std=2.0),
    NumericFeature("age"),
    MultiCategoricalFeature("bag", vocabulary_size=5, weights="trust"),
]
ROWS = 6


def columns(**changed):
    found = {
        "c": np.arange(ROWS) % 5,
        "price": np.linspace(0, 5, ROWS).astype(np.float32),
        "age": np.r_[np.nan, np.arange(ROWS - 1.0)],
        "bag": tf.ragged.constant([[1], [], [2, 3], [4], [0], [-1]], dtype=tf.int64),
        "trust": tf.ragged.constant([[1.0], [], [2.0, 3.0], [4.0], [0.0], [5.0]]),
    }
    return found | changed


def at(row, value, like=None):
    values = np.arange(ROWS) % 2 if like is None else like
    values = values.astype(np.float32)
    values[row] = value
    return values


def model(**arguments):
    keras.utils.set_random_seed(0)
    made = RankingModel(FEATURES, embedding_dim=2, hidden_units=(3,), **{"batch_norm": True, **arguments})
    made.compile(run_eagerly=True)
    return made


WRONG = {
    "label": (
        columns(),
        at(3, -1),
        None,
        r"The label is -1 in row 3 of {}, but a binary one is 0, 1 or between them\.",
    ),
    "rating": (columns(), at(2, 4.5), None, r"The label is 4\.5 in row 2 of {}, .* as label>=1 does, or make the mo"),
    "no label": (columns(), at(5, np.nan), None, r"The label is nan in row 5 of {}\. Drop the row, or give it a fini"),
    "weight": (columns(), at(0, 1), at(4, -0.5), r"The weight is -0\.5 in row 4 of {}\. Give finite weights of 0 or m"),
    "no weight": (columns(), at(0, 1), at(1, np.nan), r"The weight is nan in row 1 of {}\. Give finite weights"),
    "infinite weight": (columns(), at(0, 1), at(1, np.inf), r"The weight is inf in row 1 of {}\. Give finite"),
    "infinite": (
        columns(price=at(3, -np.inf)),
        at(0, 1),
        None,
        r"Column 'price' is -inf in row 3 of {}\. Clip it, or set it to NaN for missing\.",
    ),
    "infinite of 64 bits": (
        columns(age=np.r_[np.arange(ROWS - 1.0), np.inf][:, None]),
        at(0, 1),
        None,
        r"Column 'age' is inf in row 5 of {}\.",
    ),
    "infinite, sparse": (
        columns(age=tf.SparseTensor([[1, 0], [4, 0]], [1.0, np.inf], [ROWS, 1])),
        at(0, 1),
        None,
        r"Column 'age' is inf in row 4 of {}\.",
    ),
    "weight in a bag": (
        columns(trust=tf.ragged.constant([[1.0], [], [2.0, np.nan], [4.0], [0.0], [1.0]])),
        at(0, 1),
        None,
        r"A weight in column 'trust' is nan in row 2 of {}\. Give finite numbers\.",
    ),
    "empty": (
        {name: column[:0] for name, column in columns().items()},
        at(0, 1)[:0],
        None,
        r"(Batch 11 of epoch 1|The batch) is empty: it has no row\. Leave it out\.",
    ),
    "bag rows": (
        columns(bag=columns()["bag"][:5], trust=columns()["trust"][:5]),
        at(0, 1),
        None,
        r"Column 'bag' has 5 rows, but column 'c' has 6\. Give all columns, the label and the weight one value, or one",
    ),
    "bag weights": (
        columns(trust=tf.ragged.constant([[1.0], [2.0], [3.0], [4.0], [0.0], [1.0]])),
        at(0, 1),
        None,
        r"Column 'trust' weighs 'bag', but row 1 of {} has 1 weights for 0 values\. Give each value one weight\.",
    ),
    "labels": (columns(), at(0, 1)[:1], None, r"The label has 1 row, but column 'c' has 6\. Give all columns,"),
    "weights": (columns(), at(0, 1), at(0, 1)[:1], r"The weight has 1 row, but column 'c' has 6\. Give all"),
    "text": (columns(), np.array(["a"] * ROWS), None, r"The label is a number; received string\. Turn it into one"),
}


def batch(name):
    given, labels, weights, line = WRONG[name]
    return (given, labels) if weights is None else (given, labels, weights), line


def tensors(data):
    composite = tf.RaggedTensor | tf.SparseTensor
    return tf.nest.map_structure(lambda part: part if isinstance(part, composite) else tf.constant(part), data)


@pytest.fixture(scope="module")
def eager():
    return model()


@pytest.mark.parametrize("name", WRONG)
def test_a_step_refuses_it_and_moves_nothing(eager, name):
    data, line = batch(name)
    before = eager.get_weights()
    for step in (eager.train_step, eager.test_step):
        with pytest.raises(ValueError, match=line.format("the batch")) as caught:
            step(tensors(data))
        assert "\n" not in str(caught.value)
    for left, right in zip(eager.get_weights(), before, strict=True):
        np.testing.assert_array_equal(left, right)


IN_THE_GRAPH = [name for name in WRONG if name not in ("infinite of 64 bits", "infinite, sparse", "text")]


@pytest.fixture(scope="module")
def trained():
    one = model()
    one.compile()
    return one


def batches(name=None):
    """Ten good batches, of lengths that the graph does not know, and the wrong one."""
    good = (columns(), at(0, 1), np.ones(ROWS, np.float32))
    fewer = tf.nest.map_structure(lambda part: part[:-1], good)
    data = tf.data.Dataset.from_tensors(good).repeat(9).concatenate(tf.data.Dataset.from_tensors(fewer))
    if name is None:
        return data
    (given, labels, *weights), _ = batch(name)
    weights = weights or [np.ones(len(labels), np.float32)]
    return data.concatenate(tf.data.Dataset.from_tensors((given, labels, *weights)))


@pytest.mark.parametrize("name", IN_THE_GRAPH)
def test_fit_refuses_it_in_any_step_and_keeps_what_it_has_learned(trained, name):
    line = batch(name)[1]
    with pytest.raises(ValueError, match=line.format("batch 11 of epoch 1")) as caught:
        trained.fit(batches(name), epochs=2, verbose=0)
    assert "\n" not in str(caught.value)
    assert all(np.isfinite(weight).all() for weight in trained.get_weights())


def test_the_epoch_is_named_whatever_the_first_was(trained):
    with pytest.raises(ValueError, match=r"in row 3 of batch 11 of epoch 5, but"):
        trained.fit(batches("label"), epochs=9, initial_epoch=4, verbose=0)


@pytest.mark.parametrize("name", ["label", "infinite", "bag rows"])
def test_evaluate_refuses_it(trained, name):
    with pytest.raises(ValueError, match=batch(name)[1].format("the batch")):
        trained.evaluate(batches(name), verbose=0)


@pytest.mark.parametrize("name", ["bag rows", "bag weights"])
def test_predict_refuses_lengths_that_differ(trained, name):
    with pytest.raises(ValueError, match=batch(name)[1].format("the batch")):
        trained.predict(batches(name).map(lambda given, *_: given), verbose=0)


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
def test_single_batches_are_refused(trained, method):
    with pytest.raises(ValueError, match="The label is -1 in row 3 of the batch"):
        getattr(trained, method)(columns(), at(3, -1), at(0, 1))


def test_soft_labels_and_weights_beside_missing_values_are_fine(trained):
    missing = tf.ragged.constant([[1.0], [], [2.0, 3.0], [4.0], [0.0], [np.nan]])  # its bag holds -1
    history = trained.fit(columns(trust=missing), np.linspace(0, 1, ROWS), verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_other_tasks_take_any_finite_label():
    one = model(task="regression")
    given = tensors(columns())
    assert np.isfinite(one.train_step((given, at(3, -7.5)))["loss"])
    with pytest.raises(ValueError, match=r"The label is inf in row 3 of the batch\. Drop the row"):
        one.train_step((given, at(3, np.inf)))


def test_encoded_batches_are_checked_by_the_names_of_their_columns(eager):
    encoded = FeatureEncoder(FeatureSpec(FEATURES))(columns(age=at(3, np.inf)))
    with pytest.raises(ValueError, match=r"Column 'age' is inf in row 3 of the batch"):
        eager.train_step((encoded, at(0, 1)))
    encoded[IDS] = encoded[IDS][:-1]
    with pytest.raises(ValueError, match=r"Column 'encoded/numbers' has 6 rows, but column 'encoded/ids' has 5\. Give"):
        eager.train_step((encoded, at(0, 1)))


def test_the_label_inside_the_columns_is_named():
    one = model(label="clicked")
    with pytest.raises(ValueError, match=r"Label 'clicked' is 2 in row 3 of the batch, .* as clicked>=1 does"):
        one.train_step(tensors(columns(clicked=at(3, 2))))


@pytest.mark.parametrize("name", ["bag rows", "bag weights"])
def test_a_call_refuses_lengths_that_differ(eager, name):
    with pytest.raises(ValueError, match=WRONG[name][3].format("the batch")):
        eager(WRONG[name][0])


def test_a_bags_weights_have_the_lengths_of_its_bags_in_padded_columns_too(eager):
    padded = columns(bag=np.ones([ROWS, 2], np.int64), trust=np.ones([ROWS, 3], np.float32))
    with pytest.raises(
        ValueError, match=r"Column 'trust' weighs 'bag', but row 0 of the batch has 3 weights for 2 val"
    ):
        eager(padded)


def test_what_xla_compiles_is_not_checked():
    features = [CategoricalFeature(name, vocabulary_size=5) for name in "cd"]
    one = RankingModel(features, embedding_dim=2, hidden_units=())
    one.compile("sgd")
    one.optimizer.build(one.trainable_variables)
    step = tf.function(lambda *data: one.train_step(data)["loss"], jit_compile=True, autograph=False)
    assert np.isfinite(step({"c": tf.constant([0, 1]), "d": tf.constant([0, 1])}, tf.constant([0.0, -1.0])))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (
            np.zeros(ROWS - 1, np.float32),
            r"^The label has 5 rows, but column '\w+' has 6\. Give all columns, the label",
        ),
        (np.zeros([ROWS, 2], np.float32), r"^The label is one number a row; received shape \((None|6), 2\)\. Give \["),
        (tf.ragged.constant([[0.0]] * ROWS), "^The label is one number a row; received a RaggedTensor. Give a dense"),
    ],
    ids=["fewer", "wide", "ragged"],
)
def test_labels_of_another_shape_are_refused_before_the_loss_fails(labels, line, known):
    batch = (columns(), labels)
    data = tf.data.Dataset.from_tensors(batch)
    if not known:
        data = tf.data.Dataset.from_generator(
            lambda: [batch], output_signature=tf.nest.map_structure(unknown_rows, data.element_spec)
        )
    fitted = RankingModel(FEATURES, embedding_dim=2, hidden_units=(3,))
    fitted.compile()
    with pytest.raises(ValueError, match=line) as caught:
        fitted.fit(data, verbose=0)
    assert "\n" not in str(caught.value)


def unknown_rows(spec):
    if isinstance(spec, tf.RaggedTensorSpec):
        return spec
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)


def test_a_column_that_does_not_fit_its_feature_is_one_line_in_fit_and_in_a_call():
    odd = columns(c=np.linspace(0, 1, ROWS))
    fitted = model()
    for ask in (lambda: fitted.fit(tf.data.Dataset.from_tensors((odd, at(0, 1))), verbose=0), lambda: fitted(odd)):
        with pytest.raises(
            ValueError, match=r"^Feature 'c' is a category; received float64\. Cast the column"
        ) as caught:
            ask()
        assert "\n" not in str(caught.value)
