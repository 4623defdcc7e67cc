"""Calibrations that are fitted, in NumPy and in the graph."""

import numpy as np
import pytest

from nfm_tfrs import metrics
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.serving.adjustment import Adjustment, fitted

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=20_000)
LABELS = (RNG.random(20_000) < 1 / (1 + np.exp(-(0.5 * LOGITS - 1)))).astype(np.float32)


def test_platt_finds_the_line_that_the_labels_were_drawn_by():
    found = fitted("platt", LOGITS, LABELS)

    assert (found.slope, found.intercept) == (pytest.approx(0.5, abs=0.05), pytest.approx(-1, abs=0.05))


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_probabilities_are_those_of_the_labels(method):
    adjusted = fitted(method, LOGITS, LABELS).of_array(LOGITS)

    error, ratio = metrics.calibration(LABELS, 1 / (1 + np.exp(-adjusted)))
    assert error < 0.01
    assert ratio == pytest.approx(1, abs=1e-3)
    assert metrics.calibration(LABELS, 1 / (1 + np.exp(-LOGITS)))[0] > 0.1


@pytest.mark.parametrize(
    "adjustment",
    [
        Adjustment(),
        Adjustment(slope=0.5, intercept=-1.0, negatives_kept=0.1),
        fitted("isotonic", LOGITS[:3000], LABELS[:3000]),
        Adjustment(thresholds=(0.5,), probabilities=(0.3,)),
    ],
)
def test_the_graph_computes_what_numpy_does(adjustment):
    logits = np.concatenate([LOGITS[:500], [-50.0, 50.0]]).astype(np.float32)

    found = adjustment.of_tensor(tf.constant(logits)).numpy()

    steps = np.abs([adjustment.of_array(logits + one) - adjustment.of_array(logits) for one in (1e-6, -1e-6)])
    steep = steps.max(axis=0)  # float32 does not tell where between two near thresholds a logit is
    assert (np.abs(found - adjustment.of_array(logits)) <= 1e-5 * np.maximum(1, np.abs(found)) + steep).all()
    assert adjustment.changes == (adjustment != Adjustment())


def test_weights_and_soft_labels_count():
    twice = fitted("platt", np.tile(LOGITS[:500], 2), np.repeat([1, 0], 500), np.tile(LABELS[:500], 2) * 0 + 1)
    soft = fitted("platt", LOGITS[:500], np.full(500, 0.5))

    assert (soft.slope, soft.intercept) == (
        pytest.approx(twice.slope, abs=1e-4),
        pytest.approx(twice.intercept, abs=1e-4),
    )


def test_left_out_negatives_are_made_up_for():
    kept = (LABELS == 1) | (RNG.random(len(LABELS)) < 0.25)
    adjusted = fitted("platt", LOGITS[kept], LABELS[kept], negatives_kept=0.25).of_array(LOGITS)

    assert metrics.calibration(LABELS, 1 / (1 + np.exp(-adjusted)))[1] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("platt", LOGITS[:40], LABELS[:40]), "50 validation rows or more, of both labels; received 40"),
        (("platt", LOGITS, np.ones(20_000)), "of both labels"),
        (("sigmoid", LOGITS, LABELS), "A calibration is platt or isotonic; received 'sigmoid'"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, line):
    with pytest.raises(ValueError, match=line):
        fitted(*arguments)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_of_negatives_is_above_0_and_at_most_1(share):
    with pytest.raises(ValueError, match="negatives_kept is the share of the rows labelled 0"):
        fitted(None, LOGITS, LABELS, negatives_kept=share)
