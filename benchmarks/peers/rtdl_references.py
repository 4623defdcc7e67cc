"""What the authors' package makes of numbers: weights, inputs and outputs, kept for the tests of this package.

usage: benchmarks/setup_peers.sh rtdl && benchmarks/.venvs/torch/bin/python benchmarks/peers/rtdl_references.py

Writes tests/embedding/rtdl_num_embeddings.npz with what PiecewiseLinearEmbeddings and PeriodicEmbeddings of
rtdl-num-embeddings (Apache-2.0) return, with and without activation. The package lays the last piece of a number that
has fewer than others behind its padding; here it follows the others, as everybody would write it down.
"""

from pathlib import Path

import numpy as np
import rtdl_num_embeddings as rtdl
import torch

OUT = Path(__file__).resolve().parents[2] / "tests" / "embedding" / "rtdl_num_embeddings.npz"
BINS = ([-1.5, -0.5, 0.25, 1.0], [-0.75, 0.0, 0.1, 0.9, 2.0], [-1.0, 1.0, 3.0])
DIM, FREQUENCIES, SIGMA, ROWS, SEED = 4, 6, 0.7, 24, 0


def numbers() -> torch.Tensor:
    """[rows, numbers]: drawn ones, then each number's own limits, then far beyond them."""
    drawn = torch.randn(ROWS - 7, len(BINS)) * 2
    limits = torch.tensor([[bins[at % len(bins)] for bins in BINS] for at in range(5)])
    return torch.cat([drawn, limits, torch.full([1, len(BINS)], -50.0), torch.full([1, len(BINS)], 80.0)])


def in_order(vectors: torch.Tensor) -> np.ndarray:
    """Vectors of pieces, [numbers, most pieces, dim], each number's last piece behind its others."""
    ordered = np.zeros(vectors.shape, np.float32)
    for number, bins in enumerate(BINS):
        pieces = len(bins) - 1
        ordered[number, : pieces - 1] = vectors[number, : pieces - 1].numpy()
        ordered[number, pieces - 1] = vectors[number, -1].numpy()
    return ordered


def main() -> None:
    torch.manual_seed(SEED)
    x = numbers()
    found: dict[str, np.ndarray] = {"x": x.numpy(), "version": np.array(rtdl.__version__)}
    with torch.no_grad():
        for activation in (False, True):
            name = f"piecewise{'_relu' * activation}"
            bins = [torch.tensor(one) for one in BINS]
            layer = rtdl.PiecewiseLinearEmbeddings(bins, DIM, activation=activation, version="A")
            found |= {
                f"{name}_vectors": in_order(layer.linear.weight),
                f"{name}_bias": layer.linear.bias.numpy(),
                f"{name}_out": layer(x).numpy(),
            }
            name = f"periodic{'_relu' * activation}"
            layer = rtdl.PeriodicEmbeddings(
                len(BINS),
                DIM,
                n_frequencies=FREQUENCIES,
                frequency_init_scale=SIGMA,
                activation=activation,
                lite=False,
            )
            found |= {
                f"{name}_frequencies": layer.periodic.weight.numpy(),
                f"{name}_vectors": layer.linear.weight.numpy(),
                f"{name}_bias": layer.linear.bias.numpy(),
                f"{name}_out": layer(x).numpy(),
            }
    np.savez(OUT, **found)
    print(f"Wrote {OUT}.")


if __name__ == "__main__":
    main()
