"""KerasTuner accepts TFRS models, whichever is imported first: each order in its own process."""

import pytest

SEARCH = """
import keras_tuner as kt, nfm_tfrs.tuning, numpy as np, tensorflow as tf, tensorflow_recommenders as tfrs

class Model(tfrs.Model):
    def __init__(self, units):
        super().__init__()
        self.tower = tf.keras.Sequential([tf.keras.layers.Dense(units), tf.keras.layers.Dense(1)])
        mse = tf.keras.metrics.MeanSquaredError("mse")
        self.task = tfrs.tasks.Ranking(tf.keras.losses.MeanSquaredError(), metrics=[mse])
    def call(self, inputs):
        return self.tower(inputs)
    def compute_loss(self, inputs, training=False):
        features, labels = inputs
        return self.task(labels=labels, predictions=self(features))

def build(hp):
    model = Model(hp.Int("units", 1, 4))
    model.compile(tf.keras.optimizers.Adagrad(0.1))
    return model

inputs = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
data = tf.data.Dataset.from_tensor_slices((inputs, np.ones((8, 1), "float32"))).batch(4)
tuner = kt.RandomSearch(build, kt.Objective("val_mse", "min"), max_trials=2, seed=1, directory="search", overwrite=True)
tuner.search(data, validation_data=data, epochs=1, verbose=0)
best = tuner.get_best_models(1)[0]
scores = [trial.score for trial in tuner.oracle.trials.values()]
print("best", isinstance(best, tfrs.Model), len(scores), min(scores) > 0)
"""


FIRST = [
    "import keras_tuner",
    "import nfm_tfrs.tuning",
    "import tensorflow",
    "import keras",
    "import tfrs_registry, keras_tuner",
]
TWICE = """
import keras, sys
version = keras.version
from nfm_tfrs.keras_compat import load_keras_tuner
print("keras_tuner" in sys.modules)
first = load_keras_tuner()
import keras_tuner, keras_tuner.src.engine.tuner_utils as utils
callback = utils.SaveBestEpoch
print(first is load_keras_tuner() is keras_tuner, utils.SaveBestEpoch is callback, keras.version is version)
"""
UNKNOWN_KERAS_TUNER = """
import pathlib, sys
pathlib.Path("keras_tuner.py").write_text("__version__ = '9.0'")
sys.path.insert(0, "")
from nfm_tfrs.keras_compat import load_keras_tuner
try:
    load_keras_tuner()
except ImportError as error:
    print(error)
"""
WITHOUT_THE_BRIDGE = """
import keras_tuner as kt
from nfm_tfrs import NFM, CategoricalFeature
def build(hp):
    model = NFM([CategoricalFeature("a", vocabulary_size=2), CategoricalFeature("b", vocabulary_size=2)])
    model.compile()
    return model
tuner = kt.RandomSearch(build, kt.Objective("val_auc", "max"), max_trials=1, directory="search")
try:
    rows = {"a": [0, 1], "b": [0, 1]}
    tuner.search(rows, [0, 1], validation_data=(rows, [0, 1]), epochs=1, verbose=0)
except kt.errors.FatalTypeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def runs(start_python):
    return start_python([*(f"{first}\n{SEARCH}" for first in FIRST), TWICE, UNKNOWN_KERAS_TUNER, WITHOUT_THE_BRIDGE])


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST)
def test_a_search_over_a_tfrs_model_runs_after(runs, first: str) -> None:
    assert runs[f"{first}\n{SEARCH}"].result().stdout.splitlines()[-1] == "best True 2 True"


def test_the_package_of_searches_alone_imports_neither_tensorflow_nor_keras_tuner(run_python) -> None:
    done = run_python("import sys, nfm_tfrs.tuning; print({'tensorflow', 'keras_tuner', 'keras'} & set(sys.modules))")
    assert done.stdout == "set()\n"


@pytest.mark.slow
def test_keras_tuner_is_imported_only_when_asked_for_and_bridged_once(runs) -> None:
    assert runs[TWICE].result().stdout.split() == ["False", "True", "True", "True"]


@pytest.mark.slow
def test_a_keras_tuner_built_otherwise_is_one_line(runs) -> None:
    assert runs[UNKNOWN_KERAS_TUNER].result().stdout == (
        "KerasTuner 9.0 does not accept tf.keras models; run: pip install keras-tuner==1.4.8\n"
    )


@pytest.mark.slow
def test_without_the_bridge_a_search_says_what_to_import(runs) -> None:
    assert runs[WITHOUT_THE_BRIDGE].result().stdout.splitlines()[-1] == (
        "KerasTuner takes models of Keras 3 alone here; received a NFM of tf.keras. Write `import nfm_tfrs.tuning` "
        "before the search."
    )
