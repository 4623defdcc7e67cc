"""Every order in which TensorFlow, its Keras and this package may be imported, each in its own process."""

import os
from importlib import metadata

import pytest

from tfrs_registry import LegacyKerasError, legacy_keras

# What the process ends up with: one line with the packages its Keras names come from, or the error.
VERDICT = """
import nfm_tfrs, tfrs_registry
try:
    tfrs_registry.legacy_keras.require()
except tfrs_registry.LegacyKerasError as error:
    try:
        tfrs_registry.get_model("nfm")
    except tfrs_registry.LegacyKerasError as again:
        assert str(again) == str(error)
    print(error)
else:
    import tensorflow as tf
    from tensorflow.keras import layers
    from tensorflow.keras.optimizers import Adam
    import tensorflow_recommenders as tfrs
    found = [tf.keras.Model, layers.Layer, Adam, tf.losses.Loss, tf.optimizers.Adam, tfrs.Model.__mro__[1]]
    print({each.__module__.split(".")[0] for each in found})
"""
KERAS_3 = (
    "TensorFlow already uses Keras 3 in this process, but TFRS needs Keras 2; "
    "restart it, and put first, above every other import: import tfrs_registry"
)


USABLE = [
    "import tfrs_registry, tensorflow",
    "import nfm_tfrs, tensorflow",
    "import tensorflow",
    "import keras",
    "import tfrs_registry, os; del os.environ['TF_USE_LEGACY_KERAS']; import tensorflow",
    "import os, tensorflow as tf; os.environ['TF_USE_LEGACY_KERAS'] = 'True'; tf.keras.Model",
]
TOO_LATE = [
    "import tensorflow as tf; tf.keras.Model",
    "from tensorflow.keras import layers",
    "import tensorflow as tf; tf.losses.MeanSquaredError",
    "try: import tensorflow_recommenders\nexcept ImportError: pass",
    "import tfrs_registry, os; del os.environ['TF_USE_LEGACY_KERAS']; import tensorflow as tf; tf.keras.Model",
]
KERAS_3_BEFORE = """
import os, tensorflow as tf
model, path = tf.keras.Model, list(tf.__path__)
import tfrs_registry, nfm_tfrs
print(tf.keras.Model is model, list(tf.__path__) == path, "TF_USE_LEGACY_KERAS" in os.environ)
"""


@pytest.fixture(scope="module")
def runs(start_python):
    return start_python([*(f"{before}\n{VERDICT}" for before in USABLE + TOO_LATE), KERAS_3_BEFORE])


@pytest.mark.slow
@pytest.mark.parametrize("before", USABLE)
def test_all_of_tensorflow_uses_keras_2_after(runs, before: str) -> None:
    assert runs[f"{before}\n{VERDICT}"].result().stdout == "{'tf_keras'}\n"


@pytest.mark.slow
@pytest.mark.parametrize("before", TOO_LATE)
def test_one_line_says_what_to_put_first_after(runs, before: str) -> None:
    assert runs[f"{before}\n{VERDICT}"].result().stdout == f"{KERAS_3}\n"


@pytest.mark.slow
def test_a_keras_3_in_use_is_left_alone(runs) -> None:
    assert runs[KERAS_3_BEFORE].result().stdout.split() == ["True", "True", "False"]


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_values_that_tensorflow_counts_are_kept(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    legacy_keras.require()
    assert os.environ["TF_USE_LEGACY_KERAS"] == value


@pytest.mark.parametrize("value", ["0", "false", "TRUE", ""])
def test_values_that_tensorflow_does_not_count_are_kept_and_reported(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    legacy_keras.ensure()
    assert os.environ["TF_USE_LEGACY_KERAS"] == value
    with pytest.raises(LegacyKerasError) as caught:
        legacy_keras.require()
    assert str(caught.value) == (
        f"TF_USE_LEGACY_KERAS is {value!r}, so TensorFlow uses Keras 3, but TFRS needs Keras 2; unset it, "
        "or put first: import os; os.environ['TF_USE_LEGACY_KERAS'] = '1'"
    )


@pytest.mark.parametrize("package", ["nfm_tfrs", "tfrs_registry"])
def test_import_sets_the_variable_and_imports_no_tensorflow(run_python, package: str) -> None:
    script = f"import os, sys, {package}; print(os.environ['TF_USE_LEGACY_KERAS'], 'tensorflow' in sys.modules)"
    assert run_python(script).stdout.split() == ["1", "False"]


def message_of_get_model(without: str = "") -> str:
    return f"""
import os, sys
if {without!r}: sys.modules[{without!r}] = None
import nfm_tfrs, tfrs_registry
print("TF_USE_LEGACY_KERAS" in os.environ)
try:
    tfrs_registry.get_model("nfm")
except tfrs_registry.LegacyKerasError as error:
    print(error)
"""


def test_tf_keras_missing_is_one_line_and_tensorflow_keeps_its_keras(run_python) -> None:
    minor = ".".join(metadata.version("tensorflow").split(".")[:2])
    assert run_python(message_of_get_model(without="tf_keras")).stdout.splitlines() == [
        "False",
        f"TFRS needs tf-keras, which is not installed; run: pip install 'tf-keras~={minor}.0'",
    ]


def test_tensorflow_missing_is_one_line(run_python) -> None:
    assert run_python(message_of_get_model(without="tensorflow")).stdout.splitlines() == [
        "True",
        "TFRS needs TensorFlow, which is not installed; run: pip install tensorflow tf-keras",
    ]


def test_tf_keras_of_another_minor_is_one_line(run_python, add_distribution) -> None:
    site = add_distribution("tf_keras", "2.1.7")
    version = metadata.version("tensorflow")
    minor = ".".join(version.split(".")[:2])
    assert run_python(message_of_get_model(), PYTHONPATH=site).stdout.splitlines() == [
        "True",
        f"tf-keras 2.1.7 does not fit TensorFlow {version}; run: pip install 'tf-keras~={minor}.0'",
    ]
