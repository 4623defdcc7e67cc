"""DeepCTR's NFM in plain torch around FBGEMM's fused tables, the fastest embedding path that torch has on a CPU.

`SplitTableBatchedEmbeddingBagsCodegen` looks all fields up at once and updates the rows of a batch inside the backward
pass, with exact Adagrad; it has no Adam on CPUs. A row is 20 numbers wide, for FBGEMM takes multiples of four: the
embedding, the first-order weight, and three that nothing reads. The dense part has torch's fused Adagrad.
"""

import itertools
import os
from typing import Any

from interface import Runner, serve
from lib.workloads import Rows, Workload


def load() -> type[Runner]:
    """Imports FBGEMM; returns its runner."""
    import torch
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        EmbeddingLocation,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)  # as TensorFlow does

    class Fbgemm(Runner):
        versions = ("fbgemm-gpu-cpu", "torch", "numpy")

        def __init__(self, workload: Workload, optimizer: str, options: dict[str, Any]) -> None:
            super().__init__(workload, optimizer, options)
            if optimizer != "adagrad":
                raise ValueError(f"FBGEMM has Adagrad alone on CPUs; received {optimizer}.")
            torch.manual_seed(0)
            self._width = -(-(workload.embedding_dim + 1) // 4) * 4
            place = (self._width, EmbeddingLocation.HOST, ComputeDevice.CPU)
            self._tables = SplitTableBatchedEmbeddingBagsCodegen(
                [(size, *place) for size in workload.vocabulary_sizes],
                optimizer=EmbOptimType.EXACT_ADAGRAD,
                learning_rate=0.01,
            )
            self._tables.init_embedding_weights_uniform(-0.01, 0.01)
            widths = (workload.embedding_dim + workload.numbers, *workload.hidden_units)
            layers: list[torch.nn.Module] = []
            for before, after in itertools.pairwise(widths):
                layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
            self._tower = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 1))
            self._linear = torch.nn.Linear(max(workload.numbers, 1), 1)
            dense = [*self._tower.parameters(), *self._linear.parameters()]
            self._optimizer = torch.optim.Adagrad(dense, lr=0.01, fused=True)
            self._criterion = torch.nn.BCEWithLogitsLoss()

        def convert(self, rows: Rows) -> Any:
            # Field by field, as FBGEMM takes them.
            ids = torch.from_numpy(rows.ids.T.reshape(-1).astype("int64"))
            return ids, torch.arange(len(ids) + 1), torch.from_numpy(rows.numbers), torch.from_numpy(rows.labels)

        def step(self, number: int) -> None:
            ids, offsets, numbers, labels = self.batches[number % len(self.batches)]
            looked_up = self._tables(ids, offsets).reshape(len(labels), -1, self._width)
            dim = self.workload.embedding_dim
            vectors, first_order = looked_up[:, :, :dim], looked_up[:, :, dim].sum(1, keepdim=True)
            total = vectors.sum(1)
            pooled = (total * total - (vectors * vectors).sum(1)) / 2
            logits = first_order + self._tower(torch.cat([pooled, numbers], 1))
            if self.workload.numbers:
                logits = logits + self._linear(numbers)
            loss = self._criterion(logits[:, 0], labels)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            loss.item()

        def parameters(self) -> int:
            read = sum(self.workload.vocabulary_sizes) * (self.workload.embedding_dim + 1)
            return read + sum(part.numel() for module in (self._tower, self._linear) for part in module.parameters())

    return Fbgemm


if __name__ == "__main__":
    serve(load)
