"""An NFM as the tutorials of TensorFlow Recommenders write a ranking model: raw strings in, a look-up a feature.

One StringLookup and one Embedding a feature in a dict, `tfrs.Model` with `compute_loss`, `tfrs.tasks.Ranking`, `fit` of
a `tf.data` pipeline that shuffles rows and batches them. The first-order weight is one more column of each Embedding,
which spares half of the look-ups; numbers enter the tower. The step and inference take raw strings that are ready, as
tensors; the step is one tf.function of the model's `train_step`. By default Adagrad 0.1, as most of the tutorials.

Options: {"lookup": "integer"} gives integers in place of strings, through IntegerLookup; {"cache": true} puts `cache()`
behind `batch()`, so that every epoch but the first reads the same batches, ready.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from interface import Runner, rows_of, serve
from lib.workloads import Rows, Workload

SHUFFLE = 100_000


def load() -> type[Runner]:
    """Imports TensorFlow Recommenders; returns its runner."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    optimizers = {
        "adam": tf.keras.optimizers.Adam,
        "adagrad": tf.keras.optimizers.Adagrad,
        "default": lambda: tf.keras.optimizers.Adagrad(0.1),
    }

    class Clock(tf.keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            # Not when fit returns: until then it waits for a thread of tf.data, up to as long again.
            self.end = time.perf_counter()

    class NFM(tfrs.Model):
        def __init__(self, workload: Workload, strings: bool) -> None:
            super().__init__()
            self._dim = workload.embedding_dim
            lookup = tf.keras.layers.StringLookup if strings else tf.keras.layers.IntegerLookup
            self._embeddings = {
                f"field_{field}": tf.keras.Sequential(
                    [
                        lookup(vocabulary=values(np.arange(size), strings), mask_token=None),
                        tf.keras.layers.Embedding(size + 1, self._dim + 1),
                    ]
                )
                for field, size in enumerate(workload.vocabulary_sizes)
            }
            self._tower = tf.keras.Sequential(
                [*(tf.keras.layers.Dense(units, "relu") for units in workload.hidden_units), tf.keras.layers.Dense(1)]
            )
            self.task = tfrs.tasks.Ranking(loss=tf.keras.losses.BinaryCrossentropy(from_logits=True))

        def call(self, features: dict[str, Any]) -> Any:
            rows = tf.stack([embed(features[name]) for name, embed in self._embeddings.items()], axis=1)
            embeddings, weights = tf.split(rows, [self._dim, 1], axis=2)  # [batch, fields, dim], [batch, fields, 1]
            total = tf.reduce_sum(embeddings, axis=1)
            pooled = 0.5 * (tf.square(total) - tf.reduce_sum(tf.square(embeddings), axis=1))  # [batch, dim]
            if "numbers" in features:
                pooled = tf.concat([pooled, features["numbers"]], axis=1)
            return tf.reduce_sum(weights, axis=1) + self._tower(pooled)

        def compute_loss(self, features: dict[str, Any], training: bool = False) -> Any:
            labels = features["label"]
            return self.task(labels=labels, predictions=self(features))

    class Tutorial(Runner):
        versions = ("tensorflow-recommenders", "tensorflow", "tf-keras", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            self._model = NFM(workload, self._strings)
            self._model.compile(optimizer=optimizers[optimizer]())
            self._train = tf.function(self._model.train_step)
            self._infer = tf.function(lambda features: self._model(features, training=False))

        @property
        def _strings(self) -> bool:
            return self.options.get("lookup", "string") == "string"

        def _columns(self, rows: Rows) -> dict[str, Any]:
            columns = {f"field_{field}": values(ids, self._strings) for field, ids in enumerate(rows.ids.T)}
            return {**columns, "numbers": rows.numbers} if self.workload.numbers else columns

        def convert(self, rows: Rows) -> Any:
            features = {name: tf.constant(column) for name, column in self._columns(rows).items()}
            return {**features, "label": tf.constant(rows.labels[:, None])}

        def step(self, number: int) -> None:
            self._train(self.batches[number % len(self.batches)])["loss"].numpy()

        def fit(self, num_rows: int) -> float:
            dataset = self._dataset(num_rows)
            clock, start = Clock(), time.perf_counter()
            self._model.fit(dataset, epochs=1, verbose=0, callbacks=[clock])
            return clock.end - start

        @functools.cache  # noqa: B019 (one runner a process); a dataset with `cache()` is to stay the same one
        def _dataset(self, num_rows: int) -> tf.data.Dataset:
            rows = rows_of(self.workload, num_rows)
            features = {**self._columns(rows), "label": rows.labels[:, None]}
            dataset = tf.data.Dataset.from_tensor_slices(features).shuffle(SHUFFLE).batch(self.workload.batch_size)
            return dataset.cache() if self.options.get("cache") else dataset

        def predict(self, num_rows: int) -> Callable[[], Any]:
            columns = self._columns(rows_of(self.workload, num_rows))
            features = {name: tf.constant(column) for name, column in columns.items()}
            return lambda: self._infer(features).numpy()

        def parameters(self) -> int:
            return sum(variable.shape.num_elements() for variable in self._model.trainable_variables)

    return Tutorial


def values(ids: np.ndarray, strings: bool) -> np.ndarray:
    """The raw values of these ids."""
    return ids.astype(str) if strings else ids.astype(np.int64)


if __name__ == "__main__":
    serve(load)
