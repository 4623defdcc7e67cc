"""The penalty of embeddings divided by how often the training rows read them, against loops over rows and values."""

from collections import Counter

import numpy as np
import pytest

from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.data.prepare import prepare
from nfm_tfrs.embedding.compressed import rows_of_ids
from nfm_tfrs.features.check import checked_arrays
from nfm_tfrs.features.compression import MultiHash, QuotientRemainder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.frames import as_table
from nfm_tfrs.features.growth import Growth
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.grow import grow
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.training.recipe import Recipe
from nfm_tfrs.training.statistics import adapt_statistics, count_where_needed

FILM = {"vocabulary": ["A", "B", "C"], "embedding_name": "film"}
FILMS = [
    CategoricalFeature("film", **FILM),
    CategoricalFeature("last", **FILM),
    MultiCategoricalFeature("tags", vocabulary_size=4),
    NumericFeature("price"),
]
BY = {"embedding_l2": 0.5, "embedding_l2_by": "frequency"}


def rows(count=60, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "film": rng.choice(["A", "B", "Z", ""], count).tolist(),  # C is never seen, Z unknown, "" missing
        "last": rng.choice(["A", "B"], count).tolist(),
        "tags": [rng.integers(0, 5, rng.integers(0, 4)).tolist() for _ in range(count)],  # 4 is unknown
        "price": [None if rng.random() < 0.4 else float(rng.normal()) for _ in range(count)],
        "y": rng.integers(0, 2, count).tolist(),
    }


def prepared(features=FILMS, table=None):
    return prepare(rows() if table is None else table, "y", "random", features=FeatureSpec(features))


def model_of(features=FILMS, **arguments):
    keras.utils.set_random_seed(1)
    return RankingModel(features, **{"embedding_dim": 3, "embedding_stddev": 1.0, **BY, **arguments})


def read_by(row, table):
    """The rows of the table that a row of data reads, each as often: film's 0 to 3, tags' 4 to 8, price's 9 and 10."""
    found = [
        0 if table[name][row] not in "ABC" or not table[name][row] else 1 + "ABC".index(table[name][row])
        for name in ("film", "last")
    ]
    found += [4 if tag == 4 else 5 + tag for tag in table["tags"][row]]
    return [*found, 9 if table["price"][row] is None else 10]


def part_of(table, rows):
    return {name: [values[row] for row in rows] for name, values in table.items()}


@pytest.mark.parametrize("encoder", ["linear", "periodic"])
def test_penalty_and_gradient_are_those_of_a_loop_over_rows(encoder):
    table = rows()
    features = [*FILMS[:3], NumericFeature("price", encoder=encoder)]
    data = prepared(features, table)
    model = model_of(features)
    adapt_statistics(model, data)
    trained = data.tables["train"].to_pydict()
    counts = Counter(one for row in range(len(trained["y"])) for one in read_by(row, trained))
    assert 3 not in counts
    batch = part_of(table, range(8)) | {"film": ["C", *table["film"][1:8]]}
    read = {one for row in range(8) for one in read_by(row, batch)}
    columns = next(iter(EncodedPart(model.encoder.encode_arrays(_arrays(batch, data))).dataset(8)))
    norms = np.square(model.embedding.table.numpy().astype(np.float64)[:, :3]).sum(axis=1)
    expected = sum(0.5 * norms[one] / max(counts[one], 1) for one in read)
    if encoder == "periodic":
        own = next(v for v in model.embedding.weights if "vectors" in v.name).numpy().astype(np.float64)
        expected += 0.5 * np.square(own[..., :3]).sum() / counts[10]
    for training in (True, False):
        with tf.GradientTape() as tape:
            model(columns, training=training)
            (penalty,) = model.losses
        assert float(penalty) == pytest.approx(expected, rel=1e-5)
        gradient = tf.convert_to_tensor(tape.gradient(penalty, model.embedding.table)).numpy()
        for one in range(11):
            change = model.embedding.table.numpy()[one, :3] / max(counts[one], 1) if one in read else np.zeros(3)
            np.testing.assert_allclose(gradient[one], [*change, 0.0], rtol=1e-5)


def _arrays(table, data):
    batch = as_table(table).combine_chunks().to_batches()[0]
    return checked_arrays(batch, data.features, first_row=0)


def test_rows_that_values_share_are_read_whenever_one_of_them_is():
    features = [
        CategoricalFeature("pair", vocabulary_size=30, compression=QuotientRemainder(num_rows=7)),
        MultiCategoricalFeature("hashed", vocabulary_size=90, combiner="sum", compression=MultiHash(num_rows=8)),
        CategoricalFeature("still", vocabulary_size=4, frozen=True),
        CategoricalFeature("long", vocabulary_size=4, embedding_dim=5),
    ]
    rng = np.random.default_rng(2)
    table = {
        "pair": rng.integers(0, 31, 50).tolist(),
        "hashed": [rng.integers(0, 91, rng.integers(0, 3)).tolist() for _ in range(50)],
        "still": rng.integers(0, 4, 50).tolist(),
        "long": rng.integers(0, 3, 50).tolist(),
        "y": rng.integers(0, 2, 50).tolist(),
    }
    data = prepared(features, table)
    model = model_of(features)
    adapt_statistics(model, data)
    trained = data.tables["train"].to_pydict()
    for layout, counts in zip(model.embedding.layouts, model.embedding._held.row_counts, strict=True):
        if layout.frozen:
            assert counts.shape == [0]
            continue
        expected = np.zeros(layout.num_rows)
        for name in layout.tables:
            for value in trained[name]:
                for one in value if isinstance(value, list) else [value]:
                    size = model.features[name].num_ids
                    id_ = one + 1 if one < size else 0
                    if layout.compression is None:
                        expected[layout.tables[name][0] + id_] += 1
                    else:
                        for place in rows_of_ids(layout.compression, tf.constant([id_], tf.int64), size):
                            expected[int(place[0])] += 1
        np.testing.assert_array_equal(counts, expected)
    model(next(iter(data.train.dataset(8)))[0], training=True)
    assert np.isfinite(float(model.losses[0]))


def test_by_batch_and_by_frequency_agree_on_what_is_read_as_often_as_the_batch_has_rows():
    features = [CategoricalFeature("a", vocabulary_size=2)]
    table = {"a": [0, 1] * 10, "y": [0, 1] * 10}
    data = prepare(table, "y", "random", features=FeatureSpec(features))
    found = []
    for by in ("batch", "frequency"):
        model = model_of(features, interaction="concat", embedding_l2_by=by)
        adapt_statistics(model, data)
        if by == "frequency":
            model.embedding._held.row_counts[0].assign([6.0, 6.0, 6.0])
        model({"a": np.array([0, 1, 1, 0, 0, 1])}, training=True)
        found.append(float(model.losses[0]))
    assert found[0] == pytest.approx(found[1])


def test_counts_travel_with_the_model(tmp_path):
    data = prepared()
    model = Recipe(model="ranking", config={"embedding_dim": 3, **BY}).fit(data, epochs=1).model
    counts = model.embedding._held.row_counts[0].numpy()
    assert counts.sum() > 100
    assert all(variable is not model.embedding._held.row_counts[0] for variable in model.variables)
    model.save(tmp_path / "model.keras")
    opened = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(opened.embedding._held.row_counts[0], counts)
    opened.train_on_batch(*next(iter(data.train.dataset(8))))
    model.save(tmp_path / "folder")  # of a SavedModel, which holds what losses read
    grown = grow(model, {**rows(4), "film": ["D"] * 4}, Growth())
    now = grown.embedding._held.row_counts[0].numpy()
    assert now[1] >= counts[1]  # of A
    assert now[4] == 4.0  # of D, behind C
    grown.train_on_batch(*next(iter(data.train.dataset(8))))


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_training_holds_rare_values_back_most(dtype):
    features = [CategoricalFeature(name, vocabulary_size=3) for name in "ab"]
    table = {"a": [0] * 90 + [1] * 9 + [2], "b": [0, 1] * 50, "y": [0, 1] * 50}
    data = prepared(features, table)
    model = model_of(features, dtype=dtype, interaction="fm", hidden_units=(), embedding_l2=20.0)
    count_where_needed(model, data.train)
    model.embedding.table.assign(tf.ones_like(model.embedding.table))
    model.compile(keras.optimizers.SGD(0.02))
    model.fit(data.train.dataset(40), epochs=2, verbose=0)
    counts = model.statistics.counts["a"]
    often, seldom = np.linalg.norm(model.embedding.table.numpy()[1:3, :3], axis=1)
    assert counts[1] > 5 * counts[2] > 0
    assert often > 1.1 * seldom


def test_what_is_never_counted_is_told_what_to_pass():
    shared = CategoricalFeature("a", vocabulary_size=51_000_000, compression=QuotientRemainder(num_rows=10_000))
    model = model_of([shared], interaction="concat")
    model.compile()
    line = r'not counted where tables are compressed from more than 50 million ids\. Pass embedding_l2_by="batch"\.$'
    with pytest.raises(ValueError, match=line):
        model.fit({"a": np.array([0, 1])}, np.array([0.0, 1.0]), verbose=0)


def test_who_has_not_counted_is_told_how_before_the_first_step():
    model = model_of([CategoricalFeature("a", vocabulary_size=2)], interaction="concat")
    model.compile()
    line = r'^embedding_l2_by="frequency" needs to know how often .* or call nfm_tfrs\.training\.adapt_statistics first'
    with pytest.raises(ValueError, match=line):
        model.fit({"a": np.array([0, 1])}, np.array([0.0, 1.0]), verbose=0)
    with pytest.raises(ValueError, match=line):
        model.train_on_batch({"a": np.array([0, 1])}, np.array([0.0, 1.0]))
