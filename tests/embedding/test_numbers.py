"""Numbers as embeddings, compared with loops in float64 and with what the authors' package returns."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nfm_tfrs.embedding.inference import embedded, looked_up
from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, NumericFeature
from nfm_tfrs.features.number_encoders import AutoDis, Periodic, Piecewise
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf

DIM = 3
REFERENCES = Path(__file__).with_name("rtdl_num_embeddings.npz")
BINS = ([-1.5, -0.5, 0.25, 1.0], [-0.75, 0.0, 0.1, 0.9, 2.0], [-1.0, 1.0, 3.0])
USER = CategoricalFeature("user", vocabulary_size=4)  # rows 0 … 4
# Three of one encoder around one that is linear: places and order matter. The second is logged, the third is not at 0.
LIMITS = {"a": [-1.0, 0.5, 2.0], "b": [1.0, 3.0, 20.0, 50.0], "c": [90.0, 120.0]}
NUMBERS = (
    NumericFeature("a", boundaries=LIMITS["a"]),
    NumericFeature("b", mean=2.0, std=0.8, log=True, boundaries=LIMITS["b"]),
    NumericFeature("plain", mean=1.0, std=2.0),
    NumericFeature("c", mean=100.0, std=25.0, boundaries=LIMITS["c"]),
)
ENCODERS = {
    "buckets": "buckets",
    "piecewise": "piecewise",
    "piecewise, negative too": Piecewise(activation=False),
    "periodic": Periodic(frequencies=4, sigma=0.5),
    "periodic, negative too": Periodic(frequencies=2, sigma=0.5, activation=False),
    "autodis": AutoDis(meta_embeddings=5, temperature=0.5, skip=0.3),
}
COLUMNS = {
    "user": np.array([0, 3, 9, -1, 1, 2, 2]),
    "a": np.array([-1.0, 0.5, np.nan, 2.0, 7.0, -3.0, 0.1], np.float32),
    "b": np.array([1.0, 0.0, 20.0, np.nan, 49.0, 900.0, -5.0], np.float32),
    "plain": np.array([5.0, np.nan, 1.0, 0.0, -3.0, 2.0, 9.0], np.float32),
    "c": np.array([90.0, 89.9, 120.0, 300.0, -40.0, np.nan, 100.0], np.float32),
}


def features_of(encoder):
    encoded = [number if number.name == "plain" else replace(number, encoder=encoder) for number in NUMBERS]
    return [USER, *[number if number.name != "plain" else replace(number, boundaries=None) for number in encoded]]


def ready(encoder, **arguments):
    """A layer whose weights are any, and an encoded batch."""
    spec = FeatureSpec(features_of(encoder))
    layer = FusedEmbedding(spec, DIM, **{"stddev": 1.0, **arguments})
    batch = FeatureEncoder(spec)(COLUMNS)
    layer(batch)
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer, batch


def weights_of(layer):
    """The weights in float64, by the ends of their names."""
    return {weight.name.split("/")[-1].split(":")[0]: weight.numpy().astype(np.float64) for weight in layer.weights}


def standardised(number, value):
    value = np.sign(value) * np.log1p(abs(value)) if number.log else value
    return (value - number.mean) / number.std


def part_of(weights, suffix):
    return next(array for name, array in weights.items() if name.endswith(suffix))


def vector_of(encoding, weights, member, number, raw):
    """The vector of one number before its bias, by the equations alone."""
    x = standardised(number, raw)
    limits = [standardised(number, limit) for limit in number.boundaries]
    vectors = part_of(weights, "_vectors")[member]
    if encoding.name == "buckets":
        return vectors[sum(raw >= limit for limit in number.boundaries)]
    if encoding.name == "piecewise":
        total = np.zeros(vectors.shape[1])
        for piece, (low, high) in enumerate(itertools.pairwise(limits)):
            share = (x - low) / (high - low)
            share = share if piece == 0 or share > 0 else 0.0
            share = share if piece == len(limits) - 2 or share < 1 else 1.0
            total = total + share * vectors[piece]
        return total
    if encoding.name == "periodic":
        angles = [2 * np.pi * frequency * x for frequency in part_of(weights, "_frequencies")[member]]
        waves = [np.cos(angle) for angle in angles] + [np.sin(angle) for angle in angles]
        return sum(wave * vector for wave, vector in zip(waves, vectors, strict=True))
    hidden = [scale * x if scale * x > 0 else 0.01 * scale * x for scale in part_of(weights, "_scales")[member]]
    mixing = part_of(weights, "_mixing")[member]
    scores = []
    for column in range(len(hidden)):
        mixed = sum(hidden[row] * mixing[row][column] for row in range(len(hidden)))
        scores.append((mixed + encoding.skip * hidden[column]) / encoding.temperature)
    shares = np.exp(np.array(scores) - max(scores))
    return sum(share * vector for share, vector in zip(shares / shares.sum(), vectors, strict=True))


def expected_fields(layer):
    """Fields of the batch, [batch, fields, dim + linear]: the user, then the numbers."""
    weights, spec = weights_of(layer), layer.features
    table = weights["table"]
    encoded = [number.name for number in spec.numbers if number.encoding is not None]
    fields = np.zeros([len(COLUMNS["a"]), 1 + len(spec.numbers), table.shape[1]])
    for row in range(len(fields)):
        user = COLUMNS["user"][row]
        fields[row, 0] = table[user + 1 if 0 <= user < 4 else 0]
        for place, number in enumerate(spec.numbers):
            absent, present = table[5 + 2 * place], table[6 + 2 * place]
            raw = float(COLUMNS[number.name][row])
            if np.isnan(raw):
                fields[row, 1 + place] = absent
            elif number.encoding is None:
                fields[row, 1 + place] = standardised(number, raw) * present
            else:
                vector = vector_of(number.encoding, weights, encoded.index(number.name), number, raw)
                slope = 1.0 if number.encoding.name == "buckets" else standardised(number, raw)
                first_order = vector[DIM:] + slope * present[DIM:]
                vector = vector[:DIM] + present[:DIM]
                if getattr(number.encoding, "activation", False):
                    vector = np.maximum(vector, 0.0)
                fields[row, 1 + place] = [*vector, *first_order]
    return fields


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_fields_are_those_of_the_equations(encoder, linear):
    layer, batch = ready(encoder, linear=linear)
    expected = expected_fields(layer)

    embeddings, mask, first_order = layer(batch)

    np.testing.assert_allclose(embeddings, expected[:, :, :DIM], rtol=1e-4, atol=1e-5)
    assert mask is None
    if linear:
        np.testing.assert_allclose(first_order, expected[:, :, DIM:].sum(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_sums_are_those_of_the_fields(encoder, distinct):
    layer, batch = ready(encoder)
    expected = expected_fields(layer)

    found = layer(batch, distinct=distinct, sums=True)

    np.testing.assert_allclose(found.total, expected[:, :, :DIM].sum(axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.squares, (expected[:, :, :DIM] ** 2).sum(axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.first_order, expected[:, :, DIM:].sum(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("names", [["c", "plain"], ["user", "b"], ["plain"], ["a", "b", "plain", "c"]])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_some_of_the_numbers_are_looked_up_as_among_all(encoder, names):
    layer, _ = ready(encoder)
    spec = FeatureSpec([feature for feature in layer.features if feature.name in names])
    batch = FeatureEncoder(layer.features).encode(COLUMNS, spec)
    numbers = [1 + place for place, number in enumerate(layer.features.numbers) if number.name in names]

    fields = looked_up(layer, batch, spec, layer.rows)

    np.testing.assert_allclose(fields.numbers, expected_fields(layer)[:, numbers], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_xla_and_inference_return_the_same(encoder):
    layer, batch = ready(encoder)
    embeddings, _, first_order = layer(batch)

    compiled = tf.function(lambda ids, numbers: layer({**batch, "encoded/ids": ids, "encoded/numbers": numbers}))
    compiled = tf.function(compiled, jit_compile=True)(batch["encoded/ids"], batch["encoded/numbers"])
    plain = embedded(layer, looked_up(layer, batch, layer.features, layer.rows), sums=False)

    for other in (compiled, plain):
        np.testing.assert_allclose(other.embeddings, embeddings, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.first_order, first_order, rtol=1e-4, atol=1e-5)


def test_inference_returns_the_same_of_several_tables():
    film = CategoricalFeature("film", vocabulary_size=9, embedding_dim=2)  # one table more: numbers' rows move
    spec = FeatureSpec([film, *features_of("periodic")])
    layer = FusedEmbedding(spec, DIM, stddev=1.0)
    batch = FeatureEncoder(spec)({**COLUMNS, "film": np.array([0, 8, 3, -1, 4, 99, 2])})
    embeddings, _, first_order = layer(batch)

    plain = embedded(layer, looked_up(layer, batch, spec, layer.rows), sums=False)

    np.testing.assert_allclose(plain.embeddings, embeddings, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(plain.first_order, first_order, rtol=1e-4, atol=1e-5)


def test_buckets_are_those_of_the_category_also_at_the_limits():
    values = np.array([*LIMITS["b"], 0.0, 2.0, 19.9999, 20.0001, 1e9, np.nan], np.float32)
    category = NumericFeature("b", mean=2.0, std=0.8, log=True, boundaries=LIMITS["b"])
    ids = FeatureEncoder(FeatureSpec([category]))({"b": values})["encoded/ids"].numpy()[:, 0]
    spec = FeatureSpec([replace(category, encoder="buckets")])
    layer = FusedEmbedding(spec, DIM)
    batch = FeatureEncoder(spec)({"b": values})
    layer(batch)
    layer.set_weights([np.zeros(layer.table.shape), np.arange(5.0)[None, :, None] * np.ones([1, 5, DIM + 1]) + 1])

    embeddings, _, first_order = layer(batch)

    assert embeddings.numpy()[:, 0, 0].tolist() == ids.tolist()
    assert first_order.numpy()[:, 0].tolist() == ids.tolist()


@pytest.mark.parametrize("limit", [0.7, 3e6, 123456.789])  # 0.7 is less in float32
def test_a_number_that_equals_a_limit_is_above_it_whatever_the_moments(limit):
    number = NumericFeature("b", mean=limit, std=limit / 1000, boundaries=[limit], encoder="buckets")
    layer = FusedEmbedding(FeatureSpec([number]), 1, linear=False)
    batch = FeatureEncoder(layer.features)({"b": np.array([limit, limit * 0.999], np.float32)})
    layer(batch)
    layer.set_weights([np.zeros([2, 1]), np.array([[[1.0], [2.0]]])])

    assert layer(batch).embeddings.numpy()[:, 0, 0].tolist() == [2.0, 1.0]


# --- the authors' package --------------------------------------------------------------------------------------------


def fields_of_both(kind, activation):
    """What this package makes of the weights that are kept of the authors' package, and what that returned."""
    kept = np.load(REFERENCES)
    name = f"{kind}{'_relu' * activation}"
    x, bias, vectors = kept["x"], kept[f"{name}_bias"], kept[f"{name}_vectors"]
    encoder = Piecewise(activation=activation)
    weights = [vectors]
    if kind == "periodic":
        frequencies = kept[f"{name}_frequencies"]
        encoder = Periodic(frequencies=frequencies.shape[1], activation=activation)
        weights = [frequencies, vectors]
    numbers = [NumericFeature(f"x{at}", boundaries=bins, encoder=encoder) for at, bins in enumerate(BINS)]
    layer = FusedEmbedding(FeatureSpec(numbers), vectors.shape[2], linear=False)
    batch = {"encoded/ids": tf.zeros([len(x), 0], tf.int64), "encoded/numbers": tf.constant(x)}
    layer(batch)
    table = np.zeros(layer.table.shape, np.float32)
    table[1::2] = bias
    layer.set_weights([table, *weights])
    assert len(x) == 24
    assert str(kept["version"]) == "0.0.12"
    return layer(batch).embeddings.numpy(), kept[f"{name}_out"]


@pytest.mark.parametrize("activation", [False, True])
@pytest.mark.parametrize("kind", ["piecewise", "periodic"])
def test_fields_are_those_of_the_authors_package(kind, activation):
    ours, theirs = fields_of_both(kind, activation)

    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_l2_is_of_the_vectors_of_numbers_that_are_there(encoder, distinct):
    layer, batch = ready(encoder, l2=0.3)
    numbers = batch["encoded/numbers"].numpy()
    numbers[:, 3] = np.nan  # c is never there, so that neither its row nor its vectors count
    layer({**batch, "encoded/numbers": tf.constant(numbers)}, distinct=distinct)

    table = weights_of(layer)["table"]
    vectors = part_of(weights_of(layer), "_vectors")
    if encoder == "buckets":  # a has a vector less than b, and what fills it up is none of a number
        vectors[0, 4:] = 0
    elif isinstance(encoder, Piecewise) or encoder == "piecewise":
        vectors[0, 2:] = 0
    rows = [*{user + 1 if 0 <= user < 4 else 0 for user in COLUMNS["user"]}, 5, 6, 7, 8, 9, 10, 11]
    expected = np.sum(table[rows, :DIM] ** 2) + np.sum(vectors[:2, :, :DIM] ** 2)
    assert float(layer.losses[0]) == pytest.approx(0.3 * expected / 7, rel=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_fields_start_as_large_as_those_of_categories(encoder):
    numbers = [
        NumericFeature(f"n{at}", boundaries=np.linspace(-2, 2, 41).tolist(), encoder=encoder) for at in range(60)
    ]
    layer = FusedEmbedding(FeatureSpec([CategoricalFeature("user", vocabulary_size=300), *numbers]), 16)
    rng = np.random.default_rng(0)
    columns = {number.name: rng.normal(size=300) for number in numbers} | {"user": rng.integers(0, 300, 300)}
    embeddings = layer(FeatureEncoder(layer.features)(columns)).embeddings.numpy()

    sizes = np.sqrt(np.mean(embeddings**2, axis=(0, 2)))

    assert sizes[0] == pytest.approx(0.01, rel=0.1)
    assert 0.5 < np.sqrt(np.mean(sizes[1:] ** 2)) / sizes[0] < 2.0  # a bias of as much again among them


def test_two_settings_of_an_encoder_have_weights_of_their_own():
    numbers = [
        NumericFeature("x", encoder=Periodic(frequencies=2)),
        NumericFeature("y", encoder=Periodic(frequencies=3)),
        NumericFeature("z", encoder=Periodic(frequencies=2)),
    ]
    layer = FusedEmbedding(FeatureSpec(numbers), DIM)
    layer({"encoded/ids": tf.zeros([1, 0], tf.int64), "encoded/numbers": tf.zeros([1, 3])})

    shapes = {name: array.shape for name, array in weights_of(layer).items()}

    assert shapes == {
        "table": (6, DIM + 1),
        "periodic_frequencies": (2, 2),
        "periodic_vectors": (2, 4, DIM + 1),
        "periodic_2_frequencies": (1, 3),
        "periodic_2_vectors": (1, 6, DIM + 1),
    }
