"""An NFM of keras-rs on Keras 3 with TensorFlow: `keras_rs.layers.EmbedReduce`, a feature each, and Keras' own layers.

keras-rs has no Bi-Interaction; its pooling is written with `keras.ops`. The first-order weight is one more column of
each embedding, which spares half of the look-ups; numbers enter the tower. Compiled and fitted on a dict of arrays as
its examples are; the step is Keras' own train function on one batch of tensors that are ready, without the iterator of
`train_on_batch`. The option {"jit_compile": true} turns XLA on, which Keras leaves off where it finds no GPU.
"""

import os
import time
from collections.abc import Callable
from typing import Any

from interface import Runner, rows_of, serve
from lib.workloads import Rows, Workload


def load() -> type[Runner]:
    """Imports keras-rs; returns its runner."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf
    from keras import layers
    from keras_rs.layers import EmbedReduce

    class Clock(keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            # Not when fit returns: until then it waits for a thread of tf.data, up to as long again.
            self.end = time.perf_counter()

    class KerasRS(Runner):
        versions = ("keras-rs", "keras", "tensorflow", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            self._model = self._build()
            self._model.compile(
                "adam" if optimizer == "default" else optimizer,
                keras.losses.BinaryCrossentropy(from_logits=True),
                jit_compile=options.get("jit_compile", "auto"),
            )
            self._model.make_train_function()
            self._infer = tf.function(lambda inputs: self._model(inputs, training=False))

        def _build(self) -> Any:
            dim = self.workload.embedding_dim
            ids = {f"field_{field}": size for field, size in enumerate(self.workload.vocabulary_sizes)}
            inputs = {name: keras.Input((), name=name, dtype="int32") for name in ids}
            rows = [EmbedReduce(size, dim + 1)(inputs[name]) for name, size in ids.items()]
            rows = keras.ops.stack(rows, axis=1)
            embeddings, weights = keras.ops.split(rows, [dim], axis=2)  # [batch, fields, dim], [batch, fields, 1]
            total = keras.ops.sum(embeddings, axis=1)
            hidden = 0.5 * (keras.ops.square(total) - keras.ops.sum(keras.ops.square(embeddings), axis=1))
            if self.workload.numbers:
                inputs["numbers"] = keras.Input((self.workload.numbers,), name="numbers")
                hidden = layers.Concatenate()([hidden, inputs["numbers"]])
            for units in self.workload.hidden_units:
                hidden = layers.Dense(units, "relu")(hidden)
            logits = layers.Dense(1)(hidden) + keras.ops.sum(weights, axis=1)
            return keras.Model(inputs, logits)

        def _arrays(self, rows: Rows) -> dict[str, Any]:
            arrays = {f"field_{field}": ids.copy() for field, ids in enumerate(rows.ids.T)}
            return {**arrays, "numbers": rows.numbers} if self.workload.numbers else arrays

        def _tensors(self, rows: Rows) -> dict[str, Any]:
            return {name: tf.constant(array) for name, array in self._arrays(rows).items()}

        def convert(self, rows: Rows) -> Any:
            return self._tensors(rows), tf.constant(rows.labels[:, None])

        def step(self, number: int) -> None:
            batch = self.batches[number % len(self.batches)]
            self._model.train_function(iter([batch]))["loss"].numpy()

        def fit(self, num_rows: int) -> float:
            rows = rows_of(self.workload, num_rows)
            arrays, labels = self._arrays(rows), rows.labels[:, None]
            clock, start = Clock(), time.perf_counter()
            self._model.fit(arrays, labels, batch_size=self.workload.batch_size, epochs=1, verbose=0, callbacks=[clock])
            return clock.end - start

        def predict(self, num_rows: int) -> Callable[[], Any]:
            inputs = self._tensors(rows_of(self.workload, num_rows))
            return lambda: self._infer(inputs).numpy()

        def parameters(self) -> int:
            return self._model.count_params()

    return KerasRS


if __name__ == "__main__":
    serve(load)
