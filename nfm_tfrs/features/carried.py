"""The statistics of rows that were counted before vocabularies grew, by the grown features."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nfm_tfrs.features.growth import TableChange
from nfm_tfrs.features.seen import vocabularies
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Statistics


def carried(
    statistics: Statistics,
    features: FeatureSpec,
    changes: Mapping[str, TableChange],
    earlier: Mapping[str, np.ndarray] | None = None,
) -> Statistics:
    """Returns statistics as if the rows had been read by the grown features.

    A value that has lost its row counts among the unknown ones, and a new one counts as often as it was seen; what
    waits for a row and has one now waits no more.

    Args:
        statistics: The statistics.
        features: The grown features.
        changes: What differs between the vocabularies, by table.
        earlier: By table, how often each new value was seen, int64 `[n]`, in the order of ids; never if not given.
    """
    counts = {name: _grown(held, features[name].num_ids) for name, held in statistics.counts.items()}
    seen = {table: _grown(held, features.tables[table][1] - 1) for table, held in statistics.seen.items()}
    waiting = {table: dict(held) for table, held in statistics.waiting.items()}
    for table, same in vocabularies(features).items():
        change = changes[table]
        anew = 1 + np.concatenate([change.new, change.free])
        for feature in same:
            held = counts[feature.name]
            held[0] += held[anew].sum()
            held[anew] = 0
        seen[table][anew] = 0
        if earlier is not None:
            # Whose of the features that share the table they were nobody has counted.
            held = counts[same[0].name]
            held[1 + change.new] = earlier[table]
            held[0] = max(0, held[0] - earlier[table].sum())
        for value in same[0].known_values if waiting.get(table) else ():
            waiting[table].pop(value, None)
    return replace(statistics, counts=counts, seen=seen, waiting=waiting)


def _grown(held: np.ndarray, num_ids: int) -> np.ndarray:
    grown: np.ndarray = np.zeros(num_ids + 1, held.dtype)
    grown[: len(held)] = held
    return grown
