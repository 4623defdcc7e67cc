import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from nfm_tfrs import metrics
from nfm_tfrs.data import synthetic
from nfm_tfrs.data.synthetic import click_log


@pytest.fixture(scope="module", params=[2, 3], ids=["pairs", "triples"])
def log(request):
    return click_log(60_000, seed=7, order=request.param)


def test_best_auc_and_click_rate_are_as_asked(log):
    # Standard errors on 60 thousand rows: 0.0018 (AUC), 0.0018 (click rate); the reference sample adds as much.
    assert log.expected_best_auc == pytest.approx(0.8, abs=0.008)
    assert log.best_auc == pytest.approx(0.8, abs=0.008)
    assert log.table["click"].to_numpy().mean() == pytest.approx(0.25, abs=0.008)


@pytest.mark.parametrize(("best_auc", "click_rate"), [(0.65, 0.05), (0.9, 0.5), (0.99, 0.2)])
def test_other_targets_are_reached(best_auc, click_rate):
    log = click_log(60_000, seed=1, best_auc=best_auc, click_rate=click_rate)
    assert log.expected_best_auc == pytest.approx(best_auc, abs=0.01)
    assert log.table["click"].to_numpy().mean() == pytest.approx(click_rate, abs=0.008)


def test_best_auc_is_the_exact_auc_of_the_true_logits(log):
    clicks = log.table["click"].to_numpy()
    assert log.best_auc == pytest.approx(roc_auc_score(clicks, log.true_logits), abs=1e-12)


def test_expected_best_auc_weighs_every_pair_of_rows_with_its_probability():
    log = click_log(300, seed=3)
    p = 1 / (1 + np.exp(-log.true_logits))
    weight = np.outer(p, 1 - p)
    won = (log.true_logits[:, None] > log.true_logits) + 0.5 * (log.true_logits[:, None] == log.true_logits)
    assert log.expected_best_auc == pytest.approx((won * weight).sum() / weight.sum(), abs=1e-12)


def test_best_auc_of_one_class_is_nan():
    assert np.isnan(click_log(1, seed=0).best_auc)


def test_clicks_follow_the_true_logits(log):
    result = metrics.calibration(log.table["click"].to_numpy(), 1 / (1 + np.exp(-log.true_logits)))
    assert result.expected_error < 0.01
    assert result.predicted_to_actual == pytest.approx(1, abs=0.02)


def test_with_waves_the_truth_rises_and_falls_with_numbers():
    linear, waves = (click_log(20_000, seed=7, numbers=numbers) for numbers in ("linear", "waves"))
    for field, standardised in (("price", lambda x: np.log(x) - 3), ("age", lambda x: (x - 40) / 12)):
        z = standardised(linear.table[field].to_numpy())
        there = ~np.isnan(z)
        planted = np.sqrt(2) * np.cos(3 * z[there])
        seen = [abs(np.corrcoef(log.true_logits[there], planted)[0, 1]) for log in (linear, waves)]
        assert seen[0] < 0.03 < 0.06 < seen[1]
    assert waves.expected_best_auc == pytest.approx(0.8, abs=0.008)
    assert linear.table.drop(["click"]).equals(waves.table.drop(["click"]))
    with pytest.raises(ValueError, match='numbers must be "linear" or "waves"; received \'steps\''):
        click_log(10, seed=0, numbers="steps")


def test_the_same_seed_gives_the_same_log_and_another_seed_another():
    one, same, other = click_log(500, seed=5), click_log(500, seed=5), click_log(500, seed=6)
    assert one.table.equals(same.table)
    np.testing.assert_array_equal(one.true_logits, same.true_logits)
    assert not one.table.equals(other.table)


def test_another_number_of_rows_comes_from_the_same_weights():
    few, many = (synthetic._World.draw(np.random.default_rng(np.random.SeedSequence(5).spawn(3)[0])) for _ in range(2))
    np.testing.assert_array_equal(few.matrices, many.matrices)
    assert click_log(20_000, seed=5).expected_best_auc == pytest.approx(
        click_log(1000, seed=5).expected_best_auc, abs=0.03
    )


def test_columns_and_types(log):
    types = {field.name: str(field.type) for field in log.table.schema}
    assert types == {
        "user_id": "string",
        "ad_id": "int64",
        "site": "string",
        "city": "string",
        "category": "int64",
        "device": "string",
        "hour": "int64",
        "interests": "list<item: string>",
        "price": "double",
        "age": "double",
        "timestamp": "int64",
        "click": "int8",
    }
    assert set(synthetic.FIELDS) == set(types) - {"timestamp", "click"}
    assert set(itertools.chain(*synthetic.PAIRS, *synthetic.TRIPLES)) <= set(synthetic.FIELDS)


def test_columns_hold_what_they_say(log):
    table = log.table
    assert log.true_logits.shape == (table.num_rows,)
    assert log.true_logits.dtype == np.float64
    assert 0.01 < table["price"].null_count / table.num_rows < 0.03
    assert 0.04 < table["age"].null_count / table.num_rows < 0.06
    assert {name for name in table.column_names if table[name].null_count} == {"price", "age"}
    assert not np.isnan(table["price"].drop_null().to_numpy()).any()  # missing is null, not NaN
    timestamps = table["timestamp"].to_numpy()
    assert (np.diff(timestamps) >= 0).all()
    np.testing.assert_array_equal(table["hour"].to_numpy(), timestamps // 3600 % 24)
    bags = table["interests"].to_pylist()
    assert {len(bag) for bag in bags} == {0, 1, 2, 3, 4, 5}
    assert all(len(set(bag)) == len(bag) for bag in bags)
    assert set(table["click"].to_numpy()) == {0, 1}


def test_ids_follow_the_law_of_zipf(log):
    counts = Counter(log.table["site"].to_pylist())
    harmonic = (np.arange(1, 101) ** -0.9).sum()
    for rank in (1, 2, 4, 10):
        share = counts[f"site_{rank - 1}"] / log.table.num_rows
        assert share == pytest.approx(rank**-0.9 / harmonic, rel=0.1)


def test_terms_equal_a_loop_over_one_row():
    world = synthetic._World.draw(np.random.default_rng(0))
    rows = synthetic._Rows.draw(np.random.default_rng(1), 40)
    terms = world.terms(rows)
    for row in range(40):
        of = {}
        for field in synthetic.CATEGORICAL:
            of[field] = world.weights[field][rows.ids[field][row]]
        bag = [value for value in rows.ids["interests"][row] if value >= 0]
        of["interests"] = np.mean([world.weights["interests"][value] for value in bag], axis=0) if bag else np.zeros(3)
        price, age = rows.numbers["price"][row], rows.numbers["age"][row]
        of["price"] = world.weights["price"][0] * (0 if np.isnan(price) else np.log(price) - 3)
        of["age"] = world.weights["age"][0] * (0 if np.isnan(age) else (age - 40) / 12)
        first = sum(values[0] for values in of.values())
        pairs = sum(
            of[i][1 + d] * matrix[d, e] * of[j][1 + e]
            for (i, j), matrix in zip(synthetic.PAIRS, world.matrices, strict=True)
            for d in range(2)
            for e in range(2)
        )
        triples = sum(
            vector[d] * of[i][1 + d] * of[j][1 + d] * of[k][1 + d]
            for (i, j, k), vector in zip(synthetic.TRIPLES, world.vectors, strict=True)
            for d in range(2)
        )
        np.testing.assert_allclose(terms[row], [first, pairs, triples], atol=1e-10)


def test_the_three_sums_have_their_shares_of_the_variance():
    rows = synthetic._Rows.draw(np.random.default_rng(1), 50_000)
    terms = synthetic._World.draw(np.random.default_rng(0)).terms(rows)
    correlation = np.corrcoef(terms.T)
    assert np.abs(correlation - np.eye(3)).max() < 0.05  # so the shares add up


@pytest.mark.parametrize("field", [*synthetic.CATEGORICAL, *synthetic.MULTI_CATEGORICAL])
def test_no_part_of_a_pair_can_be_had_from_one_field(field):
    # Given one field of a pair, the other's expected vector, hence the pair's expected value, is zero.
    weights = synthetic._World.draw(np.random.default_rng(0)).weights[field]
    size, exponent = (synthetic.CATEGORICAL | synthetic.MULTI_CATEGORICAL)[field]
    probability = np.array([rank**-exponent for rank in range(1, size + 1)])
    probability /= probability.sum()
    np.testing.assert_allclose(np.average(weights, axis=0, weights=probability), 0, atol=1e-12)
    np.testing.assert_allclose(np.average(weights**2, axis=0, weights=probability), 1, rtol=1e-12)


def test_triples_are_in_the_logit_of_order_3_only():
    log = {order: click_log(2000, seed=4, order=order) for order in (2, 3)}
    streams = [np.random.default_rng(part) for part in np.random.SeedSequence(4).spawn(3)]
    terms = synthetic._World.draw(streams[0]).terms(synthetic._Rows.draw(streams[2], 2000))
    design = np.column_stack([np.ones(2000), terms])
    for order, expected in ((2, [0.35, 0.65, 0]), (3, [0.3, 0.4, 0.3])):
        weights, residual, *_ = np.linalg.lstsq(design, log[order].true_logits, rcond=None)
        assert residual < 1e-15 * 2000  # the logit is these three sums and nothing else
        shares = (weights[1:] * terms.std(0)) ** 2
        np.testing.assert_allclose(shares / shares.sum(), expected, atol=0.08)


def test_a_linear_model_stays_clearly_below_the_best():
    log = click_log(30_000, seed=0)
    clicks = log.table["click"].to_numpy()
    fields = [np.unique(log.table[name].to_numpy(), return_inverse=True)[1] for name in ("category", "device", "hour")]
    one_hot = np.concatenate([np.eye(codes.max() + 1)[codes] for codes in fields], axis=1)
    linear = LogisticRegression().fit(one_hot, clicks)
    assert 0.55 < metrics.auc(clicks, linear.decision_function(one_hot)) < log.best_auc - 0.08


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "click_log needs 1 row or more; received rows=0."),
        ({"order": 4}, "click_log plants interactions of order 2 or 3; received order=4."),
        ({"best_auc": 0.5}, "best_auc must be above 0.5 and at most 0.99; received 0.5."),
        ({"best_auc": 1}, "best_auc must be above 0.5 and at most 0.99; received 1."),
        ({"click_rate": 1.0}, "click_rate must be above 0 and below 1; received 1.0."),
    ],
)
def test_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared whole
        click_log(**{"rows": 10, "seed": 0, **arguments})
    assert str(error.value) == message


def test_generating_imports_neither_tensorflow_nor_scikit_learn():
    code = """
import sys
from nfm_tfrs.data.synthetic import click_log
click_log(10, seed=0)
print({"tensorflow", "sklearn"} & set(sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_fields_have_as_many_ids_as_are_asked_for_and_other_fields_as_ever():
    log = click_log(20_000, seed=3, sizes={"ad_id": 5000, "user_id": 40})
    assert log.table["ad_id"].to_numpy().max() > 1000 + 4000
    assert len(log.table["user_id"].unique()) == 40
    assert len(log.table["site"].unique()) == 100
    assert log.expected_best_auc == pytest.approx(0.8, abs=0.01)
    same = click_log(500, seed=3, sizes={"ad_id": synthetic.CATEGORICAL["ad_id"][0]})
    assert same.table.equals(click_log(500, seed=3).table)


@pytest.mark.parametrize("sizes", [{"ad": 5}, {"hour": 5}, {"ad_id": 0}])
def test_sizes_of_other_fields_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes are of user_id, ad_id, site, city, category, device, each 1 or more"):
        click_log(10, seed=0, sizes=sizes)
