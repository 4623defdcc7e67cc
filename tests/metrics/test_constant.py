"""The constant prediction, and what it would have scored."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from nfm_tfrs.metrics import constant_prediction, constant_report, no_better

CLICKS = np.array([1, 0, 0, 1, 0], np.float32)
WEIGHTS = np.array([1, 2, 0, 3, 4], np.float32)
NUMBERS = np.array([3.0, 5.0, 10.0])


def test_clicks_are_predicted_by_the_logit_of_their_rate():
    logit = constant_prediction(CLICKS, WEIGHTS, binary=True)

    assert 1 / (1 + np.exp(-logit)) == pytest.approx(0.4)
    expected = log_loss(CLICKS, np.full(5, 0.4), sample_weight=WEIGHTS, labels=[0, 1])
    assert constant_report(logit, CLICKS, WEIGHTS, binary=True) == {"log_loss": pytest.approx(expected)}


def test_numbers_are_predicted_by_their_mean():
    mean = constant_prediction(NUMBERS, [1, 1, 2], binary=False)

    assert mean == 7.0
    expected = np.sqrt((16 + 4 + 2 * 9) / 4)
    assert constant_report(mean, NUMBERS, [1, 1, 2], binary=False) == {"rmse": pytest.approx(expected)}


@pytest.mark.parametrize(("label", "logit"), [(0.0, -np.log(9)), (1.0, np.log(9))])
def test_a_class_that_is_not_there_counts_half_a_row(label, logit):
    assert constant_prediction(np.full(5, label), binary=True) == pytest.approx(logit)


@pytest.mark.parametrize(("labels", "weights"), [([], None), ([1.0], [0.0])])
def test_without_rows_or_weight_it_is_zero(labels, weights):
    assert constant_prediction(labels, weights, binary=False) == 0.0


@pytest.mark.parametrize(("rmse", "worse"), [(0.9, False), (1.0, True), (1.1, True), (float("nan"), True)])
def test_only_a_model_that_is_better_passes_without_a_word(rmse, worse):
    sentence = no_better({"rmse": rmse, "mae": 9.0}, {"rmse": 1.0})

    expected = (
        f"The model is no better than the mean of the training rows for every row: rmse {rmse:.4f} against 1.0000."
    )
    assert sentence == (expected if worse else None)


def test_without_a_constant_nothing_is_said():
    assert no_better({"rmse": 1.0}, {}) is None
