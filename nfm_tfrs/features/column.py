"""One column as it is read: counts of its values, its moments, and the plain decision what it becomes."""

import re
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nfm_tfrs.features.bag import UINT64_MISSING
from nfm_tfrs.features.check import is_list, is_text, utf8, whole_numbers
from nfm_tfrs.features.feature import (
    RESERVED_PREFIX,
    CategoricalFeature,
    Feature,
    MultiCategoricalFeature,
    NumericFeature,
)
from nfm_tfrs.features.host import means_missing
from nfm_tfrs.features.moments import Moments
from nfm_tfrs.features.number_encoders import WITH_LIMITS
from nfm_tfrs.features.percentiles import Percentiles
from nfm_tfrs.features.rates import Rates

Kind = Literal["category", "number", "bag"]
_ID = re.compile(r"(?i:id|uid|.*_id|.*_key)|.*[a-z0-9]I[dD]")  # names of columns that are ids
_MARK = 1e30  # nothing that is measured is this large: such a number stands for a missing one
_MOST_MARKS = 8
_CATEGORIES = ("vocabulary", "vocabulary_size", "num_hash_buckets", "dtype", "free_ids")  # what a shared table shares
_LIMITS = slice(1, None, 2)  # of percentiles: 1, 3, …, 99, so that the outermost buckets hold a hundredth each


class ColumnCounts:
    """Counts of the values of one column, or its moments, and the feature that they make.

    Args:
        field: The column's name and type.
        kind: What the user says the column is: `"category"`, `"number"` or `"bag"`; None to go by its type.
        encoder: The encoder of a number, where not the feature's own default; limits are its percentiles.

    Raises:
        ValueError: A column of this type cannot be of that kind.
    """

    def __init__(self, field: pa.Field, kind: Kind | None = None, encoder: str | None = None) -> None:
        self.field, self.kind, self.encoder = field, kind, encoder
        self.percentiles = Percentiles() if encoder in WITH_LIMITS else None
        self.rows = 0
        whole = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        one_value = pa.types.is_fixed_size_list(whole) and whole.list_size == 1 and kind != "bag"
        self.is_list, self.is_bag = is_list(whole), kind == "bag" or (is_list(whole) and not one_value)
        self.type = whole.value_type if self.is_list else whole
        if pa.types.is_dictionary(self.type):
            self.type = self.type.value_type
        self.is_string = is_text(self.type)
        self.is_integer = pa.types.is_integer(self.type) or pa.types.is_boolean(self.type)
        self.is_number = pa.types.is_floating(self.type) or pa.types.is_decimal(self.type)
        # pandas keeps ids as floats where one of them is missing.
        floating = pa.types.is_floating(self.type) and not self.is_list and kind is None
        self.is_id = floating and _ID.fullmatch(field.name) is not None
        self.guessed_number = False  # whether integers became a number because most of them differ
        self.counts: list[tuple[pa.Array, pa.Array]] = []  # distinct values, and how often each comes
        self.present = self.known = self.empty = 0  # values that are there and in the vocabulary, and empty lists
        self.raw, self.logged = Moments(), Moments()
        self.marks: dict[float, int] = {}  # numbers that may stand for a missing one, and how often they do
        self.logged_with_marks = Moments()
        if kind is not None and not pa.types.is_null(self.type) and not self._can_be(kind):
            raise ValueError(
                f"Column {field.name!r} is {field.type}, but kinds calls it a {kind}. Cast it, or name another kind."
            )
        self.is_integer |= self.is_number and kind in ("category", "bag")  # of whole numbers, as pandas stores some
        self.is_number &= not self.is_integer

    def _can_be(self, kind: Kind) -> bool:
        if kind != "bag" and self.is_bag:
            return False
        return self.is_integer or self.is_number or (self.is_string and kind != "number")

    def update(self, array: pa.Array) -> None:
        """Counts the next rows."""
        values = array
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        lists = values if self.is_list else None
        values = values.flatten() if self.is_list else values
        if self.is_integer and pa.types.is_floating(values.type):
            rows = np.arange(self.rows, self.rows + len(array))
            if lists is not None:
                rows = np.repeat(rows, pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False))
            values = whole_numbers(self.field.name, values, rows)
        self.rows += len(array)
        if self._is_counted:
            values = self._cast(values)
            if lists is not None:
                self.empty += _empty(lists, values)
            self._add((values.drop_null() if values.null_count else values).value_counts())
        elif self.is_integer or self.is_number:
            numbers = values.cast(pa.float64(), safe=False).drop_null().to_numpy(zero_copy_only=False)
            if self.is_id:
                self._count_ids(numbers[~np.isnan(numbers)])
            self._measure(numbers[np.isfinite(numbers)])

    def _count_ids(self, numbers: np.ndarray) -> None:
        """Counts whole numbers; where one is not, the column holds no ids."""
        self.is_id = bool(np.all((numbers == np.trunc(numbers)) & (np.abs(numbers) < 2.0**53)))
        if self.is_id:
            self._add(pa.array(numbers.astype(np.int64)).value_counts())

    def _add(self, counted: pa.StructArray) -> None:
        values = utf8(self.field.name, counted.field(0)) if self.is_string else counted.field(0)
        self.counts.append((values, counted.field(1)))
        if sum(len(values) for values, _ in self.counts) > 4_000_000:
            self.counts = [self._counted()]

    @property
    def _is_counted(self) -> bool:
        return (self.is_string or self.is_integer) and self.kind != "number"

    def _measure(self, numbers: np.ndarray) -> None:
        logged = np.sign(numbers) * np.log1p(np.abs(numbers))
        self.logged_with_marks.update(logged)
        marked = np.abs(numbers) >= _MARK
        if marked.any():
            for mark, times in zip(*np.unique(numbers[marked], return_counts=True), strict=True):
                if len(self.marks) <= _MOST_MARKS:
                    self.marks[float(mark)] = self.marks.get(float(mark), 0) + int(times)
            numbers, logged = numbers[~marked], logged[~marked]
        self.raw.update(numbers)
        self.logged.update(logged)
        if self.percentiles is not None:
            self.percentiles.update(numbers)

    @property
    def _counted_type(self) -> pa.DataType:
        if self.is_string:
            return pa.string()
        return pa.uint64() if pa.types.is_uint64(self.type) else pa.int64()

    def _cast(self, values: pa.Array) -> pa.Array:
        wanted = self._counted_type
        try:
            return values if values.type == wanted else values.cast(wanted)
        except pa.ArrowInvalid as error:
            raise ValueError(f"Column {self.field.name!r}: {error}. Turn its values into strings.") from error

    def feature(self, *, min_count: int, max_vocabulary: int, weights: str | None) -> Feature | str:
        """Returns the column's feature, or why it has none; see `Inference` for the limits.

        Args:
            min_count: Values seen less often become unknown; where all are, they are hashed.
            max_vocabulary: Most values that are kept as a vocabulary.
            weights: The column of the weights of a bag.
        """
        if not self.field.name or self.field.name.startswith(RESERVED_PREFIX):
            return f"its name is empty or begins with {RESERVED_PREFIX!r}, which is reserved"
        if (self.is_number and not self.is_id) or self.kind == "number":
            return "a list of floats is neither a bag of categories nor a number" if self.is_bag else self._numeric()
        if not (self.is_string or self.is_integer or self.is_id):
            return f"its type {self.field.type} is not a string, a number or a list of them"
        values, counts = (array.to_numpy(zero_copy_only=False) for array in self._counted())
        if self.is_string:
            present = values != ""
        else:
            present = values != UINT64_MISSING if values.dtype == np.uint64 else values >= 0
        distinct = np.count_nonzero(present)  # a tenth of the time of a sum, of which a wide table has many
        if not distinct:
            return "every value is missing"
        may_be_a_number = self.kind is None and self.is_integer and not self.is_bag
        mostly_unique = self.rows >= 100 and distinct > self.rows / 2
        if may_be_a_number and mostly_unique and not _ID.fullmatch(self.field.name):
            self.guessed_number = True
            order = np.argsort(values)  # Arrow's threads give groups in any order, and sums end in other bits
            self._measure(np.repeat(values[order].astype(np.float64), counts[order]))
            return self._numeric()
        if distinct < len(values):
            values, counts = values[present], counts[present]
        self.present = int(counts.sum())
        return self._category(values, counts, min_count=min_count, max_vocabulary=max_vocabulary, weights=weights)

    def _category(
        self, values: np.ndarray, counts: np.ndarray, *, min_count: int, max_vocabulary: int, weights: str | None
    ) -> Feature:
        kept = counts >= min_count
        size = int(np.count_nonzero(kept))
        if size == 0:  # all are rare: hashed, they share rows instead of one row
            size, max_vocabulary = min(len(counts), max_vocabulary), 0
        if size > max_vocabulary:
            self.known = self.present
            how: dict[str, Any] = {"num_hash_buckets": 2 * size, "dtype": "string" if self.is_string else "int64"}
        else:
            self.known = self.present
            if size < len(values):
                values, counts = values[kept], counts[kept]
                self.known = int(counts.sum())
            order = np.argsort(values, kind="stable")
            order = order[np.argsort(-counts[order], kind="stable")]
            how = {"vocabulary": tuple(values[order].tolist())}
        if self.is_bag:
            return MultiCategoricalFeature(self.field.name, weights=weights, **how)
        return CategoricalFeature(self.field.name, **how)

    def history(self, of: CategoricalFeature) -> MultiCategoricalFeature:
        """Returns the feature of a column that holds earlier values of another one: a bag that shares its rows.

        Args:
            of: The other column's feature.
        """
        values, counts = self._counted()
        kept = np.asarray(pc.invert(means_missing(values)).fill_null(False))
        values, counts = values.filter(pa.array(kept)), counts.filter(pa.array(kept))
        self.present = self.known = pc.sum(counts).as_py() or 0
        if of.vocabulary is not None:
            known = pc.is_in(values, value_set=pa.array(of.known_values, values.type))
            self.known = pc.sum(counts.filter(known)).as_py() or 0
        same = {name: getattr(of, name) for name in _CATEGORIES}
        return MultiCategoricalFeature(self.field.name, embedding_name=of.table, target=of.name, **same)

    def rates(self, feature: Feature) -> Rates:
        """Returns how many values of these rows are missing, and how many unknown to the feature that they make."""
        if isinstance(feature, NumericFeature):
            measured = self.logged_with_marks if feature.log and len(self.marks) > _MOST_MARKS else self.raw
            return Rates(feature.name, self.rows, 1 - measured.count / self.rows, 0.0)
        unknown = self.present - self.known
        if isinstance(feature, MultiCategoricalFeature):
            empty = self.empty if self.is_list else self.rows - self.present
            return Rates(feature.name, self.present, empty / self.rows, unknown / max(self.present, 1))
        return Rates(feature.name, self.rows, 1 - self.present / self.rows, unknown / self.rows)

    def _numeric(self) -> Feature | str:
        if len(self.marks) > _MOST_MARKS:  # too many different ones: numbers of this size are what the column holds
            moments = self.logged_with_marks
            encoder = None if self.encoder in WITH_LIMITS else self.encoder  # limits leave such numbers out
            return NumericFeature(self.field.name, mean=moments.mean, std=moments.std, log=True, encoder=encoder)
        if not self.raw.count or self.raw.std == 0:
            return "every value is missing" if not self.raw.count else "every value is the same"
        log = self.raw.low >= 0 and self.raw.std > 2 * self.raw.mean
        moments, marks = self.logged if log else self.raw, tuple(sorted(self.marks))
        told: dict[str, Any] = {"encoder": self.encoder}
        if self.percentiles is not None:
            found: np.ndarray = self.percentiles.found().astype(np.float32)  # as numbers are read
            limits = np.unique(found[_LIMITS])  # fewer where percentiles repeat
            limits = limits if len(limits) > 1 else np.unique(found[[0, -1]])
            told |= {"boundaries": limits.tolist()} if len(limits) > 1 else {"encoder": None}
        return NumericFeature(
            self.field.name, mean=moments.mean, std=moments.std, log=log, missing_values=marks, **told
        )

    def _counted(self) -> tuple[pa.Array, pa.Array]:
        """The distinct values and how often each comes."""
        if len(self.counts) == 1:  # distinct already: adding up would take most of the time of a wide table
            return self.counts[0]
        if not self.counts:
            return pa.array([], self._counted_type), pa.array([], pa.int64())
        values, counts = (pa.chunked_array(list(arrays)) for arrays in zip(*self.counts, strict=True))
        summed = pa.table({"value": values, "count": counts}).group_by("value").aggregate([("count", "sum")])
        return summed.column("value").combine_chunks(), summed.column("count_sum").combine_chunks()


def _empty(lists: pa.Array, values: pa.Array) -> int:
    """How many lists hold no value that is there."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    missing = pc.fill_null(means_missing(values), True).to_numpy(zero_copy_only=False)
    rows: np.ndarray = np.repeat(np.arange(len(lists)), lengths)
    return len(lists) - len(np.unique(rows[~missing]))
