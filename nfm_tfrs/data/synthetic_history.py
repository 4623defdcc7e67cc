"""A seeded click log of histories of mixed tastes, whose truth is how well the best of them fits the target."""

import numpy as np
import pyarrow as pa

from nfm_tfrs.data.synthetic import ClickLog, noise, sigmoid, zipf

ITEMS = 200
TASTES = 40  # more than an embedding has dimensions: their mean does not say which there are
POPULARITY = 0.5  # exponent of the Zipf law of the items
MOST_SEEN = 16
_RANK = 8  # length of an item's latent vector
_SPREAD = 0.35  # of the items around their taste, as long a vector as 1
_TASTES_OF_ONE = 4
_OWN = 0.5  # share of targets that are drawn from the tastes of the row's user; the others are any items
_SHARES = (0.15, 0.85)  # of the logit's variance: the item itself, the best match
_START = 1_735_689_600  # 2025-01-01 00:00 UTC
_SECONDS = 28 * 86_400
_REFERENCE_ROWS = 20_000


def history_log(rows: int, *, seed: int, best_auc: float = 0.8, click_rate: float = 0.25) -> ClickLog:
    """Draws a click log in which a user's earlier items decide, by the one that is most like the row's.

    logit = bias + s (√a · w_t + √b · max_j ⟨u_j, u_t⟩),  over the items j of the history, t the row's item

    Each item has a weight w and a latent vector u of length 1, near that of its taste. A history mixes the items of
    four tastes, in any shares, so that the mean of its vectors says little of the best match: one fitting item among
    many counts as much as many. Each row is of a new user: the history is all there is to know about them. Half of the
    rows' items are of the user's tastes. Both terms are scaled to variance 1; a and b, which add up to 1, share the
    variance out. An empty history counts as one of a mean best match. The rest is as in `click_log`.

    Columns: `item_id` (int64), `seen` (lists of 0 to 16 int64), `timestamp` (int64, seconds, ascending), `click`
    (int8).

    Args:
        rows: Number of rows, 1 or more.
        seed: Same seed, same log; logs of the same seed and another number of rows come from the same weights.
        best_auc: Expected AUC of the true logits, above 0.5 and at most 0.99.
        click_rate: Expected share of clicks, between 0 and 1.

    Returns:
        The table and its true logits.

    Raises:
        ValueError: An argument out of its range.

    Example:
        >>> log = history_log(1000, seed=0)
        >>> log.table.column_names, log.true_logits.shape
        (['item_id', 'seen', 'timestamp', 'click'], (1000,))
    """
    if rows < 1:
        raise ValueError(f"history_log needs 1 row or more; received rows={rows}.")
    if not 0.5 < best_auc <= 0.99:
        raise ValueError(f"best_auc must be above 0.5 and at most 0.99; received {best_auc}.")
    if not 0 < click_rate < 1:
        raise ValueError(f"click_rate must be above 0 and below 1; received {click_rate}.")
    # Streams of their own: the weights do not depend on the number of rows.
    for_world, for_reference, for_rows = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(3))
    world = _World(for_world)
    shares = np.sqrt(_SHARES)
    reference = world.terms(*world.drawn(for_reference, _REFERENCE_ROWS))
    mean, scale = np.nanmean(reference, axis=0), np.nanstd(reference, axis=0)

    def scores(terms: np.ndarray) -> np.ndarray:
        standardised: np.ndarray = np.nan_to_num((terms - mean) / scale) @ shares
        return standardised

    slope, bias = noise(scores(reference), best_auc, click_rate)
    items, seen = world.drawn(for_rows, rows)
    true_logits = bias + slope * scores(world.terms(items, seen))
    clicks = for_rows.uniform(size=rows) < sigmoid(true_logits)
    splits = np.r_[0, np.cumsum((seen >= 0).sum(axis=1))]
    table = pa.table(
        {
            "item_id": pa.array(items),
            "seen": pa.ListArray.from_arrays(pa.array(splits, pa.int32()), pa.array(seen[seen >= 0])),
            "timestamp": pa.array(np.sort(_START + for_rows.integers(0, _SECONDS, rows))),
            "click": pa.array(clicks.astype(np.int8)),
        }
    )
    return ClickLog(table, true_logits)


class _World:
    """The planted weights and vectors."""

    def __init__(self, rng: np.random.Generator) -> None:
        tastes = _unit(rng.normal(size=(TASTES, _RANK)))
        self._taste: np.ndarray = rng.integers(0, TASTES, ITEMS)
        noise_of_items = _SPREAD * _unit(rng.normal(size=(ITEMS, _RANK)))
        self._vectors = _unit(tastes[self._taste] + noise_of_items)
        self._weights = rng.normal(size=ITEMS)
        self._chances = zipf(ITEMS, POPULARITY)

    def drawn(self, rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows' items, `[rows]`, and what their users have seen, `[rows, MOST_SEEN]`, -1 where there is nothing."""
        tastes = rng.integers(0, TASTES, (rows, _TASTES_OF_ONE))
        shares = rng.dirichlet(np.full(_TASTES_OF_ONE, 0.7), rows)
        places = rng.uniform(size=(rows, MOST_SEEN, 1)) > np.cumsum(shares, axis=1)[:, None, :-1]
        of_taste = np.take_along_axis(tastes, places.sum(axis=2), axis=1)
        seen = self._items_of(of_taste, rng)
        seen[np.arange(MOST_SEEN) >= rng.integers(0, MOST_SEEN + 1, rows)[:, None]] = -1
        own = self._items_of(tastes[np.arange(rows), rng.integers(0, _TASTES_OF_ONE, rows)], rng)
        return np.where(rng.uniform(size=rows) < _OWN, own, rng.choice(ITEMS, rows, p=self._chances)), seen

    def terms(self, items: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """[rows, 2]: the item's weight and its best match, not yet scaled; NaN where there is no history."""
        likeness = np.einsum("rd,rjd->rj", self._vectors[items], self._vectors[seen])
        best = np.where(seen >= 0, likeness, -np.inf).max(axis=1)
        return np.stack([self._weights[items], np.where(np.isfinite(best), best, np.nan)], axis=1)

    def _items_of(self, tastes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An item of each of these tastes, of any shape; popular ones more often."""
        order = np.argsort(self._taste, kind="stable")
        chances = np.cumsum(self._chances[order])
        ends = np.searchsorted(self._taste[order], np.arange(TASTES), side="right")
        starts = np.searchsorted(self._taste[order], np.arange(TASTES))
        low = np.where(starts > 0, chances[starts - 1], 0.0)[tastes]
        high = np.where(ends > 0, chances[ends - 1], 0.0)[tastes]
        found = np.searchsorted(chances, low + (high - low) * rng.uniform(size=tastes.shape), side="right")
        return order[np.minimum(found, ITEMS - 1)]


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
