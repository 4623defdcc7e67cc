"""Learning curves of a training, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def draw_curves(histories: Sequence[dict[str, list[float]]], path: Path, names: Sequence[str]) -> None:
    """Draws the training and validation curves of some metrics, side by side, to a PNG file.

    Args:
        histories: The metrics of each epoch, of each training whose mean the model is.
        path: The file.
        names: The metrics.
    """
    # Here, since no other function needs matplotlib; the Agg canvas needs no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for number, history in enumerate(histories):
            lines = {"training": history.get(name), "validation": history.get(f"val_{name}")}
            for color, (label, values) in enumerate(lines.items()):
                if values is not None:
                    epochs = np.arange(1, len(values) + 1)
                    axes.plot(epochs, values, f"C{color}.-", label=None if number else label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
