import itertools

import numpy as np
import pytest

from nfm_tfrs.data.parts import EncodedPart
from nfm_tfrs.features.check import Bag
from nfm_tfrs.features.encoder import IDS
from nfm_tfrs.tuning.settings import Schedule
from nfm_tfrs.tuning.slices import Slices, joined


def part(rows, weights=False):
    lengths = np.arange(rows) % 3
    splits = np.concatenate([[0], np.cumsum(lengths)])
    columns = {IDS: np.arange(rows)[:, None], "bag": Bag(np.repeat(np.arange(rows), lengths), splits)}
    return EncodedPart(columns, np.arange(rows, dtype=np.float32), np.arange(rows) * 2.0 if weights else None)


@pytest.mark.parametrize(("rows", "count"), [(27, 27), (100, 9), (1001, 27), (5, 1)])
def test_slices_of_one_pass_are_disjoint_and_cover_it(rows, count):
    cut = Slices(part(rows), passes=1, count=count, seed=0)
    seen = np.concatenate([cut.rows(number) for number in range(count)])
    assert sorted(seen.tolist()) == list(range(rows))


def test_the_rows_of_the_rungs_of_one_pass_are_disjoint_and_cover_it():
    cut, bounds = Slices(part(500), passes=1, count=27, seed=3), [0, *Schedule().rungs]
    of_rung = [
        np.concatenate([cut.rows(number) for number in range(start, end)]) for start, end in itertools.pairwise(bounds)
    ]
    assert len(of_rung) == 2
    assert sorted(np.concatenate(of_rung).tolist()) == list(range(500))


@pytest.mark.parametrize(("passes", "more", "count"), [(2, 5, 22), (2.5, 5.0, 18), (2, 1, 9), (0.3, 1, 30)])
def test_slices_go_on_behind_a_whole_training_in_the_same_size(passes, more, count):
    cut = Slices(part(100), passes=passes, count=9, seed=1)
    longer = cut.longer(more)
    assert longer.count == count
    assert longer.passes == pytest.approx(passes * count / 9)
    for number in range(9):
        np.testing.assert_array_equal(longer.rows(number), cut.rows(number))
    if count > 9:  # one more would be too many
        assert 0 <= more * 100 - sum(len(longer.rows(number)) for number in range(count)) < 100 * passes / 9
    assert (cut.count, cut.passes) == (9, passes)


def test_the_steps_of_a_part_are_those_of_its_slices():
    cut = Slices(part(100), passes=2, count=9, seed=1)
    assert cut.steps(8, 4) == sum(-(-len(cut.rows(number)) // 8) for number in range(4))
    assert cut.steps(8) == cut.steps(8, 9)


@pytest.mark.parametrize("passes", [0.5, 2.5, 7])
def test_each_pass_holds_every_row_once_in_an_order_of_its_own(passes):
    rows, count = 40, 9
    cut = Slices(part(rows), passes=passes, count=count, seed=1)
    seen = np.concatenate([cut.rows(number) for number in range(count)])
    assert len(seen) == round(passes * rows)
    orders = [seen[start : start + rows].tolist() for start in range(0, len(seen), rows)]
    for order in orders:
        assert len(set(order)) == len(order)
    whole = [tuple(order) for order in orders if len(order) == rows]
    assert len(set(whole)) == len(whole)


def test_a_slice_is_batches_of_its_rows():
    cut = Slices(part(20, weights=True), passes=2, count=4, seed=0)
    batches = list(cut.dataset(1, 4))
    rows = cut.rows(1)
    assert [len(labels) for _, labels, _ in batches] == [4, 4, 2]
    assert np.concatenate([labels for _, labels, _ in batches]).tolist() == rows.tolist()
    assert np.concatenate([weights for *_, weights in batches]).tolist() == (rows * 2).tolist()
    bags = [values for columns, *_ in batches for values in columns["bag"].to_list()]
    assert bags == [[row] * (row % 3) for row in rows.tolist()]
    assert cut.steps(4) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"passes": 0, "count": 3}, "A training needs passes above 0 and a slice or more; received 0 and 3."),
        ({"passes": 1, "count": 0}, "A training needs passes above 0 and a slice or more; received 1 and 0."),
        ({"passes": 0.1, "count": 9}, "20 rows in 0.1 passes are too few for 9 slices. Give more passes."),
    ],
)
def test_slices_that_cannot_be_cut_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Slices(part(20), seed=0, **arguments)


def test_joined_rows_are_those_of_both():
    both = joined(part(5, weights=True), part(4, weights=True))
    assert both.labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert both.weights.tolist() == [0, 2, 4, 6, 8, 0, 2, 4, 6]
    half = joined(part(2, weights=True), part(3))
    assert half.weights.tolist() == [0, 2, 1, 1, 1]  # rows without a weight count once
    assert joined(part(2), part(3)).weights is None
    last = both.columns["bag"].take(np.array([4, 7]))
    assert last.values.tolist() == [4, 2, 2]
    assert np.diff(last.row_splits).tolist() == [1, 2]


def test_joined_rows_need_labels():
    with pytest.raises(ValueError, match=r"Rows to train on need labels; received none\. Prepare them with a label\."):
        joined(part(2), EncodedPart(part(3).columns))


@pytest.mark.parametrize("rows", [1, 9, 10])
@pytest.mark.parametrize("passes", [0.5, 0.95, 0.99, 1, 2.5])
@pytest.mark.parametrize("count", [1, 4, 5, 9, 10, 25])
def test_slices_without_rows_are_refused(rows, passes, count):
    places = [round(passes * rows / count * number) for number in range(count + 1)]
    if all(after > before for before, after in itertools.pairwise(places)):
        assert Slices(part(rows), passes=passes, count=count, seed=0).count == count
    else:
        with pytest.raises(ValueError, match=f"^{rows} rows in {passes} passes are too few for {count} slices"):
            Slices(part(rows), passes=passes, count=count, seed=0)


def test_more_slices_than_memory_holds_are_refused_by_their_number():
    with pytest.raises(ValueError, match=r"^9 rows in 0\.5 passes are too few for 1000000000000000 slices"):
        Slices(part(9), passes=0.5, count=10**15, seed=0)
