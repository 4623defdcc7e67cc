"""A deep & cross ranking model of TensorFlow Recommenders' own layers, as its DCN tutorial stacks them.

One Embedding a feature, their concatenation and the numbers through one full-rank `tfrs.layers.dcn.Cross`, the tower,
`tfrs.tasks.Ranking`. Not an NFM: another network of the same size, beside which it stands. Unlike the tutorial's it
takes ids that are encoded already, which spares it the look-ups, and is fitted on a dict of arrays, which Keras gathers
by permutation, faster than the tutorial's row-wise `tf.data` pipeline. The step is one tf.function of the model's
`train_step` on tensors that are ready. By default Adam 0.01, the tutorial's. The option {"projection_dim": n} makes
the Cross low-rank.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from interface import Runner, rows_of, serve
from lib.workloads import Rows, Workload


def load() -> type[Runner]:
    """Imports TensorFlow Recommenders; returns its runner."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    optimizers = {
        "adam": tf.keras.optimizers.Adam,
        "adagrad": tf.keras.optimizers.Adagrad,
        "default": lambda: tf.keras.optimizers.Adam(0.01),
    }

    class Clock(tf.keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            # Not when fit returns: until then it waits for a thread of tf.data, up to as long again.
            self.end = time.perf_counter()

    class DCN(tfrs.Model):
        def __init__(self, workload: Workload, projection_dim: int | None) -> None:
            super().__init__()
            self._embeddings = {
                f"field_{field}": tf.keras.layers.Embedding(size, workload.embedding_dim)
                for field, size in enumerate(workload.vocabulary_sizes)
            }
            self._cross = tfrs.layers.dcn.Cross(projection_dim, kernel_initializer="glorot_uniform")
            self._tower = tf.keras.Sequential(
                [*(tf.keras.layers.Dense(units, "relu") for units in workload.hidden_units), tf.keras.layers.Dense(1)]
            )
            self.task = tfrs.tasks.Ranking(loss=tf.keras.losses.BinaryCrossentropy(from_logits=True))

        def call(self, features: dict[str, Any]) -> Any:
            inputs = [embed(features[name]) for name, embed in self._embeddings.items()]
            if "numbers" in features:
                inputs.append(features["numbers"])
            return self._tower(self._cross(tf.concat(inputs, axis=1)))

        def compute_loss(self, features: dict[str, Any], training: bool = False) -> Any:
            return self.task(labels=features["label"], predictions=self(features))

    class Cross(Runner):
        versions = ("tensorflow-recommenders", "tensorflow", "tf-keras", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            self._model = DCN(workload, options.get("projection_dim"))
            self._model.compile(optimizer=optimizers[optimizer]())
            self._train = tf.function(self._model.train_step)
            self._infer = tf.function(lambda features: self._model(features, training=False))

        def _arrays(self, rows: Rows) -> dict[str, Any]:
            arrays = {f"field_{field}": ids.copy() for field, ids in enumerate(rows.ids.T)}
            return {**arrays, "numbers": rows.numbers} if self.workload.numbers else arrays

        def convert(self, rows: Rows) -> Any:
            arrays = {**self._arrays(rows), "label": rows.labels[:, None]}
            return {name: tf.constant(array) for name, array in arrays.items()}

        def step(self, number: int) -> None:
            self._train(self.batches[number % len(self.batches)])["loss"].numpy()

        def fit(self, num_rows: int) -> float:
            rows = rows_of(self.workload, num_rows)
            arrays = {**self._arrays(rows), "label": rows.labels[:, None]}
            clock, start = Clock(), time.perf_counter()
            self._model.fit(arrays, batch_size=self.workload.batch_size, epochs=1, verbose=0, callbacks=[clock])
            return clock.end - start

        def predict(self, num_rows: int) -> Callable[[], Any]:
            arrays = self._arrays(rows_of(self.workload, num_rows))
            features = {name: tf.constant(array) for name, array in arrays.items()}
            return lambda: self._infer(features).numpy()

        def parameters(self) -> int:
            return sum(variable.shape.num_elements() for variable in self._model.trainable_variables)

    return Cross


if __name__ == "__main__":
    serve(load)
