"""This package's NFM as a runner of the speed benchmarks.

Optimizers: "adam" and "adagrad" are the row-wise ones, "dense_adam" is LazyAdam(lazy=False), "keras_adam" and
"keras_adagrad" are Keras'. The option "definition" is "peer" (as DeepCTR defines its NFM: no BatchNorm, no dropout,
numbers beside the interaction) or "paper" (the package's own defaults); "way" is how inference is called: "model(x)",
"predict_on_batch", or through an export, "savedmodel" or "onnx"; "dtype" is the model's. W5 has a bag beside its
fields, pooled by its mean.
"""

import itertools
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from interface import Runner, rows_of, serve, timed
from lib.workloads import BAG_VOCABULARY, PEER_DEFINITION, Rows, Workload, generate_bags

SEED = 0
DEFINITIONS: dict[str, dict[str, Any]] = {"peer": PEER_DEFINITION, "paper": {}}


def load() -> type[Runner]:
    """Imports the package; returns its runner."""
    from nfm_tfrs.data import batches
    from nfm_tfrs.features.bag import Columns
    from nfm_tfrs.features.encoder import IDS, NUMBERS, bag_key
    from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
    from nfm_tfrs.features.spec import FeatureSpec
    from nfm_tfrs.keras_compat import keras, tf
    from nfm_tfrs.models.nfm import NFM
    from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam

    optimizers = {
        "default": lambda: None,
        "adam": lambda: LazyAdam(1e-3),
        "adagrad": lambda: LazyAdagrad(0.01),
        "dense_adam": lambda: LazyAdam(1e-3, lazy=False),
        "keras_adam": lambda: keras.optimizers.Adam(1e-3),
        "keras_adagrad": lambda: keras.optimizers.Adagrad(0.01),
    }

    class Own(Runner):
        versions = ("nfm-tfrs", "tensorflow", "tf-keras", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            keras.utils.set_random_seed(SEED)
            categories = [
                CategoricalFeature(f"c{n}", vocabulary_size=s) for n, s in enumerate(workload.vocabulary_sizes)
            ]
            numbers = [NumericFeature(f"n{n}") for n in range(workload.numbers)]
            bags = [MultiCategoricalFeature("bag", vocabulary_size=BAG_VOCABULARY)] if workload.name == "W5" else []
            spec = FeatureSpec((*categories, *numbers, *bags))
            self._bag_offset = spec.offsets["bag"] if bags else None
            self._bag_seeds = itertools.count()
            self._offsets = np.array([spec.offsets[feature.name] for feature in categories])
            self._model = NFM(
                spec,
                embedding_dim=workload.embedding_dim,
                hidden_units=workload.hidden_units,
                dtype=options.get("dtype", "float32"),
                **DEFINITIONS[options.get("definition", "peer")],
            )
            self._model.compile(optimizers[optimizer]())
            # What `fit` does in each step; version 0.1.0 asked its metrics there.
            step = getattr(self._model, "take_step", None) or (lambda batch: self._model.train_step(batch))
            self._train = tf.function(step, reduce_retracing=True)
            self._datasets: dict[int, Any] = {}
            self._scorers: dict[str, Any] = {}

        def convert(self, rows: Rows) -> Any:
            columns = tf.nest.map_structure(tf.constant, self._columns(rows))
            if self._bag_offset is not None:
                bags = generate_bags(len(rows.labels), next(self._bag_seeds))
                ids = tf.constant(self._bag_offset + 1 + bags.values.astype(np.int64))
                columns[bag_key("bag")] = tf.RaggedTensor.from_row_splits(ids, bags.row_splits)
            return columns, tf.constant(rows.labels)

        def step(self, number: int) -> None:
            tf.nest.flatten(self._train(self.batches[number % len(self.batches)]))[0].numpy()

        def fit(self, num_rows: int) -> float:
            if num_rows not in self._datasets:
                rows = rows_of(self.workload, num_rows)
                self._datasets[num_rows] = batches(
                    self._columns(rows), rows.labels, batch_size=self.workload.batch_size, shuffle=True, seed=SEED
                )
            return timed(lambda: self._model.fit(self._datasets[num_rows], epochs=1, verbose=0))

        def predict(self, num_rows: int) -> Callable[[], Any]:
            columns = tf.nest.map_structure(tf.constant, self._columns(rows_of(self.workload, num_rows)))
            way = self.options.get("way", "model(x)")
            if way in ("savedmodel", "onnx"):
                return self._scorer(way, num_rows)
            if way == "predict_on_batch":
                return lambda: self._model.predict_on_batch(columns)
            return lambda: self._model(columns).numpy()

        def _scorer(self, form: str, num_rows: int) -> Callable[[], Any]:
            """Scores raw rows, columns as arrays or one row as a dict, through an export."""
            from nfm_tfrs.serving import export, load

            if form not in self._scorers:
                with tempfile.TemporaryDirectory() as folder:
                    self._scorers[form] = load(export(self._model, f"{folder}/served", format=form).folder)
            scorer, rows = self._scorers[form], rows_of(self.workload, num_rows)
            columns = {f"c{n}": rows.ids[:, n].astype(np.int64) for n in range(rows.ids.shape[1])}
            columns |= {f"n{n}": rows.numbers[:, n].copy() for n in range(rows.numbers.shape[1])}
            row = {name: column[0].item() for name, column in columns.items()}
            given = row if num_rows == 1 else columns
            return lambda: scorer.predict_proba(given)

        def parameters(self) -> int:
            return sum(int(np.prod(variable.shape)) for variable in self._model.trainable_variables)

        def _columns(self, rows: Rows) -> Columns:
            """Ids and numbers as `FeatureEncoder.encode_arrays` returns them: row 0 of a feature is the unknown."""
            return {IDS: self._offsets + 1 + rows.ids.astype(np.int64), NUMBERS: rows.numbers}

    return Own


if __name__ == "__main__":
    serve(load)
