"""Learning curves of a training, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def draw_curves(history: dict[str, list[float]], path: Path, names: Sequence[str]) -> None:
    """Draws the training and validation curves of some metrics, side by side, to a PNG file."""
    # Here, since no other function needs matplotlib; the Agg canvas needs no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        epochs = np.arange(1, len(history[f"val_{name}"]) + 1)
        if name in history:
            axes.plot(epochs, history[name], marker=".", label="training")
        axes.plot(epochs, history[f"val_{name}"], marker=".", label="validation")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
