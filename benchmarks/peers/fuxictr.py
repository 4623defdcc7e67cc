"""An NFM of FuxiCTR's layers and training loop, put together as the one in its model zoo, which its wheel leaves out.

FeatureEmbedding, LogisticRegression, the Bi-Interaction of InnerProductInteraction and MLP_Block under BaseModel, with
the zoo's defaults: no BatchNorm, no dropout, no regularizer; numbers enter the interaction. A step is BaseModel's own
`train_step` (it clips the gradients) on a batch that is ready; an epoch is its own `train_epoch` over its own loader
of arrays in memory, as its `fit` calls it, without the evaluation and the checkpoint behind every epoch. Adam and
Adagrad are torch's fused ones: on a CPU they are faster than those it makes of a name, which "default" and the option
{"fused": false} give. {"workers": n} sets the loader's processes; 0 was the fastest on two cores.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from interface import Runner, rows_of, serve
from lib.workloads import Rows, Workload


def load() -> type[Runner]:
    """Imports FuxiCTR; returns its runner."""
    import torch
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch import layers
    from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader
    from fuxictr.pytorch.models import BaseModel

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)  # as TensorFlow does: moments of rows that no batch touches fade into them
    optimizers = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}
    names = {"adam": "adam", "adagrad": "Adagrad", "default": "adam"}

    class NFM(BaseModel):
        def __init__(self, features: FeatureMap, workload: Workload, optimizer: str) -> None:
            super().__init__(features, model_id="NFM", verbose=0, model_root=".", metrics=["AUC"])
            self.embeddings = layers.FeatureEmbedding(features, workload.embedding_dim)
            self.linear = layers.LogisticRegression(features, use_bias=False)
            self.pooling = layers.InnerProductInteraction(features.num_fields, output="bi_interaction")
            self.tower = layers.MLP_Block(workload.embedding_dim, list(workload.hidden_units), "relu", output_dim=1)
            self.compile(names[optimizer], "binary_crossentropy", lr=1e-3)
            self.reset_parameters()
            # What `fit` sets before its first epoch, but that it evaluates never.
            self._max_gradient_norm, self._eval_steps = 10.0, sys.maxsize
            self._total_steps, self._stop_training = 0, False

        def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            features = self.get_inputs(inputs)
            logits = self.linear(features) + self.tower(self.pooling(self.embeddings(features)))
            return {"y_pred": self.output_activation(logits)}

    class FuxiCTR(Runner):
        versions = ("fuxictr", "torch", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            self._features = self._feature_map()
            self._model = NFM(self._features, workload, optimizer)
            if optimizer != "default" and options.get("fused", True):
                self._model.optimizer = optimizers[optimizer](self._model.parameters(), lr=1e-3, fused=True)

        def _feature_map(self) -> FeatureMap:
            features = FeatureMap("made_up", ".")
            for field, size in enumerate(self.workload.vocabulary_sizes):
                features.features[f"field_{field}"] = {"type": "categorical", "source": "", "vocab_size": size}
            for number in range(self.workload.numbers):
                features.features[f"number_{number}"] = {"type": "numeric", "source": ""}
            features.labels = ["label"]
            features.num_fields = features.get_num_fields()
            features.set_column_index()
            return features

        def _arrays(self, rows: Rows) -> dict[str, np.ndarray]:
            ids = {f"field_{field}": ids.astype(np.int64) for field, ids in enumerate(rows.ids.T)}
            return {**ids, **{f"number_{number}": column.copy() for number, column in enumerate(rows.numbers.T)}}

        def _tensors(self, rows: Rows) -> dict[str, torch.Tensor]:
            return {name: torch.from_numpy(array) for name, array in self._arrays(rows).items()}

        def convert(self, rows: Rows) -> Any:
            return {**self._tensors(rows), "label": torch.from_numpy(rows.labels)}

        def step(self, number: int) -> None:
            if not self._model.training:
                self._model.train()
            self._model.train_step(self.batches[number % len(self.batches)]).item()

        def fit(self, num_rows: int) -> float:
            rows = rows_of(self.workload, num_rows)
            arrays: dict[str, Any] = {**self._arrays(rows), "label": rows.labels}
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "rows.npz"
                np.savez(path, **arrays)
                size, workers = self.workload.batch_size, self.options.get("workers", 0)
                batches = NpzDataLoader(self._features, str(path), size, shuffle=True, num_workers=workers)
            start = time.perf_counter()
            self._model.train_epoch(batches)
            return time.perf_counter() - start

        def predict(self, num_rows: int) -> Callable[[], Any]:
            inputs = self._tensors(rows_of(self.workload, num_rows))

            def call() -> Any:
                if self._model.training:
                    self._model.eval()
                with torch.inference_mode():
                    return self._model(inputs)["y_pred"].numpy()

            return call

        def parameters(self) -> int:
            return sum(parameter.numel() for parameter in self._model.parameters())

    return FuxiCTR


if __name__ == "__main__":
    serve(load)
