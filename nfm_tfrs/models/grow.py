"""A model whose vocabularies grow with new data: all that it has learnt stays, bit for bit."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from nfm_tfrs.data.parts import rates_of
from nfm_tfrs.data.readers.table import is_files
from nfm_tfrs.embedding.growth import mean_rows, random_rows, rows_of_values
from nfm_tfrs.features.admission import check_limits, grown_features
from nfm_tfrs.features.carried import carried
from nfm_tfrs.features.check import checked_arrays
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.frames import as_table
from nfm_tfrs.features.growth import Growth, TableChange, changes
from nfm_tfrs.features.infer import Inference, row_batches
from nfm_tfrs.features.seen import Seen, grouped, values_seen, vocabularies
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Counting, Statistics
from nfm_tfrs.models import inputs
from nfm_tfrs.models.copied import copied, slots_of
from nfm_tfrs.models.ensemble import EnsembleModel
from nfm_tfrs.models.ranking import RankingModel

_Model = TypeVar("_Model")


def grow(model: _Model, data: Any, growth: Growth | None = None, *, format: str | None = None) -> _Model:
    """Returns the model with rows for the values of new data that it does not know yet; it stays as it is itself.

    Each value of its vocabularies keeps its place in its feature, and its row, first-order weight and optimizer state
    are bit-equal wherever the table has them now, as are the predictions for rows of these values. All other weights,
    the optimizer, the loss scale and the state of dropout are those of the model. The rows of new values start as
    `growth` says, and what the optimizer keeps for them where it always starts. Features that share a table grow
    together.

    A value in a vocabulary whose row was freed is unknown. Rows that were encoded before, also in caches and
    datasets, are those of the old model: encode them anew. Features of hash buckets, which take any value, and of ids
    (`vocabulary_size`), whose number is fixed, have nothing to grow and stay as they are. New values of a compressed
    table start where the rows that they share stand, and those of a frozen one at zero, or at the mean that
    `Growth.init` names.

    Args:
        model: A model of this package, trained or not, compiled or not.
        data: The new rows, as `nfm_tfrs.infer_features` takes them, with each column that the model reads; others are
            ignored. Parquet files and datasets are read batch by batch.
        growth: Which values get and which lose rows, and where new rows start; every new value at zero if not given.
        format: The files' format, where their suffix does not tell.

    Returns:
        The grown model, compiled as the model was.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The model cannot grow: it knows no features or has no vocabulary, its optimizer's state does not
            grow, `max_age` or `max_rows` without the training rows' statistics; or the data has no row, or a column is
            missing or does not fit its feature.

    Example:
        >>> from nfm_tfrs import NFM, CategoricalFeature
        >>> city = CategoricalFeature("city", vocabulary=["Rome", "Oslo"])
        >>> model = NFM([city, CategoricalFeature("hour", vocabulary_size=24)])
        >>> tonight = {"city": ["Oslo", "Paris", "Kyiv", "Kyiv"], "hour": [0, 7, 7, 8]}
        >>> grown = grow(model, tonight, Growth(init="random"))
        >>> grown.features["city"].vocabulary
        ('Rome', 'Oslo', 'Kyiv', 'Paris')
    """
    old: Any = model
    growth = Growth() if growth is None else growth
    growth = replace(growth, day=growth.date)  # also where midnight passes meanwhile
    features, statistics = _growing(old), old.statistics
    other_rows = old.embedding.num_rows - features.num_rows
    check_limits(features, growth, statistics, other_rows=other_rows)
    slots_of(old)  # refused before any row is read
    data = _readable_twice(data)
    seen = values_seen(data, features, group=growth.group, format=format)
    found = grown_features(features, seen.tables, growth, statistics, other_rows=other_rows)
    differing = changes(features, found.features, found.freed)
    start = _starts(old, found.features, differing, seen.tables, growth)
    grown = with_features(old, found.features, start=start, freed=found.freed)
    if statistics is not None:
        before = carried(statistics, found.features, differing, found.earlier)
        now = _counted(data, grown.encoder, growth, seen.rows, format)
        grown.statistics = replace(before.merged(now), waiting=found.waiting)
    return grown


def with_features(
    model: Any,
    features: FeatureSpec,
    *,
    start: Mapping[str, np.ndarray] | None = None,
    freed: Mapping[str, np.ndarray] | None = None,
) -> Any:
    """Returns a model of grown features with all that a model has learnt; see `grow`, which finds the features itself.

    Args:
        model: The model, which stays as it is.
        features: Its features with grown vocabularies: each value at its place, new ones behind the last or in the
            places that are free, and in `free_ids` those that lose their rows.
        start: By the name of the table the rows of its new values, `[new ids, width]`, in the order of their ids;
            zeros if not given.
        freed: By the name of the table ids whose value loses its row to another one, which has taken its place already.

    Returns:
        The grown model, compiled as the model was.

    Raises:
        ValueError: The model cannot grow, the features are others, or a vocabulary has lost or moved a value.

    Example:
        >>> from dataclasses import replace
        >>> from nfm_tfrs import NFM, CategoricalFeature
        >>> city = CategoricalFeature("city", vocabulary=["Rome", "Oslo"])
        >>> spec = FeatureSpec([city, CategoricalFeature("hour", vocabulary_size=24)])
        >>> grown = with_features(NFM(spec), spec.replace(replace(city, vocabulary=["Rome", "Oslo", "Paris"])))
        >>> grown.features.num_rows - spec.num_rows
        1
    """
    found = changes(_growing(model), features, freed)
    grown = copied(model, features, found, start or {})
    if model.statistics is not None:
        grown.statistics = carried(model.statistics, features, found)
    return grown


def _growing(model: Any) -> FeatureSpec:
    """The features of a model that can grow."""
    if isinstance(model, EnsembleModel):
        raise ValueError(
            f"The models of an ensemble grow; received {model.name}, the mean of {len(model.models)}. Grow each, and "
            "call ensemble_of again."
        )
    if not isinstance(model, RankingModel):
        raise ValueError(f"Models of this package grow; received {type(model).__name__}. Give one of them.")
    features = model.features
    if features is None:
        raise ValueError(
            "This model does not know its features yet, and has nothing to grow. Call fit with data first."
        )
    if not vocabularies(features):
        raise ValueError(
            f"The model has no vocabulary to grow: {', '.join(features.names):.200} are hash buckets, which take any "
            "value already, ids, whose number is fixed, or numbers. Train it on the new rows as it is."
        )
    return features


def _readable_twice(data: Any) -> Any:
    """The rows as what gives them again: growth reads them once more where the model keeps statistics."""
    data = inputs.batched(data)
    if isinstance(data, pa.RecordBatchReader | Iterator):
        return list(data)
    batches = isinstance(data, list | tuple) and all(isinstance(one, pa.RecordBatch) for one in data)
    return data if hasattr(data, "element_spec") or is_files(data) or batches else as_table(data)


def _counted(data: Any, encoder: FeatureEncoder, growth: Growth, rows: int, format: str | None) -> Statistics:
    """The statistics of rows that have been read once."""
    features = encoder.features
    counting, row = Counting(features), 0
    for batch in row_batches(data, Inference(features.columns), format=format, types=features.column_types):
        arrays = checked_arrays(batch, features, first_row=row)
        columns = encoder.encode_arrays(arrays)
        counting.add(columns, rates_of(arrays, columns, features))
        row += batch.num_rows
    if row != rows:
        raise ValueError(
            f"The data has {rows:,} rows when it is read once, and {row:,} when it is read again. Give data that can "
            "be read twice, such as files."
        )
    return counting.statistics(day=growth.day_number)


def _starts(
    model: Any, features: FeatureSpec, found: Mapping[str, TableChange], seen: Mapping[str, Seen], growth: Growth
) -> dict[str, np.ndarray]:
    """By table, the rows that its new values start at; none where they are zeros."""
    starts: dict[str, np.ndarray] = {}
    new_features = vocabularies(features)
    for table, old in vocabularies(model.features).items():
        vocabulary = new_features[table][0].vocabulary or ()
        values = [vocabulary[number] for number in found[table].new.tolist()]
        if not values or (held := rows_of_values(model.embedding, table)) is None:
            continue
        variable, place = held
        if growth.init == "random" and not old[0].frozen:
            starts[table] = random_rows(model.embedding, values, old[0].embedding_dim)
        elif growth.group is not None:
            rows = variable[place].numpy()
            starts[table] = mean_rows(rows, grouped(seen[table], old[0], values), len(values))
    return starts
