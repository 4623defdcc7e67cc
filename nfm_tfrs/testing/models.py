"""What every model holds."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.features.feature import CategoricalFeature, Feature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.runs.saving import load_model
from nfm_tfrs.testing.kit import BOUNDS, Check, Make, copy_weights, equal, made, require, require_close


def check_model(make: Make) -> None:
    """Runs every check of `MODEL_CHECKS`.

    Args:
        make: The model's class, or what makes one from keyword arguments: `partial(get_model, "nfm")`, for instance.

    Raises:
        AssertionError: A check does not hold; the message says which, and what to do.
    """
    for check in MODEL_CHECKS:
        check(make)


def check_model_output(make: Make) -> None:
    """A model returns float32 `[batch, 1]`, the same alone as among others, and in a graph as without."""
    model, (columns, _) = made(make, features=example_features()), example_rows(8)
    output = model(columns)
    require(output.shape == (8, 1) and output.dtype == tf.float32, make, "must return float32 [8, 1]", output)
    alone = tf.concat([model({k: v[row : row + 1] for k, v in columns.items()}) for row in range(8)], axis=0)
    require_close(alone, output, 1e-5, make, "an example must get the same alone as among others")
    graph = tf.function(lambda columns: model(columns, training=False))(columns)
    require_close(graph, output, 1e-5, make, "must return the same in a graph")


def check_model_learns(make: Make) -> None:
    """A gradient reaches every weight that is trained, and training lowers the loss."""
    model, (columns, labels) = made(make, features=example_features()), example_rows(64)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model(columns, training=True))
    gradients = tape.gradient(total, model.trainable_weights)
    unused = [w.name for w, gradient in zip(model.trainable_weights, gradients, strict=True) if gradient is None]
    require(not unused, make, "a gradient must reach every weight that is trained; unreached", unused)
    model.compile(keras.optimizers.Adam(0.01))
    rows = tf.data.Dataset.from_tensors((columns, labels))
    losses = model.fit(rows, epochs=30, verbose=0).history["loss"]
    require(np.isfinite(losses).all(), make, "losses must be finite", losses)
    require(np.mean(losses[-5:]) < losses[0], make, "30 steps must lower the loss", losses)


def check_model_config(make: Make) -> None:
    """The config is JSON and makes the same model."""
    model, (columns, _) = made(make, features=example_features(), name="model"), example_rows(4)
    again = type(model).from_config(json.loads(json.dumps(model.get_config())))
    require(again.get_config() == model.get_config(), make, "changes its config to", again.get_config())
    copy_weights(model, again, make)
    require(equal(again(columns), model(columns)), make, "made from its config says something else", "")


def check_model_save_and_load(make: Make) -> None:
    """A trained model says the same, to the bit, after it was saved and loaded, and its optimizer goes on."""
    model, (columns, labels) = made(make, features=example_features()), example_rows(16)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(tf.data.Dataset.from_tensors((columns, labels)), verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = load_model(path, trust=True)  # its own file: a class need not be registered yet
    require(equal(loaded(columns), model(columns)), make, "a loaded model says something else", "")
    pairs = zip(loaded.optimizer.variables, model.optimizer.variables, strict=True)
    require(all(equal(one, other) for one, other in pairs), make, "the optimizer's state is lost", "")


def check_model_dtype_policies(make: Make) -> None:
    """A step under mixed precision leaves logits and weights float32 and finite, and nothing global is set."""
    columns, labels = example_rows(16)
    for policy in BOUNDS:
        model = made(make, features=example_features(), dtype=policy)
        model.compile(keras.optimizers.SGD(0.01))
        model.fit(tf.data.Dataset.from_tensors((columns, labels)), verbose=0)
        output = model(columns)
        require(output.dtype == tf.float32, make, f"under {policy} logits must be float32", output.dtype.name)
        require(np.isfinite(output).all(), make, f"under {policy} logits must be finite", output)
        dtypes = {weight.dtype.name for weight in model.weights}
        require("float16" not in dtypes and "bfloat16" not in dtypes, make, "weights must be float32", dtypes)
    name = keras.mixed_precision.global_policy().name
    require(name == "float32", make, "must not set the global policy; it is", name)


MODEL_CHECKS: tuple[Check, ...] = (
    check_model_output,
    check_model_learns,
    check_model_config,
    check_model_save_and_load,
    check_model_dtype_policies,
)


def example_features() -> list[Feature]:
    """Returns one feature of each kind: an id, a string, a bag and a number."""
    return [
        CategoricalFeature("user", vocabulary_size=6),
        CategoricalFeature("city", vocabulary=("Rome", "Oslo")),
        MultiCategoricalFeature("genres", vocabulary_size=4),
        NumericFeature("price", mean=1.0, std=2.0),
    ]


def example_rows(count: int) -> tuple[dict[str, Any], Any]:
    """Returns `count` rows of `example_features`, unknown and missing values among them, and 0/1 labels."""
    rng = np.random.default_rng(count)
    lengths = rng.integers(0, 4, count)
    columns = {
        "user": tf.constant(rng.integers(-1, 7, count)),
        "city": tf.constant(rng.choice(["Rome", "Oslo", "Paris", ""], count)),
        "genres": tf.RaggedTensor.from_row_lengths(rng.integers(0, 5, lengths.sum()), lengths),
        "price": tf.constant(np.where(rng.random(count) < 0.2, np.nan, rng.normal(1.0, 2.0, count)), tf.float32),
    }
    return columns, tf.constant(rng.integers(0, 2, count), tf.float32)
