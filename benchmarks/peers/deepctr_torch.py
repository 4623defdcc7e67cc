"""DeepCTR-Torch's NFM as its documentation trains it: SparseFeat and DenseFeat columns, `compile`, `fit` of a dict.

Its own defaults, L2 of 1e-5 on the embeddings and the first-order weights included, but for the workload's dim and
hidden units; numbers enter the tower and the first-order term, not the interaction. The option {"l2": 0} takes the L2
off. The library has no call for one step: a step is the body of its `fit` on a batch that is ready. Adam and Adagrad
are torch's fused ones, given as instances, which `compile` takes: on a CPU they are faster than those of its names
("adam"), which "default" and the option {"fused": false} give.
"""

import importlib
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from interface import Runner, rows_of, serve
from lib.workloads import Rows, Workload


def load() -> type[Runner]:
    """Imports DeepCTR-Torch; returns its runner."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)  # as TensorFlow does: moments of rows that no batch touches fade into them
    offline: Any = ModuleType("deepctr_torch.utils")
    offline.check_version = lambda version: None  # its own asks PyPI for a newer one, in a thread
    sys.modules["deepctr_torch.utils"] = offline
    inputs = importlib.import_module("deepctr_torch.inputs")
    models = importlib.import_module("deepctr_torch.models")
    optimizers = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}

    class DeepCTRTorch(Runner):
        versions = ("deepctr-torch", "torch", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            features = [
                inputs.SparseFeat(f"field_{field}", size, workload.embedding_dim)
                for field, size in enumerate(workload.vocabulary_sizes)
            ]
            if workload.numbers:
                features.append(inputs.DenseFeat("numbers", workload.numbers))
            l2 = options.get("l2", 1e-5)
            self._model = models.NFM(features, features, workload.hidden_units, l2_reg_embedding=l2, l2_reg_linear=l2)
            named = "adam" if optimizer == "default" else optimizer
            if optimizer != "default" and options.get("fused", True):
                self._model.compile(optimizers[named](self._model.parameters(), fused=True), "binary_crossentropy")
            else:
                self._model.compile(named, "binary_crossentropy")

        def _arrays(self, rows: Rows) -> dict[str, np.ndarray]:
            arrays = {f"field_{field}": ids.copy() for field, ids in enumerate(rows.ids.T)}
            return {**arrays, "numbers": rows.numbers} if self.workload.numbers else arrays

        def _tensor(self, rows: Rows) -> torch.Tensor:
            """`[rows, fields + numbers]`, ids as floats: what `fit` makes of its arrays."""
            return torch.from_numpy(np.concatenate([rows.ids.astype(np.float32), rows.numbers], axis=1))

        def convert(self, rows: Rows) -> Any:
            return self._tensor(rows), torch.from_numpy(rows.labels)

        def step(self, number: int) -> None:
            model = self._model
            if not model.training:
                model.train()
            rows, labels = self.batches[number % len(self.batches)]
            predictions = model(rows).squeeze(-1)
            model.optim.zero_grad()
            loss = model.loss_func(predictions, labels, reduction="sum")
            loss = loss + model.get_regularization_loss() + model.aux_loss
            loss.backward()
            model.optim.step()
            loss.item()

        def fit(self, num_rows: int) -> float:
            rows = rows_of(self.workload, num_rows)
            arrays = self._arrays(rows)
            start = time.perf_counter()
            self._model.fit(arrays, rows.labels, batch_size=self.workload.batch_size, epochs=1, verbose=0)
            return time.perf_counter() - start

        def predict(self, num_rows: int) -> Callable[[], Any]:
            rows = self._tensor(rows_of(self.workload, num_rows))

            def call() -> Any:
                if self._model.training:
                    self._model.eval()
                with torch.inference_mode():
                    return self._model(rows).numpy()

            return call

        def parameters(self) -> int:
            return sum(parameter.numel() for parameter in self._model.parameters())

    return DeepCTRTorch


if __name__ == "__main__":
    serve(load)
