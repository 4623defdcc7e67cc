"""The benchmark of the checks compares a step that refuses a batch with one that does not."""

import json

import numpy as np
import pytest
from lib.places import RESULTS
from speed import checks

from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.models.ranking import RankingModel


def test_unchecked_steps_take_what_checked_ones_refuse():
    model = RankingModel(
        [CategoricalFeature(name, vocabulary_size=3) for name in "cd"], embedding_dim=2, hidden_units=()
    )
    model.compile()
    batch = ({"c": np.array([0, 1]), "d": np.array([0, 1])}, np.array([-1.0, 1.0]))
    with pytest.raises(ValueError, match="The label is -1"):
        model.train_step(batch)
    with checks.unchecked():
        model.train_step(batch)


def test_a_quick_run_measures_both_forms_and_writes_nothing():
    before = {path: path.read_bytes() for path in RESULTS.iterdir()}
    forms = checks.main(["--quick"])["forms"]
    assert set(forms) == {"raw", "encoded"}
    for form in forms.values():
        assert form["checked"]["milliseconds"] > 0
        assert form["unchecked"]["milliseconds"] > 0
    json.dumps(forms)
    assert {path: path.read_bytes() for path in RESULTS.iterdir()} == before
