import copy
import inspect
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.infer import infer_features
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.specs import MODEL_ARGUMENTS
from tfrs_registry import UnknownComponentError

PAIR = [CategoricalFeature("a", vocabulary_size=9), CategoricalFeature("b", vocabulary_size=9)]
BATCH = {"a": np.array([1, 2, 3]), "b": np.array([0, 1, 20])}


@keras.utils.register_keras_serializable(package="tests")
class FieldCount(InteractionBlock):
    """The number of fields that are there, times a number: [batch, 1]."""

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, embeddings, mask=None):
        mask = tf.ones(tf.shape(embeddings)[:2], tf.bool) if mask is None else mask
        return self.scale * tf.reduce_sum(tf.cast(mask, self.compute_dtype), axis=1, keepdims=True)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


def logits_of_count(features, columns, **arguments):
    """What a model says that adds up its fields and does nothing else."""
    model = RankingModel(features, interaction=FieldCount(), hidden_units=(), linear=False, **arguments)
    model._head.kernel.assign([[1.0]] + [[0.0]] * (model._head.kernel.shape[0] - 1))
    return model(columns).numpy()[:, 0].tolist()


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"numeric": "both"}, 'numeric must be "field", "concat" or "bottom_mlp"; received \'both\''),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1; received 1.0"),
        ({"interaction_dropout": -0.1}, "interaction_dropout must be at least 0 and below 1; received -0.1"),
        ({"hidden_units": 64}, "hidden_units must be a list of widths of 1 or more; received 64"),
        ({"hidden_units": "64"}, "hidden_units must be a list of widths"),
        ({"hidden_units": [64, 0]}, r"hidden_units must be a list of widths of 1 or more; received \(64, 0\)"),
        ({"bottom_units": [2.0]}, "bottom_units must be a list of widths"),
        ({"embedding_dim": 0}, "embedding_dim must be a whole number of 1 or more; received 0"),
        ({"embedding_l2": "x"}, "embedding_l2 must be a number of 0 or more; received 'x'."),
        ({"embedding_stddev": -1}, "embedding_stddev must be a number of 0 or more; received -1."),
        ({"task": "clicks"}, 'task must be "binary", "regression" or a tfrs.tasks.Ranking; received \'clicks\''),
        ({"interaction": 3}, "interaction must be a block's name, .* or an InteractionBlock; received 3"),
        ({"interaction": {"name": "bi_interaction", "units": 3}}, "interaction must be a block's name"),
        ({"interaction": {"config": {}}}, "interaction must be a block's name"),
        ({"interaction": keras.layers.Flatten()}, "interaction must be a block's name, .*; received <tf_keras"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RankingModel(PAIR, **arguments)


def test_an_unknown_block_suggests_the_nearest():
    with pytest.raises(UnknownComponentError, match=r"Did you mean 'bi_interaction'\?"):
        RankingModel(PAIR, interaction="bi_interactoin")


def test_one_field_is_too_few_to_interact():
    with pytest.raises(ValueError, match="needs at least 2 fields; received 1"):
        RankingModel(PAIR[:1])


def test_widths_may_come_from_a_generator():
    model = RankingModel(PAIR, hidden_units=(units for units in [3, 2]))
    assert model.hidden_units == (3, 2)
    assert model._head.kernel.shape == (2, 1)


@pytest.mark.parametrize("features", [PAIR, tuple(PAIR), FeatureSpec(PAIR), FeatureSpec(PAIR).to_dict()], ids=type)
def test_features_may_be_a_list_a_spec_or_its_dict(features):
    assert RankingModel(features).features == FeatureSpec(PAIR)


# --- the interaction -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "interaction",
    [
        "bi_interaction",
        "Bi-Interaction",
        {"name": "bi_interaction"},
        {"name": "bi_interaction", "config": {"name": "pairs"}},
        BiInteraction(),
        keras.layers.serialize(BiInteraction()),
    ],
)
def test_the_block_may_be_named_configured_or_given(interaction):
    model = RankingModel(PAIR, interaction=interaction)
    assert type(model.interaction) is BiInteraction
    assert model(BATCH).shape == (3, 1)


def test_a_named_block_follows_the_models_precision_unless_told():
    assert RankingModel(PAIR, dtype="mixed_bfloat16").interaction.dtype_policy.name == "mixed_bfloat16"
    told = {"name": "bi_interaction", "config": {"dtype": "float32"}}
    model = RankingModel(PAIR, interaction=told, dtype="mixed_bfloat16")
    assert model.interaction.dtype_policy.name == "float32"
    again = RankingModel.from_config(json.loads(json.dumps(model.get_config())))
    assert again.interaction.dtype_policy.name == "float32"


def test_the_block_sees_which_fields_are_there():
    bags = [
        MultiCategoricalFeature("pooled", vocabulary_size=3),
        MultiCategoricalFeature("positions", vocabulary_size=3, combiner=None, max_length=4),
    ]
    columns = {
        "a": np.array([1, 99, -1]),
        "x": np.array([0.5, np.nan, 1.0], np.float32),
        "pooled": tf.ragged.constant([[1, 2], [], [9]]),
        "positions": tf.ragged.constant([[], [0, 1], [0, 1, 2, 0, 1]]),
    }
    features = [PAIR[0], NumericFeature("x"), *bags]
    assert logits_of_count(features, columns) == [1 + 1 + 1 + 0, 1 + 1 + 0 + 2, 1 + 1 + 1 + 4]
    assert logits_of_count(features, columns, numeric="concat") == [2.0, 3.0, 6.0]
    assert logits_of_count(features, columns, numeric="bottom_mlp") == [3.0, 4.0, 7.0]


def test_positions_without_a_max_length_follow_the_batch():
    features = [PAIR[0], MultiCategoricalFeature("p", vocabulary_size=3, combiner=None)]
    model = RankingModel(features, dropout=0.0)
    long = model({"a": [1, 2], "p": tf.ragged.constant([[0], [0, 1, 2, 1]])})
    short = model({"a": [1], "p": tf.ragged.constant([[0]])})
    np.testing.assert_allclose(long[:1], short, rtol=1e-5, atol=1e-7)
    assert model({"a": [1], "p": tf.ragged.constant([[]], tf.int64, ragged_rank=1)}).shape == (1, 1)


# --- columns ---------------------------------------------------------------------------------------------------------


def test_the_order_and_number_of_columns_do_not_matter(film_features, film_rows):
    columns, _ = film_rows(5)
    model = RankingModel(film_features)
    reordered = {"timestamp": np.arange(5), **dict(reversed(columns.items()))}
    np.testing.assert_array_equal(model(reordered), model(columns))


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"There is no column 'b', which the model reads\. The data has 'a'\."):
        RankingModel(PAIR)({"a": BATCH["a"]})


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_integers_of_any_width_score_the_same(dtype):
    model = RankingModel(PAIR)
    columns = {name: tf.constant(values.astype(dtype)) for name, values in BATCH.items()}
    np.testing.assert_array_equal(model(columns), model(BATCH))


def test_predict_takes_a_dict_of_arrays_strings_as_text_or_bytes():
    features = [CategoricalFeature("city", vocabulary=["Rome", "Oslo"]), NumericFeature("x")]
    keras.utils.set_random_seed(0)
    model = RankingModel(features, embedding_stddev=1.0)
    texts = ["Oslo", "Rome", "Paris", "Oslo"]
    numbers = np.array([1.0, 2.0, 3.0, 4.0])  # float64
    expected = model({"city": tf.constant(texts), "x": tf.constant(numbers, tf.float32)}).numpy()
    assert len(np.unique(expected)) == 4
    for array in (np.array(texts), np.array(texts, object), np.array(texts).astype("S")):
        predicted = model.predict({"city": array, "x": numbers}, batch_size=3, verbose=0)
        # Not to the last bit: a matrix product rounds by the size of the batch, and the pairs are a difference.
        np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-6)


def test_predict_takes_datasets_of_columns_alone_or_with_labels():
    model = RankingModel(PAIR)
    alone = tf.data.Dataset.from_tensor_slices(BATCH).batch(2)
    labelled = tf.data.Dataset.from_tensor_slices((BATCH, [0.0, 1.0, 0.0])).batch(2)
    np.testing.assert_array_equal(model.predict(alone, verbose=0), model.predict(labelled, verbose=0))
    assert model.predict(alone, verbose=0).shape == (3, 1)


def test_encoded_and_raw_batches_score_the_same(film_features, film_rows):
    columns, _ = film_rows(8)
    model = RankingModel(film_features)
    np.testing.assert_array_equal(model(FeatureEncoder(FeatureSpec(film_features))(columns)), model(columns))


def test_a_batch_of_one_keeps_its_axis():
    assert RankingModel(PAIR)({"a": [1], "b": [2]}).shape == (1, 1)


# --- features that come later ----------------------------------------------------------------------------------------

LEARNT = {"a": np.array([3, 3, 3, 3, 3, 7]), "b": np.array(["x"] * 5 + ["y"])}


def test_adapt_infers_features_once():
    model = RankingModel()
    model.adapt(tf.data.Dataset.from_tensor_slices(LEARNT).batch(4))
    assert model.features == FeatureSpec(
        [CategoricalFeature("a", vocabulary=[3]), CategoricalFeature("b", vocabulary=["x"])]
    )
    table = model.embedding.table
    model.adapt({"c": np.array([1.0, 2.0])})
    assert model.features.names == ("a", "b")
    assert model.embedding.table is table


def test_adapt_takes_a_dict_and_leaves_the_label_out():
    model = RankingModel(label="y")
    model.adapt({**LEARNT, "y": np.arange(6.0)})
    assert model.features.names == ("a", "b")


@pytest.mark.parametrize("data", [iter([LEARNT]), None, [1]], ids=lambda data: type(data).__name__)
def test_adapt_refuses_what_it_cannot_read(data):
    name = type(data).__name__
    with pytest.raises(ValueError, match=f"^Features are inferred from a dict .* received {name}. Give"):
        RankingModel().adapt(data)


@pytest.mark.parametrize("frame", [pd.DataFrame(LEARNT), pd.DataFrame(LEARNT).to_dict("records")])
def test_adapt_takes_rows_of_any_library(frame):
    model = RankingModel()
    model.adapt(frame)
    assert model.features == infer_features(LEARNT)


def test_a_model_without_features_says_so(tmp_path):
    model = RankingModel()
    message = "does not know its features yet. Pass features=, or call fit or adapt with data first"
    with pytest.raises(ValueError, match=message):
        model(BATCH)
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / "model.keras")
    assert not (tmp_path / "model.keras").exists()
    with pytest.raises(ValueError, match=message):
        model.build(None)


def test_a_model_without_features_survives_its_config():
    assert RankingModel.from_config(RankingModel(embedding_dim=3).get_config()).embedding_dim == 3


# --- the Keras model -------------------------------------------------------------------------------------------------


def test_the_config_is_json_and_rebuilds_the_model(film_features, film_rows):
    model = RankingModel(
        film_features,
        embedding_dim=3,
        interaction=FieldCount(2.0),
        hidden_units=(4,),
        activation="tanh",
        linear=False,
        batch_norm=True,
        interaction_batch_norm=True,
        batch_norm_momentum=0.9,
        dropout=0.1,
        interaction_dropout=0.2,
        numeric="bottom_mlp",
        bottom_units=(5,),
        embedding_stddev=0.3,
        embedding_l2=0.01,
        task="regression",
        label="rating",
        dtype="mixed_bfloat16",
        name="films",
    )
    config = json.loads(json.dumps(model.get_config()))
    again = RankingModel.from_config(config)
    assert again.get_config() == model.get_config()
    again.set_weights(model.get_weights())
    columns, _ = film_rows(4)
    np.testing.assert_array_equal(again(columns), model(columns))


def test_every_argument_is_in_the_config():
    arguments = set(RankingModel.__init__.__kwdefaults__) | {"features", "name", "trainable"}
    later = {"members": 2, "member_dim": 3, "embedding_l2_by": "frequency", "field_dropout": 0.1}
    later |= {"label_smoothing": 0.1, "self_ensemble": 1.0}
    assert set(RankingModel(PAIR, **later).get_config()) == arguments
    assert set(RankingModel(PAIR).get_config()) == arguments - set(later)  # as subclasses of before take them


def test_clones_and_copies_are_models_of_their_own():
    model = RankingModel(PAIR)
    clone, twin = keras.models.clone_model(model), copy.deepcopy(model)
    assert clone.get_config() == model.get_config()
    np.testing.assert_array_equal(twin(BATCH), model(BATCH))
    twin.embedding.table.assign_add(tf.ones_like(twin.embedding.table))
    assert not np.allclose(twin(BATCH), model(BATCH))


def test_the_same_seed_gives_the_same_weights():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        weights.append(RankingModel(PAIR).get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_models_in_one_process_share_nothing():
    one, other = RankingModel(PAIR), RankingModel(PAIR[::-1], dtype="mixed_bfloat16")
    before = other(BATCH).numpy()
    one.embedding.table.assign(tf.ones_like(one.embedding.table))
    np.testing.assert_array_equal(other(BATCH), before)
    assert keras.mixed_precision.global_policy().name == "float32"


def test_the_summary_counts_the_models_own_weights(capsys):
    model = RankingModel(PAIR, embedding_dim=3, hidden_units=(4,))
    model.summary()
    total = 2 * 10 * (3 + 1) + (3 * 4 + 4) + 4 + 1 + 2  # the last are the labels' mean and scale
    assert f"Total params: {total} " in capsys.readouterr().out
    assert model.count_params() == total


def test_all_variables_are_there_before_the_first_batch():
    model = RankingModel(PAIR, batch_norm=True, interaction_batch_norm=True)
    count = len(model.variables)
    model(BATCH, training=True)
    assert len(model.variables) == count == 17


def test_jit_is_refused_where_the_number_of_fields_differs_by_batch():
    positions = MultiCategoricalFeature("seen", vocabulary_size=5, combiner=None)
    with pytest.raises(ValueError, match=r"jit_compile=True needs the same number of fields.*Give them a max_length\."):
        RankingModel([positions], interaction="outer_product").compile(jit_compile=True)
    RankingModel([replace(positions, max_length=3)], interaction="outer_product").compile(jit_compile=True)
    RankingModel([positions]).compile(jit_compile=True)  # of sums, whatever the number


def test_no_loss_of_the_building_trace_is_left():
    assert RankingModel(PAIR, embedding_l2=0.1).losses == []


def test_an_activation_is_given_by_name():
    with pytest.raises(ValueError, match=r"activation must be the name of a Keras activation"):
        RankingModel(PAIR, activation=tf.nn.relu)


def test_the_objective_follows_the_task():
    assert RankingModel(PAIR).objective == ("val_auc", "max")
    assert RankingModel(PAIR, task="regression").objective == ("val_rmse", "min")
    own = tfrs.tasks.Ranking(loss=keras.losses.BinaryCrossentropy(from_logits=True, reduction="none"), name="binary")
    assert RankingModel(PAIR, task=own).objective == ("val_loss", "min")
    assert RankingModel(PAIR, task=own).is_binary


def test_a_frozen_model_stays_frozen():
    model = RankingModel(PAIR)
    model.trainable = False
    assert RankingModel.from_config(model.get_config()).trainable_variables == []


def test_the_arguments_that_are_known_without_tensorflow_are_those_of_the_model():
    features, *own, rest = inspect.signature(RankingModel).parameters
    assert (features, rest) == ("features", "kwargs")  # of which Keras takes a name
    assert [*own, "name"] == list(MODEL_ARGUMENTS)
