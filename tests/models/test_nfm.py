import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.models.ranking import RankingModel
from tfrs_registry import get_model, list_models

EPSILON = 1e-3  # of Keras' BatchNormalization


@pytest.fixture
def rows(film_rows):
    return film_rows(12)[0]


def randomise(model):
    """Other values than the initial ones for all variables, BatchNorm's averages included."""
    rng = np.random.default_rng(7)
    for variable in model.variables:
        low = 0.3 if "variance" in variable.name else -0.8
        variable.assign(rng.uniform(low, 0.9, variable.shape))


def fields_of(model, rows):
    """[batch, fields, dim + 1] with the first-order weight last, and what `numeric` leaves out of the fields."""
    table = model.embedding.table.numpy().astype(np.float64)
    if not model.linear:
        table = np.pad(table, [[0, 0], [0, 1]])
    fields, numbers = [], []
    for at in range(len(rows["user"])):
        user, city = rows["user"][at], rows["city"][at]
        row = [table[user + 1 if 0 <= user < 6 else 0], table[7 + {"Rome": 1, "Oslo": 2}.get(city, 0)]]
        price = (np.float64(rows["price"][at]) - 1.0) / 2.0
        numbers.append([0.0 if np.isnan(price) else price])
        if model.numeric == "field":
            row.append(table[14] if np.isnan(price) else price * table[15])
        bag = [table[10 + {b"a": 1, b"b": 2, b"c": 3}.get(value, 0)] for value in rows["genres"][at].numpy()]
        row.append(np.mean(bag, axis=0) if bag else np.zeros(table.shape[1]))
        fields.append(row)
    return np.array(fields), np.array(numbers)


def layers_of(tower):
    """The tower's dense layers, each with its norm or None."""
    layers = list(tower._layers)
    for at, layer in enumerate(layers):
        if hasattr(layer, "kernel"):
            yield layer, layers[at + 1] if hasattr(layers[at + 1], "moving_mean") else None


def normalised(hidden, norm):
    if norm is None:
        return hidden
    gamma, beta, mean, variance = (weight.astype(np.float64) for weight in norm.get_weights()[:4])
    return (hidden - mean) / np.sqrt(variance + EPSILON) * gamma + beta


def through(tower, hidden):
    for dense, norm in layers_of(tower):
        hidden = np.maximum(normalised(hidden @ dense.kernel.numpy() + dense.bias.numpy(), norm), 0.0)
    return hidden


def forward(model, rows):
    """The logits in float64, pair by pair, as the docstrings' formulas say; only for BiInteraction."""
    fields, numbers = fields_of(model, rows)
    vectors, first_order = fields[:, :, :-1], fields[:, :, -1].sum(axis=1)
    beside = numbers[:, :0]
    if model.numeric == "concat":
        beside = numbers
    if model.numeric == "bottom_mlp":
        bottom = through(model._bottom, numbers)
        vectors = np.concatenate([vectors, bottom[:, None]], axis=1)
        beside = bottom if model.structure == "stacked" else beside
    count = vectors.shape[1]
    pooled = sum(vectors[:, i] * vectors[:, j] for i in range(count) for j in range(i + 1, count))
    pooled = normalised(pooled, model._interaction_batch_norm)
    embeddings = vectors.reshape(len(vectors), -1)
    hidden = {
        "stacked": lambda: through(model._tower, np.hstack([pooled, beside])),
        "concat": lambda: through(model._tower, np.hstack([pooled, embeddings, beside])),
        "parallel": lambda: np.hstack([pooled, through(model._tower, np.hstack([embeddings, beside]))]),
    }[model.structure]()
    logits = hidden @ model._head.kernel.numpy()[:, 0] + model._bias.numpy()
    if model.linear:
        logits = logits + first_order
        if model.numeric != "field":
            logits = logits + numbers @ model._number_weights.kernel.numpy()[:, 0]
    return model.label_mean.numpy() + model.label_scale.numpy() * logits[:, None]


@pytest.mark.parametrize("structure", ["stacked", "concat", "parallel"])
@pytest.mark.parametrize("numeric", ["field", "concat", "bottom_mlp"])
@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"linear": False},
        {"batch_norm": False},
        {"interaction_batch_norm": False},
        {"hidden_units": ()},
        {"hidden_units": (5, 3), "linear": False, "batch_norm": False, "interaction_batch_norm": False},
    ],
    ids=str,
)
def test_the_forward_pass_equals_numpy_with_each_part_on_or_off(film_features, rows, structure, numeric, switches):
    arguments = {"embedding_dim": 4, "hidden_units": (6, 5), "bottom_units": (3,), **switches}
    model = NFM(film_features, structure=structure, numeric=numeric, **arguments)
    randomise(model)
    np.testing.assert_allclose(model(rows), forward(model, rows), rtol=1e-4, atol=1e-4)


def test_without_tower_norms_and_dropout_it_is_a_factorization_machine(film_features, rows):
    model = NFM(
        film_features,
        embedding_dim=4,
        hidden_units=(),
        batch_norm=False,
        interaction_batch_norm=False,
        dropout=0,
        interaction_dropout=0,
    )
    randomise(model)
    model._head.kernel.assign(np.ones([4, 1]))
    fields, _ = fields_of(model, rows)
    expected = []
    for row in fields:
        pairs = sum(row[i, :-1] @ row[j, :-1] for i in range(4) for j in range(i + 1, 4))
        logit = model._bias.numpy()[0] + row[:, -1].sum() + pairs
        expected.append(model.label_mean.numpy() + model.label_scale.numpy() * logit)
    for training in (False, True):
        np.testing.assert_allclose(model(rows, training=training)[:, 0], expected, rtol=1e-5, atol=1e-5)


def has(model, *words):
    return any(all(word in variable.name for word in words) for variable in model.variables)


def test_each_switch_takes_its_variables_away(film_features):
    model = NFM(film_features, embedding_dim=4)
    assert has(model, "interaction_batch_norm")
    assert has(model, "tower/batch_norm")
    assert model.embedding.table.shape[1] == 5
    assert not has(NFM(film_features, interaction_batch_norm=False), "interaction_batch_norm")
    assert not has(NFM(film_features, batch_norm=False), "tower/batch_norm")
    assert NFM(film_features, embedding_dim=4, linear=False).embedding.table.shape[1] == 4
    assert has(NFM(film_features, numeric="concat"), "number_weights")
    assert not has(NFM(film_features, numeric="concat", linear=False), "number_weights")
    assert not has(NFM(film_features, hidden_units=()), "tower")


@pytest.mark.parametrize(("argument", "where"), [("interaction_dropout", "interaction"), ("dropout", "tower")])
def test_dropouts_act_in_training_only(film_features, rows, argument, where):
    plain = {"batch_norm": False, "interaction_batch_norm": False, "dropout": 0, "interaction_dropout": 0}
    with_dropout = NFM(film_features, **{**plain, argument: 0.5}, embedding_stddev=1.0)
    without = NFM(film_features, **plain)
    without.set_weights(with_dropout.get_weights())
    np.testing.assert_array_equal(with_dropout(rows, training=False), without(rows, training=False))
    assert not np.allclose(with_dropout(rows, training=True), without(rows, training=True))
    np.testing.assert_array_equal(without(rows, training=True), without(rows, training=False))


def test_training_normalises_the_interaction_by_the_batch(film_features, rows):
    model = NFM(film_features, dropout=0, interaction_dropout=0, batch_norm=False, batch_norm_momentum=0.05)
    before = model._interaction_batch_norm.moving_mean.numpy()
    vectors = fields_of(model, rows)[0][:, :, :-1]
    pairs = sum(vectors[:, i] * vectors[:, j] for i in range(4) for j in range(i + 1, 4))
    model(rows, training=True)
    after = model._interaction_batch_norm.moving_mean.numpy()
    np.testing.assert_allclose(after, 0.05 * before + 0.95 * pairs.mean(axis=0), rtol=1e-3, atol=1e-8)


def test_the_registry_makes_it_with_the_papers_defaults(film_features):
    model = get_model("nfm", features=film_features)
    assert type(model) is NFM
    assert "nfm" in list_models("*nfm*")
    assert (model.linear, model.batch_norm, model.interaction_batch_norm) == (True, True, True)
    assert model.dropout > 0
    assert model.interaction_dropout > 0
    assert type(get_model("ranking", features=film_features)) is RankingModel


def test_it_takes_every_argument_of_the_open_model():
    features = [CategoricalFeature("a", vocabulary_size=3), NumericFeature("x")]
    model = NFM(features, activation="tanh", embedding_l2=0.1, task="regression", label="y", batch_norm_momentum=0.9)
    config = NFM.from_config(model.get_config()).get_config()
    assert config == model.get_config()
    assert (config["activation"], config["embedding_l2"], config["task"], config["label"]) == (
        "tanh",
        0.1,
        "regression",
        "y",
    )
