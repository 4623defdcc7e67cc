"""Each name and each unwritten behaviour of another package that this one leans on is still there."""

import gc
import importlib
import inspect
import re
import runpy
from typing import Any

import keras as installed_keras
import numpy as np
import pytest

from nfm_tfrs.data.pipeline.batches import plain_errors, to_tensor
from nfm_tfrs.data.pipeline.generator import _UnderWay
from nfm_tfrs.keras_compat import forgotten_gradients, keras, optimizer, private, search, tf, tuner
from nfm_tfrs.models.stop import _IN_LOOP
from nfm_tfrs.optimizers import _are_distinct

NAMES = {
    name: used_by for module in (private, optimizer, tuner, search) for name, used_by in module.PRIVATE_NAMES.items()
}


def is_there(name: str) -> bool:
    """Whether a module, what it defines, or an attribute of a class or of its instances is there."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        break
    else:
        return False
    for part in parts[length:]:
        if not hasattr(found, part):
            # What instances have is written in the source of their class alone.
            classes = [cls for cls in getattr(found, "__mro__", ()) if cls.__module__ != "builtins"]
            return any(re.search(rf"\b{part}\b", inspect.getsource(cls)) for cls in classes)
        found = getattr(found, part)
    return True


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_is_there(name: str) -> None:
    used_by = NAMES[name]
    where = getattr(used_by, "__qualname__", None) or used_by.fget.__qualname__
    assert is_there(name), f"{name} is gone, which {where} in nfm_tfrs/keras_compat needs: {used_by.__doc__}"


@pytest.mark.parametrize(
    "name", ["tf_keras.Model._gone", "tf_keras.gone.Model", "keras_tuner.src.gone", "gone.module", "tensorflow.gone"]
)
def test_a_name_that_is_gone_is_noticed(name: str) -> None:
    assert not is_there(name)


def test_autograph_says_that_a_loop_failed_and_then_the_error_in_its_own_words() -> None:
    def step() -> tf.Tensor:
        raise ValueError("In its own words.")

    @tf.function
    def steps(count: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(count):
            result = step()
        return result

    with pytest.raises(ValueError, match=r".") as caught:
        steps(tf.constant(2))
    found = _IN_LOOP.search(str(caught.value))
    assert found is not None, f"AutoGraph words it otherwise, {caught.value}: mend _IN_LOOP of models/stop.py"
    assert found[1].strip() == "In its own words.", "mend _IN_LOOP of models/stop.py"


def test_tensorflow_words_the_error_of_a_python_function_with_its_class() -> None:
    def check(_: np.ndarray) -> np.ndarray:
        raise ValueError("In its own words.")

    with pytest.raises(ValueError, match=r".") as caught, plain_errors():
        list(tf.data.Dataset.range(1).map(lambda value: tf.numpy_function(check, [value], tf.int64)))
    assert str(caught.value) == "In its own words.", "mend _PLAIN of data/pipeline/batches.py"


def test_tensorflow_holds_an_aligned_array_and_frees_it_with_the_tensor() -> None:
    closed = []

    def generate(number: int) -> Any:
        try:
            yield []
        finally:
            closed.append(number)

    under_way = _UnderWay(generate)
    token = tf.function(lambda: tf.numpy_function(under_way.begin, [0], tf.int64))()
    under_way.next(token.numpy())
    where = "_UnderWay of data/pipeline/generator.py closes generators by it"
    gc.collect()
    tf.constant(0)  # TensorFlow frees arrays at its next operation
    assert closed == [], f"TensorFlow copied an aligned array: {where}"
    del token
    gc.collect()
    tf.constant(0)
    assert closed == [0], f"TensorFlow keeps an array after its tensor: {where}"


def test_tensorflow_shares_the_memory_of_a_file_that_is_mapped(tmp_path: Any) -> None:
    np.arange(5000).tofile(tmp_path / "array")
    mapped = np.memmap(tmp_path / "array", np.int64, "c", shape=(5000,))
    tensor = to_tensor(mapped)
    mapped[0] = 7
    assert int(tensor[0]) == 7, "dlpack copies: caches are read into memory by to_tensor of data/pipeline/batches.py"


def test_unique_is_found_by_walking_backwards_from_its_output() -> None:
    found = {}

    @tf.function(autograph=False)
    def look(ids: tf.Tensor) -> tf.Tensor:
        distinct, positions = tf.unique(ids, tf.int64)
        found["itself"] = _are_distinct(distinct)
        found["reshaped"] = _are_distinct(tf.reshape(tf.identity(distinct), [-1]))
        found["positions"] = _are_distinct(positions)
        found["ids"] = _are_distinct(ids)
        return distinct

    look(tf.constant([1, 1], tf.int64))
    expected = {"itself": True, "reshaped": True, "positions": False, "ids": False}
    assert found == expected, (
        "tf.unique makes other operations: _are_distinct of optimizers.py merges rows twice, or never"
    )


def test_a_keras_without_version_is_taken_for_keras_2(monkeypatch: pytest.MonkeyPatch) -> None:
    config = importlib.import_module("keras_tuner.src.backend.config")
    monkeypatch.setattr(installed_keras, "version", None)
    assert config.__file__ is not None
    assert not runpy.run_path(config.__file__)["_MULTI_BACKEND"], (
        "load_keras_tuner of keras_compat/tuner.py hides it while it imports"
    )


def test_custom_gradients_are_registered_under_the_names_that_are_forgotten() -> None:
    registered = private.gradient_registry._registry
    before = set(registered)

    @tf.function
    def traced(x: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def doubled(x: tf.Tensor) -> Any:
            return 2 * x, lambda upstream: 2 * upstream

        return doubled(x)

    where = "forgotten_gradients of keras_compat/private.py frees the memory of trainings by them"
    with forgotten_gradients():
        traced(tf.constant(1.0))
        added = set(registered) - before
        assert added, f"custom gradients are registered elsewhere: {where}"
        assert all(name.startswith("CustomGradient-") for name in added), f"they have other names: {where}"
    assert set(registered) == before


def test_an_overflow_halves_the_loss_scale_and_counts_as_a_step() -> None:
    inner = keras.optimizers.SGD(1.0)
    scaled = keras.mixed_precision.LossScaleOptimizer(inner)
    variable = tf.Variable(1.0)
    before = float(scaled.loss_scale)
    scaled.apply_gradients([(tf.constant(float("inf")), variable)])
    where = "_apply_scaled of models/task_model.py tells skipped steps by it"
    assert float(scaled.loss_scale) == before / 2, f"the scale of the loss is set otherwise: {where}"
    assert (int(scaled.dynamic_counter), float(variable)) == (0, 1.0), (
        f"the scale of the loss is set otherwise: {where}"
    )
    assert int(scaled.iterations) == 1, f"a skipped step is no step any more: {where}, and takes one off"


def made_oracle(folder: Any) -> search.OpenOracle:
    oracle = search.OpenOracle(search.keras_tuner.Objective("val_auc", "max"), seed=0, first_state=7, max_failures=2)
    oracle.populate_space = lambda trial_id: {"status": "RUNNING", "values": {}}
    oracle._set_project_dir(str(folder), "trials")
    oracle.verbose = 0
    return oracle


def test_the_oracle_hands_a_tuner_that_asks_again_its_trial_again(tmp_path: Any) -> None:
    oracle = made_oracle(tmp_path)
    first, again, other = (oracle.create_trial(name) for name in ("worker0", "worker0", "worker1"))
    assert first is again, "serve of tuning/workers.py starts workers again by it"
    assert first is not other


def test_an_oracle_is_kept_until_it_is_forgotten(tmp_path: Any) -> None:
    module = importlib.import_module("keras_tuner.src.engine.oracle")
    oracle = made_oracle(tmp_path)
    oracle.create_trial("tuner0")
    assert oracle in module.LOCKS, "forget_oracle of keras_compat/tuner.py may not be needed any more"
    oracle.forget()
    assert oracle not in module.LOCKS
    assert oracle not in module.THREADS


def test_conditions_print_nothing_when_they_are_sent(capsys: pytest.CaptureFixture[str]) -> None:
    tuner.quiet_conditions()
    conditions = importlib.import_module("keras_tuner.src.engine.conditions")
    conditions.Parent("block", ["fm"]).to_proto()
    assert capsys.readouterr().out == "", "quiet_conditions of keras_compat/tuner.py takes nothing away"


def test_the_hooks_of_oracle_and_tuner_are_called_under_their_public_names(tmp_path: Any) -> None:
    saved = []

    class Oracle(search.OpenOracle):
        def values_hash(self, values: dict[str, Any]) -> str:
            return "same"

        def save_trial(self, trial: Any) -> None:
            saved.append(trial.trial_id)

    oracle = made_oracle(tmp_path)
    oracle.__class__ = Oracle
    trial = oracle.create_trial("tuner0")
    assert (saved, oracle.tried) == ([trial.trial_id], {"same"})
    trial.status = "FAILED"
    for _ in range(2):  # as many as may fail, and KerasTuner would raise
        oracle.end_trial(trial)
    assert oracle.get_state()["seed_state"] == 7
    assert oracle.next_seed() == 8
    assert oracle.file == tmp_path / "trials" / "oracle.json"
    assert oracle.trial_folder("0") == tmp_path / "trials" / "trial_0"


@pytest.mark.parametrize(("own", "said"), [(True, "One line."), (False, "Exception encountered when calling layer")])
def test_keras_wraps_a_page_around_what_a_layer_raises_unless_it_is_marked(own: bool, said: str) -> None:
    class Raises(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            if not own:
                raise ValueError("One line.")
            with private.own_line():
                raise ValueError("One line.")

    with pytest.raises(ValueError, match=f"^{said}"):
        Raises()(tf.zeros([1]))
