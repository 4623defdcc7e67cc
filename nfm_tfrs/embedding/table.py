"""One table for all features: ids to field embeddings and the first-order term, with one gather."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

from nfm_tfrs import arguments
from nfm_tfrs.embedding.attention import TargetAttention
from nfm_tfrs.embedding.frequency import row_counts
from nfm_tfrs.embedding.layout import Layout, layouts_of
from nfm_tfrs.embedding.numbers import NumberFields
from nfm_tfrs.embedding.pooling import Rows, pooled_rows
from nfm_tfrs.embedding.row_sums import row_sums
from nfm_tfrs.embedding.several_tables import SeveralTables
from nfm_tfrs.features.compression import QuotientRemainder
from nfm_tfrs.features.feature import Feature, MultiCategoricalFeature
from nfm_tfrs.features.keys import IDS, NUMBERS, bag_key, weights_key
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Statistics
from nfm_tfrs.keras_compat import in_xla, keras, tf
from nfm_tfrs.keras_compat.held import Held

PenaltyBy = Literal["batch", "frequency"]


class FieldEmbeddings(NamedTuple):
    """What `FusedEmbedding` returns.

    Attributes:
        embeddings: `[batch, fields, dim]` in the compute dtype; zero where the mask is False.
        mask: bool `[batch, fields]`, False for an empty bag or an unfilled position; None if every field is there.
        first_order: float32 `[batch, 1]`, the sum of the fields' first-order weights; None without them.
    """

    embeddings: tf.Tensor
    mask: tf.Tensor | None
    first_order: tf.Tensor | None

    def with_field(self, field: tf.Tensor) -> "FieldEmbeddings":
        """Returns these and, behind them, one more field, `[batch, dim]`."""
        embeddings = tf.concat([self.embeddings, tf.cast(field, self.embeddings.dtype)[:, None, :]], axis=1)
        # Not tf.pad: ONNX pads no booleans.
        mask = None if self.mask is None else tf.concat([self.mask, tf.ones_like(self.mask[:, :1])], axis=1)
        return FieldEmbeddings(embeddings, mask, self.first_order)

    def twice(self) -> "FieldEmbeddings":
        """Returns these of the batch, and the same behind them."""
        return FieldEmbeddings(*(None if part is None else tf.concat([part, part], axis=0) for part in self))

    def weighed(self, weights: tf.Tensor) -> "FieldEmbeddings":
        """Returns the embeddings times weights, float32 `[batch, fields]`; a field of weight 0 is not there."""
        there = weights > 0.0
        mask = there if self.mask is None else tf.logical_and(self.mask, there)
        weighed = self.embeddings * tf.cast(weights, self.embeddings.dtype)[:, :, None]
        # where: of an infinite embedding the product is NaN.
        embeddings = tf.where(there[:, :, None], weighed, tf.zeros([], weighed.dtype))
        return FieldEmbeddings(embeddings, mask, self.first_order)


class FieldSums(NamedTuple):
    """What `FusedEmbedding` returns for blocks that need the embeddings v of all fields by two sums only.

    Attributes:
        total: float32 `[batch, dim]`, Σ v.
        squares: float32 `[batch, dim]`, Σ v², element by element.
        first_order: float32 `[batch, 1]`, the sum of the fields' first-order weights; None without them.
    """

    total: tf.Tensor
    squares: tf.Tensor
    first_order: tf.Tensor | None

    def with_field(self, field: tf.Tensor) -> "FieldSums":
        """Returns these with one more field, `[batch, dim]`."""
        return FieldSums(self.total + field, self.squares + field * field, self.first_order)

    def twice(self) -> "FieldSums":
        """Returns these of the batch, and the same behind them."""
        return FieldSums(*(None if part is None else tf.concat([part, part], axis=0) for part in self))


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class FusedEmbedding(keras.layers.Layer):
    """Embeds an encoded batch. Each row of the table is an embedding and, behind it, a first-order weight.

    Fields come in this order: single-valued features, numbers, positions of bags that are not pooled, pooled bags;
    each group in the order of the spec. A number x is the field x·v, or what its encoder makes of it, the embedding of
    its second row being the bias; where it is missing, a vector of its own. A bag of attention has a `TargetAttention`
    of its own, which is part of the layer. Rows of unknown and missing values start at zero, and so do the first-order
    weights.

    Rows of another length, frozen rows and compressed tables lie in variables of their own. A learned matrix for each
    such table makes fields of its rows, but for compressed ones that have the fields' length already.

    Args:
        features: The `FeatureSpec`, or what its `to_dict` returned.
        embedding_dim: Length of an embedding.
        linear: Whether rows hold a first-order weight.
        numbers: Whether numbers are fields; each then has two rows, missing and present, behind the features'.
        stddev: Standard deviation of the normal initial embeddings. Far below 1e-2 the products of embeddings drown
            in the epsilon of a BatchNormalization behind the interaction.
        l2: Weight of (1/batch) Σ ‖v‖² over the distinct rows v of a batch, and over the vectors of encoders of its
            numbers, which is added to the layer's losses; each row as it lies in its table, frozen ones left out.
        l2_by: What the sum is divided by: `"batch"`, the rows of the batch, or `"frequency"`, each ‖v‖² by how often
            the training rows read v, at least once. `know_frequencies` says how often.

    Raises:
        ValueError: embedding_dim below 1, a negative l2 or stddev, or another l2_by.
    """

    def __init__(
        self,
        features: FeatureSpec | dict[str, Any],
        embedding_dim: int,
        *,
        linear: bool = True,
        numbers: bool = True,
        stddev: float = 0.01,
        l2: float = 0.0,
        l2_by: PenaltyBy = "batch",
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)  # the table, and the standardised numbers, stay float32
        if embedding_dim < 1 or not l2 >= 0 or not stddev >= 0:
            raise ValueError(
                "FusedEmbedding needs embedding_dim of 1 or more, l2 and stddev of 0 or more; "
                f"received {embedding_dim}, {l2}, {stddev}."
            )
        self.features = features if isinstance(features, FeatureSpec) else FeatureSpec.from_dict(features)
        self.embedding_dim = embedding_dim
        self.linear = linear
        self.numbers = numbers
        self.stddev = stddev
        self.l2 = l2
        self.l2_by = arguments.choice("l2_by", l2_by, get_args(PenaltyBy))
        attending = [bag for bag in self.features.bags if bag.attends]
        if attending:  # else the layer is what it was before there was attention
            self._attending = [bag.name for bag in attending]
            # Numbered: a column may be called as no layer may.
            self._attentions = [
                TargetAttention(
                    embedding_dim, bag.attention, bag.max_length, dtype=self.dtype_policy, name=f"attention_{number}"
                )
                for number, bag in enumerate(attending)
            ]
        self._encoders: NumberFields | None = None  # only where there are any: a model without has nothing of them
        if self.has_number_fields and any(number.encoding is not None for number in self.features.numbers):
            self._encoders = NumberFields(self.features.numbers, embedding_dim, linear=linear, stddev=stddev)

    def attention_of(self, bag: MultiCategoricalFeature) -> TargetAttention:
        """Returns what pools a bag of attention.

        Args:
            bag: The bag, one of the layer's features.
        """
        return self._attentions[self._attending.index(bag.name)]

    @property
    def num_fields(self) -> int | None:
        """Number of fields; None if it follows the longest bag of a batch."""
        lengths = [_num_fields(bag) for bag in self.features.bags]
        if None in lengths:
            return None
        numbers = len(self.features.numbers) if self.numbers else 0
        return len(self.features.single) + numbers + sum(length or 0 for length in lengths)

    @property
    def num_rows(self) -> int:
        """Rows of the table; where there are several, ids of an encoded batch and rows of numbers."""
        return self.features.num_rows + (2 * len(self.features.numbers) if self.numbers else 0)

    def build(self, input_shape: Any) -> None:
        # float32 whatever the policy: half precision would lose small updates.
        exact: Any = {"dtype": tf.float32, "experimental_autocast": False}
        self.table = self._add_table("table", self.layouts[0], exact)
        if not self.has_one_table:
            # Attributes that a layer with one table does not have: its files list none.
            self.other_tables = [
                self._add_table(f"table_{number}", layout, exact)
                for number, layout in enumerate(self.layouts[1:], start=1)
            ]
            self.projections = [
                self._add_matrix(f"projection_{number}", table, exact) for number, table in enumerate(self.projected)
            ]
        for bag in self.features.bags:
            if bag.attends:
                attention = self.attention_of(bag)
                with tf.name_scope(attention.name):
                    attention.build(tf.TensorShape([None, None, self.width]))
        if self._encoders is not None:
            self._encoders.build(self._add_float32)
        if self.divides_by_frequency:
            counts = [tf.Variable(tf.zeros([0 if one.frozen else one.num_rows]), False) for one in self.layouts]
            # Keras makes weights of variables that it holds itself; these are data, and a SavedModel needs them.
            self._held = Held(row_counts=counts)
        super().build(input_shape)

    @property
    def divides_by_frequency(self) -> bool:
        """Whether the layer's losses depend on how often the training rows read each row."""
        return bool(self.l2) and self.l2_by == "frequency"

    def know_frequencies(self, statistics: Statistics) -> None:
        """Takes in how often the training rows read each row, where the layer's losses depend on it.

        Args:
            statistics: What was counted of the training rows.
        """
        if self.divides_by_frequency:
            for layout, counts in zip(self.layouts, self._held.row_counts, strict=True):
                if not layout.frozen:
                    counts.assign(row_counts(layout, self.features, statistics))

    def _add_float32(self, name: str, shape: list[int], initializer: Any) -> Any:
        return self.add_weight(name, shape, tf.float32, initializer=initializer, experimental_autocast=False)

    def call(
        self, encoded: Mapping[str, Any], distinct: bool = False, sums: bool = False, training: bool | None = None
    ) -> Any:
        """Looks a batch up.

        Args:
            encoded: What `FeatureEncoder` returns.
            distinct: Whether to read each row once, however often the batch holds it: the table's gradient then has
                it once too. For training; not done under XLA, which would take other rows.
            sums: Whether to return `FieldSums` instead of `FieldEmbeddings`.
            training: Whether the batch is one of training, for attention's Dice.

        Returns:
            The one or the other.

        Raises:
            ValueError: XLA compiles the look-up, and l2 needs the distinct rows.
        """
        xla = in_xla()
        distinct = distinct and not xla
        if self.l2 and xla:
            raise ValueError(
                f"XLA cannot find the distinct rows of a batch; received l2={self.l2} in a function that it compiles. "
                "Leave l2 out, or give the model jit_compile=True, which compiles its dense part alone."
            )
        looked_up, number_rows = self._look_up(encoded, distinct)
        if self.l2:
            self.add_loss(self.l2 * self._squared_norm_read(encoded, looked_up if distinct else None))
        single, *bags = looked_up
        pooled, unpooled, masks = self._bag_fields(encoded, single, bags, training)
        if sums:
            return self._sums(encoded, single, number_rows, unpooled + [vector[:, None, :] for vector in pooled])
        batch = tf.shape(encoded[IDS])[0]
        fields = []
        if self.features.single:
            fields.append(tf.reshape(single.each(), [batch, len(self.features.single), self.width]))
        if self.has_number_fields:
            fields.append(self.number_fields(*number_scales(encoded), number_rows))
        fields += unpooled + [vector[:, None, :] for vector in pooled]
        together = tf.concat(fields, axis=1) if len(fields) > 1 else fields[0]
        mask = None
        if masks:
            there = tf.shape(together)[1] - sum(tf.shape(part)[1] for part in masks)
            mask = tf.concat([tf.ones([batch, there], tf.bool), *masks], axis=1)
            mask = tf.ensure_shape(mask, together.shape[:2])
        if not self.linear:
            return FieldEmbeddings(tf.cast(together, self.compute_dtype), mask, None)
        embeddings, weights = tf.split(together, [self.embedding_dim, 1], axis=2)
        first_order = tf.reduce_sum(weights, axis=1)  # [batch, 1]
        return FieldEmbeddings(tf.cast(embeddings, self.compute_dtype), mask, first_order)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "features": self.features.to_dict(),
            "embedding_dim": self.embedding_dim,
            "linear": self.linear,
            "numbers": self.numbers,
            "stddev": self.stddev,
            "l2": self.l2,
            "l2_by": self.l2_by,
        }

    # Not in `__init__`: Keras would list what is assigned there among what a file holds.
    @cached_property
    def layouts(self) -> tuple[Layout, ...]:
        """The variables that rows lie in; the first holds those of numbers."""
        return layouts_of(self.features, self.embedding_dim, numbers=self.numbers)

    @cached_property
    def projected(self) -> list[str]:
        """The tables that have a matrix, in the order of `projections`."""
        return [table for layout in self.layouts if layout.projected for table in layout.tables]

    @property
    def has_one_table(self) -> bool:
        """Whether all rows lie in one variable and are fields as they are."""
        return len(self.layouts) == 1 and self.layouts[0].is_plain

    @property
    def tables(self) -> list[Any]:
        """The variables that rows lie in, in the order of `layouts`."""
        return [self.table, *getattr(self, "other_tables", ())]

    @property
    def several(self) -> SeveralTables:
        """The tables, where they are not one."""
        return SeveralTables(self)

    def read(self, place: int, rows: tf.Tensor) -> tf.Tensor:
        """Returns rows of a variable as they lie in it, `[..., its width]`, by its number and theirs."""
        return tf.gather(self.tables[place], rows)

    def rows(
        self, ids: tf.Tensor, features: Sequence[Feature] | None = None, tables: Sequence[Any] | None = None
    ) -> tf.Tensor:
        """Returns rows as fields are, float32 `[..., width]`.

        Args:
            ids: Ids of an encoded batch, int64 `[..., features]` or, of one feature, of any shape; without features
                rows of numbers, as `Layout.number_rows` has them.
            features: The features that the ids are of, one a column.
            tables: What gives rows by `rows` instead of the variables, in the order of `layouts`.
        """
        read = self.read if tables is None else (lambda place, rows: tables[place].rows(rows))
        return read(0, ids) if self.has_one_table else self.several.rows(ids, features, read)

    def _add_table(self, name: str, layout: Layout, exact: Mapping[str, Any]) -> Any:
        def initial(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
            return self._initial_table(layout, dtype)

        shape = layout.shape(linear=self.linear)
        return self.add_weight(name, shape, initializer=initial, trainable=not layout.frozen, **exact)

    def _initial_table(self, layout: Layout, dtype: Any) -> tf.Tensor:
        if layout.frozen:
            return tf.zeros([layout.num_rows, layout.dim], dtype)
        first_rows = [[first] for first, _ in layout.tables.values()]
        first_rows += [[row] for row in layout.number_rows()[0]]
        rows, compression = layout.num_rows, layout.compression
        stddev = self.stddev
        if isinstance(compression, QuotientRemainder):
            rows = (compression.num_rows or 0) + 1
        elif compression is not None:
            stddev /= compression.num_hashes**0.5  # of the sum of the rows
        table = tf.random.normal([rows, layout.dim], stddev=stddev, dtype=dtype)
        if first_rows:
            table = tf.tensor_scatter_nd_update(table, first_rows, tf.zeros([len(first_rows), layout.dim]))
        if isinstance(compression, QuotientRemainder):  # the rows of quotients leave those of remainders as they are
            neutral = float(compression.operation == "product")
            table = tf.concat([table, tf.fill([layout.num_rows - rows, layout.dim], neutral)], axis=0)
        return tf.pad(table, [[0, 0], [0, int(self.linear)]])

    def _add_matrix(self, name: str, table: str, exact: Mapping[str, Any]) -> Any:
        layout = next(layout for layout in self.layouts if table in layout.tables)
        shape = layout.matrix_shape(self.embedding_dim, linear=self.linear)
        first_order = shape[1] - self.embedding_dim  # of frozen rows, which hold none, a column of the matrix is it

        def initial(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
            # Fields start as large as rows.
            matrix = tf.random.normal([layout.dim, self.embedding_dim], stddev=layout.dim**-0.5, dtype=dtype)
            return tf.pad(matrix, [[0, 0], [0, first_order]])

        return self.add_weight(name, shape, initializer=initial, **exact)

    @property
    def width(self) -> int:
        """Length of a row: the embedding and, behind it, the first-order weight."""
        return self.embedding_dim + self.linear

    @property
    def has_number_fields(self) -> bool:
        """Whether numbers are fields, with two rows each behind the features' rows."""
        return self.numbers and bool(self.features.numbers)

    def _look_up(self, encoded: Mapping[str, Any], distinct: bool) -> tuple[list[Rows], list[tf.Tensor]]:
        """Rows of the single-valued features, of each bag, and, [numbers, width], of missing and present numbers."""
        if not self.has_one_table:
            return self.several.look_up(encoded, distinct=distinct)
        flat, sizes = self._ids_read(encoded)
        if distinct:
            ids, positions = tf.unique(flat, tf.int64)  # int64: `pairs` would cast int32
            rows = tf.gather(self.table, ids)
            looked_up = [Rows(rows, part) for part in _sliced(positions, sizes)]
        else:
            looked_up = [Rows(rows, None) for rows in _split(tf.gather(self.table, flat), sizes)]
        if not self.has_number_fields:
            return looked_up, []
        count = len(self.features.numbers)
        return looked_up[:-2], [tf.reshape(rows.each(), [count, self.width]) for rows in looked_up[-2:]]

    def _ids_read(self, encoded: Mapping[str, Any]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """All ids that a batch reads of one table, [look-ups], and how many each part of it has; numbers' come last."""
        parts = [tf.reshape(encoded[IDS], [-1]), *(encoded[bag_key(bag.name)].values for bag in self.features.bags)]
        if self.has_number_fields:
            parts += [tf.constant(list(rows), tf.int64) for rows in self.layouts[0].number_rows()]
        sizes = [tf.size(part) for part in parts]
        return tf.concat(parts, axis=0) if len(parts) > 1 else parts[0], sizes

    def _bag_fields(
        self, encoded: Mapping[str, Any], single: Rows, looked_up: list[Rows], training: bool | None
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]:
        """Pooled bags, each [batch, width]; positions of the others, each [batch, positions, width]; masks of both."""
        pooled, unpooled, filled, present = [], [], [], []
        for feature, rows in zip(self.features.bags, looked_up, strict=True):
            bag = encoded[bag_key(feature.name)]
            weights = encoded[weights_key(feature.name)].values if feature.weights else None
            if feature.combiner is None:
                shape = [None, feature.max_length]
                filled.append(bag.with_values(tf.ones_like(bag.values, tf.bool)).to_tensor(False, shape=shape))
                vectors = rows.each() if weights is None else rows.each() * weights[:, None]
                unpooled.append(bag.with_values(vectors).to_tensor(0.0, shape=[*shape, self.width]))
                continue
            present.append((bag.row_lengths() > 0)[:, None])
            if feature.attends:
                attention, targets = self.attention_of(feature), self._targets(single, str(feature.target))
                pooled.append(attention(bag.with_values(rows.each()), targets, weights, training=training))
            else:
                pooled.append(pooled_rows(rows, bag, weights, str(feature.combiner)))
        return pooled, unpooled, filled + present

    def _targets(self, single: Rows, name: str) -> tf.Tensor:
        """The row of a single-valued feature in each example, [batch, width]."""
        names = [feature.name for feature in self.features.single]
        if single.positions is None:
            return tf.reshape(single.rows, [-1, len(names), self.width])[:, names.index(name)]
        return Rows(single.rows, tf.reshape(single.positions, [-1, len(names)])[:, names.index(name)]).each()

    def number_fields(
        self, missing: tf.Tensor, present: tf.Tensor, rows: Sequence[tf.Tensor], places: Sequence[int] | None = None
    ) -> tf.Tensor:
        """Returns the fields of numbers, float32 `[batch, numbers, width]`; see `NumberFields` for the arguments."""
        if self._encoders is not None:
            return tf.transpose(self._encoders(missing, present, rows, places), [1, 0, 2])
        return missing[:, :, None] * rows[0] + present[:, :, None] * rows[1]  # [batch, numbers, dim + linear]

    def _sums(
        self, encoded: Mapping[str, Any], single: Rows, number_rows: list[tf.Tensor], others: list[tf.Tensor]
    ) -> FieldSums:
        batch, count = tf.shape(encoded[IDS])[0], len(self.features.single)
        total, squares = tf.zeros([batch, self.width]), tf.zeros([batch, self.width])
        if count and single.positions is None:
            others = [tf.reshape(single.rows, [batch, count, self.width]), *others]
        elif count:  # the fields' vectors side by side are never made: a quarter off the step
            entries = single.entries(tf.repeat(tf.range(tf.cast(batch, tf.int64)), count))
            total = row_sums(single.rows, entries, batch)  # [batch, dim + linear]
            squares = row_sums(single.rows * single.rows, entries, batch)
        if self._encoders is not None:
            fields = self._encoders(*number_scales(encoded), number_rows)  # [numbers, batch, width]
            total += tf.reduce_sum(fields, axis=0)
            squares += tf.reduce_sum(fields * fields, axis=0)
        elif self.has_number_fields:
            for scale, rows in zip(number_scales(encoded), number_rows, strict=True):
                total += _weighed_sum(scale, rows)
                squares += _weighed_sum(scale * scale, rows * rows)
        for fields in others:
            total += tf.reduce_sum(fields, axis=1)
            squares += tf.reduce_sum(fields * fields, axis=1)
        if not self.linear:
            return FieldSums(total, squares, None)
        (total, first_order), (squares, _) = (
            tf.split(both, [self.embedding_dim, 1], axis=1) for both in (total, squares)
        )
        return FieldSums(total, squares, first_order)

    def _squared_norm_read(self, encoded: Mapping[str, Any], looked_up: list[Rows] | None) -> tf.Tensor:
        """Σ ‖v‖² / divisor over the distinct rows of a batch, which may have been looked up already."""
        if self.has_one_table:
            once = self._look_up(encoded, True)[0] if looked_up is None else looked_up
            ids = tf.unique(self._ids_read(encoded)[0], tf.int64).y if self.divides_by_frequency else None
            return self._squared_norm(encoded, once[0].rows, 0, ids)
        read = self.several.distinct_rows(encoded)
        norms = [self._squared_norm(encoded, rows, place, ids) for place, ids, rows in read]
        return tf.add_n(norms or [tf.constant(0.0)])

    def _squared_norm(
        self, encoded: Mapping[str, Any], rows: tf.Tensor, place: int, ids: tf.Tensor | None
    ) -> tf.Tensor:
        """Σ ‖v‖² / divisor over distinct rows of a batch, [distinct, width], of one variable, by their numbers in it.

        The divisor is the batch's rows or, of each row, how often the training rows read it.
        """
        layout = self.layouts[place]
        norms = tf.reduce_sum(tf.square(rows[:, : layout.dim]), axis=1)
        if layout.numbers:  # their rows come last, looked up whether the batch has such a value or not
            missing = tf.math.is_nan(encoded[NUMBERS])
            used = tf.concat([tf.reduce_any(missing, axis=0), tf.reduce_any(~missing, axis=0)], axis=0)
            others = tf.ones([tf.size(norms) - tf.size(used)])
            norms *= tf.concat([others, tf.cast(used, tf.float32)], axis=0)
            if self._encoders is not None:
                there = tf.cast(used[tf.size(used) // 2 :], tf.float32)
                norms = tf.concat([norms, there * self._encoders.squared_norms()], axis=0)
        if self.divides_by_frequency:
            counts = tf.gather(self._held.row_counts[place], ids)
            if layout.numbers and self._encoders is not None:  # whose vectors are read where a number is there
                counts = tf.concat([counts, counts[-(layout.numbers // 2) :]], axis=0)
            return tf.reduce_sum(norms / tf.maximum(counts, 1.0))  # what training has not seen counts as seen once
        batch = tf.cast(tf.maximum(tf.shape(encoded[IDS])[0], 1), tf.float32)
        return tf.reduce_sum(norms) / batch


def number_scales(encoded: Mapping[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what a number's two rows count, float32 `[batch, numbers]`: 1 and 0 where it is missing, else 0 and x.

    Args:
        encoded: What `FeatureEncoder` returns.
    """
    missing = tf.math.is_nan(encoded[NUMBERS])
    return tf.cast(missing, tf.float32), tf.where(missing, 0.0, encoded[NUMBERS])


def _num_fields(bag: MultiCategoricalFeature) -> int | None:
    return 1 if bag.combiner is not None else bag.max_length


def _split(rows: tf.Tensor, sizes: list[tf.Tensor]) -> list[tf.Tensor]:
    return tf.split(rows, tf.stack(sizes), num=len(sizes)) if len(sizes) > 1 else [rows]


def _sliced(positions: tf.Tensor, sizes: list[tf.Tensor]) -> list[tf.Tensor]:
    """`_split` of integers, which without a kernel of its own for GPUs would go through the host."""
    ends = itertools.accumulate(sizes)
    return [positions[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _weighed_sum(weights: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Σ_k weights[:, k] rows[k], [batch, width]"""
    if tf.config.get_visible_devices("GPU"):  # whose products round to TF32: Σ v² would not cancel in (Σ v)²
        return tf.reduce_sum(weights[:, :, None] * rows, axis=1)
    return tf.matmul(weights, rows)
