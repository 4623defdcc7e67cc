"""torchfm's NeuralFactorizationMachineModel, trained as the loop of its own example: BCELoss, `zero_grad`, Adam.

One fused table; BatchNorm on the pooled vector and in the tower, which the model cannot do without; no dropout. It
takes ids only: numbers enter as its Criteo data set does it, cut into bins, one more field each. Adam and Adagrad are
torch's fused ones, the fastest on a CPU; "default" and the option {"fused": false} give the plain ones, "default" with
the example's weight decay. The library has no `fit`: it is timed as the example's loop over a DataLoader, here one
that gathers a batch at once by a shuffled BatchSampler, faster than the example's, which collates single rows.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from interface import Runner, rows_of, serve
from lib.workloads import Rows, Workload

EDGES = np.linspace(-2.5, 2.5, 20)  # of the bins of a number


def load() -> type[Runner]:
    """Imports torchfm; returns its runner."""
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
    from torchfm.model.nfm import NeuralFactorizationMachineModel

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)  # as TensorFlow does: moments of rows that no batch touches fade into them
    optimizers = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}

    class TorchFM(Runner):
        versions = ("torchfm", "torch", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            sizes = [*workload.vocabulary_sizes, *[len(EDGES) + 1] * workload.numbers]
            self._model = NeuralFactorizationMachineModel(
                sizes, workload.embedding_dim, workload.hidden_units, dropouts=(0.0, 0.0)
            )
            self._criterion = torch.nn.BCELoss()
            if optimizer == "default":
                self._optimizer = torch.optim.Adam(self._model.parameters(), lr=0.001, weight_decay=1e-6)
            else:
                fused = options.get("fused", True)
                self._optimizer = optimizers[optimizer](self._model.parameters(), lr=0.001, fused=fused)

        def _ids(self, rows: Rows) -> torch.Tensor:
            """Ids of the fields and of the binned numbers, int64 `[rows, fields + numbers]`."""
            return torch.from_numpy(
                np.concatenate([rows.ids, np.digitize(rows.numbers, EDGES)], axis=1, dtype=np.int64)
            )

        def convert(self, rows: Rows) -> Any:
            return self._ids(rows), torch.from_numpy(rows.labels)

        def step(self, number: int) -> None:
            if not self._model.training:
                self._model.train()
            self._update(*self.batches[number % len(self.batches)]).item()

        def _update(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            loss = self._criterion(self._model(ids), labels)
            self._model.zero_grad()
            loss.backward()
            self._optimizer.step()
            return loss

        def fit(self, num_rows: int) -> float:
            rows = rows_of(self.workload, num_rows)
            dataset = TensorDataset(self._ids(rows), torch.from_numpy(rows.labels))
            batches = BatchSampler(RandomSampler(dataset), self.workload.batch_size, drop_last=False)
            start = time.perf_counter()
            self._model.train()
            total = 0.0
            for ids, labels in DataLoader(dataset, sampler=batches, batch_size=None):
                total += self._update(ids, labels).item()
            return time.perf_counter() - start

        def predict(self, num_rows: int) -> Callable[[], Any]:
            ids = self._ids(rows_of(self.workload, num_rows))

            def call() -> Any:
                if self._model.training:
                    self._model.eval()
                with torch.inference_mode():
                    return self._model(ids).numpy()

            return call

        def parameters(self) -> int:
            return sum(parameter.numel() for parameter in self._model.parameters())

    return TorchFM


if __name__ == "__main__":
    serve(load)
