"""DeepCTR's NFM as its documentation trains it: SparseFeat and DenseFeat columns, `compile`, `fit` of a dict of arrays.

Its own defaults, L2 of 1e-5 on the embeddings and the first-order weights included, but for the workload's dim and
hidden units; numbers enter the tower and the first-order term, not the interaction. A step is one tf.function of
Keras' own `train_step` on tensors that are ready, which `train_on_batch` would first put through an iterator. Legacy
Keras, which DeepCTR is written for.

Options: {"l2": 0} takes the L2 off; {"jit_compile": true} has Keras compile the step with XLA.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from interface import Runner, rows_of, serve
from lib.workloads import Rows, Workload


def load() -> type[Runner]:
    """Imports DeepCTR; returns its runner."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf

    offline: Any = ModuleType("deepctr.utils")
    offline.check_version = lambda version: None  # its own asks PyPI for a newer one, in a thread
    sys.modules["deepctr.utils"] = offline
    columns = importlib.import_module("deepctr.feature_column")
    models = importlib.import_module("deepctr.models")
    tf.get_logger().setLevel("ERROR")  # Keras warns of its Lambda layers

    class Clock(tf.keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            # Not when fit returns: until then it waits for a thread of tf.data, up to as long again.
            self.end = time.perf_counter()

    class DeepCTR(Runner):
        versions = ("deepctr", "tensorflow", "tf-keras", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            features = [
                columns.SparseFeat(f"field_{field}", size, workload.embedding_dim)
                for field, size in enumerate(workload.vocabulary_sizes)
            ]
            if workload.numbers:
                features.append(columns.DenseFeat("numbers", workload.numbers))
            l2 = options.get("l2", 1e-5)
            self._model = models.NFM(features, features, workload.hidden_units, l2_reg_embedding=l2, l2_reg_linear=l2)
            named, compiled = "adam" if optimizer == "default" else optimizer, options.get("jit_compile")
            self._model.compile(named, "binary_crossentropy", jit_compile=compiled)
            self._train = tf.function(self._model.train_step, jit_compile=compiled)
            self._infer = tf.function(lambda inputs: self._model(inputs, training=False))

        def _arrays(self, rows: Rows) -> dict[str, Any]:
            arrays = {f"field_{field}": ids.copy() for field, ids in enumerate(rows.ids.T)}
            return {**arrays, "numbers": rows.numbers} if self.workload.numbers else arrays

        def _tensors(self, rows: Rows) -> dict[str, Any]:
            columns = {name: array.reshape(len(array), -1) for name, array in self._arrays(rows).items()}
            return {name: tf.constant(column) for name, column in columns.items()}

        def convert(self, rows: Rows) -> Any:
            return self._tensors(rows), tf.constant(rows.labels[:, None])

        def step(self, number: int) -> None:
            self._train(self.batches[number % len(self.batches)])["loss"].numpy()

        def fit(self, num_rows: int) -> float:
            rows = rows_of(self.workload, num_rows)
            arrays = self._arrays(rows)
            clock, start = Clock(), time.perf_counter()
            self._model.fit(
                arrays, rows.labels, batch_size=self.workload.batch_size, epochs=1, verbose=0, callbacks=[clock]
            )
            return clock.end - start

        def predict(self, num_rows: int) -> Callable[[], Any]:
            inputs = self._tensors(rows_of(self.workload, num_rows))
            return lambda: self._infer(inputs).numpy()

        def parameters(self) -> int:
            return sum(variable.shape.num_elements() for variable in self._model.trainable_variables)

    return DeepCTR


if __name__ == "__main__":
    serve(load)
