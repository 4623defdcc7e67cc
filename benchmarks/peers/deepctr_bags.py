"""DeepCTR's NFM on W5: its bag is a VarLenSparseFeat, padded to the longest, as DeepCTR takes it; the rest by default.

Optimizers: those that legacy Keras knows by name. It trains alone: neither fit nor inference.
"""

import importlib
import itertools
import os
import sys
from types import ModuleType
from typing import Any

from interface import Runner, serve
from lib.workloads import BAG_VOCABULARY, MOST_IN_BAG, Rows, Workload, generate_bags


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

    class Bags(Runner):
        versions = ("deepctr", "tensorflow", "tf-keras", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            features = [
                columns.SparseFeat(f"field_{field}", size, workload.embedding_dim)
                for field, size in enumerate(workload.vocabulary_sizes)
            ]
            # Zero pads.
            bag = columns.SparseFeat("bag", BAG_VOCABULARY + 1, workload.embedding_dim)
            features.append(columns.VarLenSparseFeat(bag, maxlen=MOST_IN_BAG, combiner="mean"))
            self._model = models.NFM(features, features, workload.hidden_units)
            self._model.compile(optimizer, "binary_crossentropy")
            self._train = tf.function(self._model.train_step)
            self._bag_seeds = itertools.count()

        def convert(self, rows: Rows) -> Any:
            inputs = {f"field_{field}": tf.constant(ids[:, None]) for field, ids in enumerate(rows.ids.T)}
            inputs["bag"] = tf.constant(generate_bags(len(rows.labels), next(self._bag_seeds)).padded())
            return inputs, tf.constant(rows.labels[:, None])

        def step(self, number: int) -> None:
            self._train(self.batches[number % len(self.batches)])["loss"].numpy()

        def parameters(self) -> int:
            return sum(variable.shape.num_elements() for variable in self._model.trainable_variables)

    return Bags


if __name__ == "__main__":
    serve(load)
