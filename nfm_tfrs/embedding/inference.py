"""The embeddings of a batch put together from parts: of some of its features, or with bags padded to one length."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from nfm_tfrs.embedding.pooling import Rows, pooled_rows
from nfm_tfrs.embedding.table import FieldEmbeddings, FieldSums, FusedEmbedding, number_scales
from nfm_tfrs.features.feature import MultiCategoricalFeature
from nfm_tfrs.features.keys import IDS, bag_key, weights_key
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf

# Of ids and the features that they are of, one a column; of numbers' rows without features.
Look = Callable[..., tf.Tensor]
_SMALLEST = -3e38


class PaddedBag(NamedTuple):
    """An encoded bag without row splits, for what knows no ragged tensors.

    Attributes:
        ids: Rows of the table, int64 `[batch, length]`, negative where there is no value.
        weights: float32 `[batch, length]`; None where all values count alike.
    """

    ids: tf.Tensor
    weights: tf.Tensor | None


class History(NamedTuple):
    """The rows of a bag that are to be weighed against a target.

    Attributes:
        rows: float32 `[batch, None, width]`, ragged, or padded to `[batch, length, width]`.
        there: Which of padded rows there are, bool `[batch, length]`; None of ragged ones.
        weights: The values' own weights, float32 `[values]` or `[batch, length]`; None where all values count alike.
    """

    rows: Any
    there: tf.Tensor | None
    weights: tf.Tensor | None

    def repeated(self, batch: tf.Tensor) -> "History":
        """Returns this one ragged row, once for each of so many rows."""
        count = tf.cast(batch, tf.int64)
        lengths = tf.repeat(self.rows.row_lengths(), count)
        values = tf.tile(self.rows.values, [count, 1])
        rows = tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)
        return History(rows, None, None if self.weights is None else tf.tile(self.weights, [count]))


class Fields(NamedTuple):
    """What was looked up for some features, not yet side by side.

    Attributes:
        single: Rows of single-valued features, float32 `[batch, features, width]`; None without any.
        numbers: Fields of numbers, float32 `[batch, features, width]`; None where numbers are no fields.
        bags: By the bag's name its fields, float32 `[batch, positions, width]`, and which of them are there, bool
            `[batch, positions]`.
        histories: By the bag's name what attends to a feature that is none of these.
    """

    single: tf.Tensor | None
    numbers: tf.Tensor | None
    bags: dict[str, tuple[tf.Tensor, tf.Tensor]]
    histories: dict[str, History]

    @property
    def any(self) -> bool:
        """Whether there are any fields."""
        return self.single is not None or self.numbers is not None or bool(self.bags)

    def repeated(self, batch: tf.Tensor) -> "Fields":
        """Returns these of one row, once for each of so many rows."""

        def again(part: tf.Tensor) -> tf.Tensor:
            return tf.repeat(part, batch, axis=0)

        bags = {name: (again(vectors), again(mask)) for name, (vectors, mask) in self.bags.items()}
        single, numbers = (None if part is None else again(part) for part in (self.single, self.numbers))
        return Fields(single, numbers, bags, {})


def looked_up(embedding: FusedEmbedding, encoded: Mapping[str, Any], features: FeatureSpec, look: Look) -> Fields:
    """Looks up what an encoded batch holds of some features.

    Args:
        embedding: The layer whose table it is.
        encoded: What `FeatureEncoder.encode` returns of these features; bags may be a `PaddedBag` each.
        features: The features.
        look: Gives rows as `FusedEmbedding.rows` does.
    """
    single = look(encoded[IDS], features.single) if features.single else None
    numbers = None
    if embedding.has_number_fields and features.numbers:
        places = [embedding.features.numbers.index(number) for number in features.numbers]
        both = list(zip(*embedding.layouts[0].number_rows(), strict=True))
        rows = look(tf.constant([both[place] for place in places], tf.int64))  # [numbers, 2, width]
        numbers = embedding.number_fields(*number_scales(encoded), [rows[:, 0], rows[:, 1]], places)
    bags, histories = {}, {}
    for bag in features.bags:
        ids, look_bag = encoded[bag_key(bag.name)], partial(look, features=(bag,))
        padded = isinstance(ids, PaddedBag)
        weights = encoded[weights_key(bag.name)].values if bag.weights and not padded else None
        if bag.attends:
            history = _padded_history(bag, ids, look_bag) if padded else _ragged_history(ids, weights, look_bag)
            if bag.target in features:
                bags[bag.name] = _attended(embedding, bag, history, _targets(bag, single, features))
            else:
                histories[bag.name] = history
        else:
            bags[bag.name] = (
                _padded_fields(bag, ids, look_bag) if padded else _ragged_fields(bag, ids, weights, look_bag)
            )
    return Fields(single, numbers, bags, histories)


def across(
    embedding: FusedEmbedding, user: tuple[FeatureSpec, Fields], each: tuple[FeatureSpec, Fields], batch: tf.Tensor
) -> tuple[Fields, Fields]:
    """Returns the fields of a user, who is one row, and those of each candidate, with no bag left that waits for its
    target: what attends to a feature of the other side differs by candidate, and is a field of theirs.

    Args:
        embedding: The layer.
        user: The features of the user, and what was looked up for them.
        each: The other features, and what was looked up for these.
        batch: Number of candidates.
    """
    bags = dict(each[1].bags)
    for bag in embedding.features.bags:
        if bag.name in user[1].histories:
            history, targets = user[1].histories[bag.name].repeated(batch), _targets(bag, each[1].single, each[0])
        elif bag.name in each[1].histories:
            history = each[1].histories[bag.name]
            targets = tf.repeat(_targets(bag, user[1].single, user[0]), batch, axis=0)
        else:
            continue
        bags[bag.name] = _attended(embedding, bag, history, targets)
    return user[1]._replace(histories={}), each[1]._replace(bags=bags, histories={})


def side_by_side(sides: Sequence[tuple[FeatureSpec, Fields]], features: FeatureSpec) -> Fields:
    """Returns the fields of several parts of the features, of as many rows each, in the order of all features."""

    def joined(kind: str, parts: list[tf.Tensor | None]) -> tf.Tensor | None:
        names = [feature.name for spec, _ in sides for feature in getattr(spec, kind)]
        there = [part for part in parts if part is not None]
        if not there:
            return None
        order = [names.index(feature.name) for feature in getattr(features, kind)]
        together = tf.concat(there, axis=1)
        return together if order == sorted(order) else tf.gather(together, order, axis=1)

    found = [fields for _, fields in sides]
    bags = {name: bag for fields in found for name, bag in fields.bags.items()}
    return Fields(
        joined("single", [fields.single for fields in found]),
        joined("numbers", [fields.numbers for fields in found]),
        {bag.name: bags[bag.name] for bag in features.bags},
        {},
    )


def embedded(embedding: FusedEmbedding, fields: Fields, *, sums: bool) -> FieldEmbeddings | FieldSums:
    """Returns what `FusedEmbedding` returns of these fields, or its share of it where they are of some features.

    Args:
        embedding: The layer.
        fields: Fields of all features or, with `sums`, of some.
        sums: Whether to return `FieldSums`.
    """
    unpooled = [bag.name for bag in embedding.features.bags if bag.combiner is None and bag.name in fields.bags]
    names = unpooled + [name for name in fields.bags if name not in unpooled]
    parts = [part for part in (fields.single, fields.numbers) if part is not None]
    dense = sum(part.shape[1] for part in parts)
    parts += [fields.bags[name][0] for name in names]
    together = tf.concat(parts, axis=1) if len(parts) > 1 else parts[0]
    vectors, first_order = together, None
    if embedding.linear:
        vectors = together[:, :, : embedding.embedding_dim]
        first_order = tf.reduce_sum(together[:, :, embedding.embedding_dim :], axis=1)
    if sums:
        return FieldSums(tf.reduce_sum(vectors, axis=1), tf.reduce_sum(vectors * vectors, axis=1), first_order)
    mask = None
    if names:
        masks = [fields.bags[name][1] for name in names]
        there = [tf.ones_like(together[:, :dense, 0], tf.bool)] if dense else []
        mask = tf.concat([*there, *masks], axis=1)
        mask = tf.ensure_shape(mask, together.shape[:2])
    return FieldEmbeddings(tf.cast(vectors, embedding.compute_dtype), mask, first_order)


def added(one: FieldSums, other: FieldSums) -> FieldSums:
    """Returns the sums over the fields of both, one of which may be of a single row that counts for each."""
    first_order = None if one.first_order is None else one.first_order + other.first_order
    return FieldSums(one.total + other.total, one.squares + other.squares, first_order)


def _targets(bag: MultiCategoricalFeature, single: tf.Tensor | None, features: FeatureSpec) -> tf.Tensor:
    """The row of a bag's target, [batch, width], of the rows of these features, [batch, features, width]."""
    assert single is not None
    return single[:, [feature.name for feature in features.single].index(str(bag.target))]


def _attended(
    embedding: FusedEmbedding, bag: MultiCategoricalFeature, history: History, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The field of a bag of attention, [batch, 1, width], and whether it has a value, [batch, 1]."""
    attention, rows = embedding.attention_of(bag), history.rows
    if history.there is None:
        pooled = attention(rows, targets, history.weights, training=False)
        return pooled[:, None, :], (rows.row_lengths() > 0)[:, None]
    pooled = attention.padded(rows, targets, history.there, history.weights)
    return pooled[:, None, :], tf.reduce_any(history.there, axis=1, keepdims=True)


def _ragged_history(ids: tf.RaggedTensor, weights: tf.Tensor | None, look: Look) -> History:
    return History(ids.with_values(look(ids.values)), None, weights)


def _padded_history(bag: MultiCategoricalFeature, padded: PaddedBag, look: Look) -> History:
    there, _ = _there(bag, padded)
    return History(look(tf.maximum(padded.ids, 0)), there, padded.weights)


def _there(bag: MultiCategoricalFeature, padded: PaddedBag) -> tuple[tf.Tensor, tf.Tensor]:
    """Which values of a padded bag are used, and their place, counted from 1 and of values alone; [batch, length]"""
    there = padded.ids >= 0
    place = tf.cumsum(tf.cast(there, tf.int32), axis=1)
    return there if bag.max_length is None else there & (place <= bag.max_length), place


def _ragged_fields(
    bag: MultiCategoricalFeature, ids: tf.RaggedTensor, weights: tf.Tensor | None, look: Look
) -> tuple[tf.Tensor, tf.Tensor]:
    rows = look(ids.values)
    if bag.combiner is not None:
        pooled = pooled_rows(Rows(rows, None), ids, weights, bag.combiner)
        return pooled[:, None, :], (ids.row_lengths() > 0)[:, None]
    shape = [None, bag.max_length]
    filled = ids.with_values(tf.ones_like(ids.values, tf.bool)).to_tensor(False, shape=shape)
    vectors = rows if weights is None else rows * weights[:, None]
    return ids.with_values(vectors).to_tensor(0.0, shape=[*shape, rows.shape[-1]]), filled


def _padded_fields(bag: MultiCategoricalFeature, padded: PaddedBag, look: Look) -> tuple[tf.Tensor, tf.Tensor]:
    """`_ragged_fields` by plain operations: rows of [batch, length], those of no value counted zero times."""
    there, place = _there(bag, padded)
    rows = look(tf.maximum(padded.ids, 0))  # [batch, length, width]
    filled = tf.cast(there, tf.float32)
    weights = filled if padded.weights is None else tf.where(there, padded.weights, 0.0)
    if bag.combiner is None:
        length = tf.shape(padded.ids)[1] if bag.max_length is None else bag.max_length
        at = tf.cast(place[:, None, :] == tf.range(1, length + 1)[None, :, None], tf.float32)
        vectors = tf.matmul(at * weights[:, None, :], rows)  # [batch, max_length, width]
        return vectors, tf.reduce_sum(at * filled[:, None, :], axis=2) > 0
    present = tf.reduce_any(there, axis=1, keepdims=True)
    if bag.combiner == "max":
        values = tf.where(there[:, :, None], rows * weights[:, :, None], _SMALLEST)
        values = tf.pad(values, [[0, 0], [0, 1], [0, 0]], constant_values=_SMALLEST)  # where no bag has any
        largest = tf.reduce_max(values, axis=1)
        return tf.where(present, largest, 0.0)[:, None, :], present
    total = tf.reduce_sum(rows * weights[:, :, None], axis=1)
    if bag.combiner != "sum":
        measure = tf.reduce_sum(weights if bag.combiner == "mean" else weights * weights, axis=1, keepdims=True)
        divisor = measure if bag.combiner == "mean" else tf.sqrt(measure)
        total = tf.where(divisor != 0.0, total / tf.where(divisor != 0.0, divisor, 1.0), 0.0)
    return total[:, None, :], present
