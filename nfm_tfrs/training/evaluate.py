"""How good a trained model is on rows, and what it predicts for them."""

from typing import Any

import numpy as np

from nfm_tfrs import metrics
from nfm_tfrs.data.parts import EncodedPart, encode_part
from nfm_tfrs.features.frames import read_columns


def evaluate(model: Any, part: EncodedPart, *, batch_size: int = 4096, groups: Any = None) -> dict[str, float]:
    """Returns the exact metrics of a model on labelled rows: `evaluate_binary`'s or `evaluate_regression`'s.

    Args:
        model: A `RankingModel`.
        part: The rows.
        batch_size: Rows of a prediction step.
        groups: `[n]`, users for the grouped AUC.
    """
    return evaluate_with_intervals(model, part, batch_size=batch_size, groups=groups)[0]


def evaluate_with_intervals(
    model: Any, part: EncodedPart, *, batch_size: int = 4096, groups: Any = None
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Returns what `evaluate` returns, and 95 % intervals of some of it, low and high."""
    predictions = predict(model, part, batch_size=batch_size)
    if model.is_binary:
        report = metrics.evaluate_binary(part.labels, predictions, groups, part.weights)
    else:
        report = metrics.evaluate_regression(part.labels, predictions, part.weights)
    if part.labels is None:
        return report, {}
    found = metrics.intervals(part.labels, predictions, part.weights, binary=model.is_binary)
    return report, {name: list(ends) for name, ends in found.items()}


def evaluate_constant(model: Any, part: EncodedPart, train: EncodedPart | None) -> dict[str, float]:
    """Returns what the training rows' mean for every row scores: `log_loss` of a binary model, else `rmse`.

    Args:
        model: A `RankingModel`.
        part: The rows to judge on.
        train: The rows it was trained on; without them, as of a stream, nothing is returned.
    """
    if train is None or train.labels is None:
        return {}
    prediction = metrics.constant_prediction(train.labels, train.weights, binary=model.is_binary)
    return metrics.constant_report(prediction, part.labels, part.weights, binary=model.is_binary)


def predict(model: Any, part: Any, *, batch_size: int = 4096) -> np.ndarray:
    """Returns the model's logits (binary) or predictions, `[n]` float32.

    Args:
        model: A `RankingModel`.
        part: The rows, an `EncodedPart`, or what else holds rows: a DataFrame (pandas, or with Arrow's C stream as
            polars has), a dict of columns, a list of dicts, an Arrow table. Labels and weights are not read.
        batch_size: Rows of a prediction step.

    Raises:
        ValueError: It holds no rows, or a column is missing or does not fit its feature.
    """
    if not isinstance(part, EncodedPart):
        part = encode_part(read_columns(part, model.encoder.features.columns), model.encoder)
    unlabelled = EncodedPart(part.columns)
    return model.predict(unlabelled.dataset(batch_size), verbose=0)[:, 0]


judge = evaluate  # its first name, which stays
