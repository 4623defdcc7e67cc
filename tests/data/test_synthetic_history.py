"""The log of histories: its truth is the best match, and neither the item alone nor the mean of a history tells it."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nfm_tfrs.data import synthetic_history
from nfm_tfrs.data.synthetic_history import MOST_SEEN, history_log


@pytest.fixture(scope="module")
def log():
    return history_log(30_000, seed=7)


def world(seed):
    return synthetic_history._World(np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[0]))


def test_best_auc_and_click_rate_are_as_asked(log):
    assert log.expected_best_auc == pytest.approx(0.8, abs=0.01)
    assert log.best_auc == pytest.approx(0.8, abs=0.012)
    assert log.table["click"].to_numpy().mean() == pytest.approx(0.25, abs=0.012)


def test_true_logits_rise_with_the_best_match_and_the_item_alone(log):
    planted, items = world(7), log.table["item_id"].to_numpy()
    rows = [row for row, seen in enumerate(log.table["seen"].to_pylist()[:500]) if seen]
    best = [
        max(planted._vectors[one] @ planted._vectors[items[row]] for one in log.table["seen"][row].as_py())
        for row in rows
    ]
    columns = np.stack([np.ones(len(rows)), planted._weights[items[rows]], best], axis=1)
    found, residual, *_ = np.linalg.lstsq(columns, log.true_logits[rows], rcond=None)
    assert residual[0] < 1e-12
    assert found[2] > 0


def test_the_mean_of_the_history_says_less_than_its_best_match(log):
    planted, items, clicks = world(7), log.table["item_id"].to_numpy(), log.table["click"].to_numpy()
    rows = [row for row, seen in enumerate(log.table["seen"].to_pylist()) if seen]
    likeness = [planted._vectors[log.table["seen"][row].as_py()] @ planted._vectors[items[row]] for row in rows]
    mean, best = (roc_auc_score(clicks[rows], [pool(one) for one in likeness]) for pool in (np.mean, np.max))
    assert best - mean > 0.05


def test_columns_and_lengths(log):
    types = {field.name: str(field.type) for field in log.table.schema}
    assert types == {"item_id": "int64", "seen": "list<item: int64>", "timestamp": "int64", "click": "int8"}
    lengths = np.diff(log.table["seen"].combine_chunks().offsets.to_numpy())
    assert (lengths.min(), lengths.max()) == (0, MOST_SEEN)
    assert (np.diff(log.table["timestamp"].to_numpy()) >= 0).all()


def test_the_same_seed_gives_the_same_log_and_another_seed_another():
    one, same, other = history_log(300, seed=5), history_log(300, seed=5), history_log(300, seed=6)
    assert one.table.equals(same.table)
    np.testing.assert_array_equal(one.true_logits, same.true_logits)
    assert not one.table.equals(other.table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "history_log needs 1 row or more; received rows=0"),
        ({"rows": 9, "best_auc": 0.5}, "best_auc must be above 0.5 and at most 0.99; received 0.5"),
        ({"rows": 9, "click_rate": 1.0}, "click_rate must be above 0 and below 1; received 1.0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        history_log(**{"seed": 0, **arguments})
