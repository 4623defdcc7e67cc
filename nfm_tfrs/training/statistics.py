"""Tells a model what there is to remember of its training rows."""

from collections.abc import Iterable
from typing import Any

from nfm_tfrs.data.parts import EncodedPart, Prepared
from nfm_tfrs.data.pipeline.windows import encode_windows
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Counting, are_counted


def adapt_statistics(model: Any, data: Prepared, *, day: int | None = None) -> None:
    """Sets the statistics of a model that keeps some, from the training rows; streamed ones are read for it once.

    Args:
        model: A model of any package; see `RankingModel.statistics`.
        data: The prepared rows; of rows without their rates nothing is set.
        day: The day on which the rows are read, in days since 1970-01-01; today's if not given.

    Raises:
        FileNotFoundError: A file of the streamed rows is not there any more.
        ValueError: A column of the streamed rows does not fit.
    """
    if "train" in data.encoded:
        count_rows(model, [data.train], data.features, day=day)
    elif data.streamed:
        assert data.target is not None  # of rows to train on
        windows = encode_windows(data.streamed, data.features, data.target, data.encoder.encode_arrays)
        count_rows(model, windows, data.features, day=day)


def count_where_needed(model: Any, train: EncodedPart) -> None:
    """Sets the statistics of a model that cannot be trained without, where nobody has.

    Args:
        model: A model of any package.
        train: The training rows.
    """
    if getattr(model, "needs_statistics", False) and model.statistics is None:
        count_rows(model, [train], model.features)


def count_rows(model: Any, windows: Iterable[EncodedPart], features: FeatureSpec, *, day: int | None = None) -> None:
    """Sets the statistics of a model that keeps some, from rows in windows.

    Args:
        model: A model of any package.
        windows: The rows; of rows without their rates nothing is set.
        features: The features that they are encoded by; where tables are compressed from more than 50 million ids,
            nothing is set either.
        day: The day on which the rows are read, in days since 1970-01-01; today's if not given.
    """
    if not hasattr(model, "statistics") or not are_counted(features):
        return
    counting = Counting(features)
    for part in windows:
        if not part.rates:
            return
        counting.add(part.columns, part.rates)
    model.statistics = counting.statistics(day=day)
