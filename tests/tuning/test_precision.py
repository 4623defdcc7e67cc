"""Precision is a hyperparameter like any other, and nothing of a trial is left for the next."""

import numpy as np
import pytest

from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdagrad
from nfm_tfrs.tuning import keras_tuner

FEATURES = [CategoricalFeature(name, vocabulary_size=20) for name in "abc"]


@pytest.mark.slow
def test_a_search_over_precisions_leaves_nothing_of_a_trial_for_the_next(tmp_path):
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, 20, 64) for name in "abc"}
    data = tf.data.Dataset.from_tensor_slices((columns, rng.integers(0, 2, 64).astype(np.float32))).batch(32)
    built = []

    def build(hp):
        keras.utils.set_random_seed(0)
        precision = hp.Choice("precision", ["mixed_float16", "float32", "mixed_bfloat16"])
        model = RankingModel(FEATURES, interaction="cross", dtype=precision)
        model.compile(LazyAdagrad(0.1))
        built.append((precision, model))
        return model

    tuner = keras_tuner.GridSearch(build, keras_tuner.Objective("val_auc", "max"), directory=tmp_path, seed=0)
    tuner.search(data, validation_data=data, epochs=2, verbose=0)
    trials = tuner.oracle.trials.values()
    assert [trial.hyperparameters.get("precision") for trial in trials] == [
        "mixed_float16",
        "float32",
        "mixed_bfloat16",
    ]
    assert {trial.status for trial in trials} == {"COMPLETED"}
    for precision, model in built:
        half = model.dtype_policy.compute_dtype
        assert model.dtype_policy.name == precision
        assert {variable.dtype for variable in model.variables} == {tf.float32}
        assert model.interaction.compute_dtype == half
        assert model._tower(tf.zeros([1, 48])).dtype == half
        scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
        assert scaled == (precision == "mixed_float16")
        assert ("skipped_steps" in model.metrics_names) == scaled
    assert keras.mixed_precision.global_policy().name == "float32"
    assert tf.keras.layers.Dense(1).compute_dtype == "float32"
    # The float32 trial learnt what a float32 model learns in a process that has seen no other.
    alone = build(keras_tuner.HyperParameters.from_config({"space": [], "values": {"precision": "float32"}}))
    history = alone.fit(data, validation_data=data, epochs=2, verbose=0).history
    second = next(trial for trial in trials if trial.hyperparameters.get("precision") == "float32")
    assert max(history["val_auc"]) == pytest.approx(second.score, abs=1e-6)
