"""A model as an export computes it: from plain tensors by column names to the outputs, without the label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nfm_tfrs.embedding.inference import across, added, embedded, looked_up, side_by_side
from nfm_tfrs.features.bag import INT_MISSING
from nfm_tfrs.features.feature import Feature
from nfm_tfrs.features.keys import NUMBERS
from nfm_tfrs.features.lengths import rows_of
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.serving.adjustment import Adjustment
from nfm_tfrs.serving.quantized import Table
from nfm_tfrs.serving.signature import Input

Tensors = Mapping[str, tf.Tensor]
_EXAMPLES = {tf.string: "", tf.int64: INT_MISSING, tf.float32: float("nan")}


@dataclass(frozen=True)
class Served:
    """What the signatures of an export compute.

    Args:
        model: A model with features.
        inputs: What the export takes.
        adjustment: What is done to the model's logit.
        tables: What the rows lie in, tensors or variables, where these are not the model's own; in the order of its
            embedding's `layouts`, of an ensemble one model's behind the other's.
        user: Columns that `rank` takes once.
    """

    model: Any
    inputs: Sequence[Input]
    adjustment: Adjustment = field(default_factory=Adjustment)
    tables: Sequence[Table] | None = None
    user: Sequence[str] = ()

    def default(self, given: Tensors) -> dict[str, tf.Tensor]:
        """Returns the outputs of rows, by the names of inputs."""
        return self.outputs(self._logits(columns_of(self.inputs, given)))

    def of_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs of serialized tf.train.Examples, `[rows]`; a feature that is not there is missing."""
        wanted: dict[str, Any] = {}
        for one in self.inputs:
            dtype = tf.int64 if one.dtype == "uint64" else tf.as_dtype(one.dtype)
            if one.kind == "value":
                wanted[one.column] = tf.io.FixedLenFeature([], dtype, _EXAMPLES[dtype])
            elif one.kind in ("bag", "weights"):
                wanted[one.column] = tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
        columns = tf.io.parse_example(examples, wanted)
        for one in self.inputs:
            if one.kind == "weights":
                columns[one.column] = _weighing(one, columns[one.column], columns[str(one.bag)])
            if one.dtype == "uint64":  # which examples hold by their bits
                values = columns[one.column]
                ragged = isinstance(values, tf.RaggedTensor)
                bits = tf.bitcast(values.values if ragged else values, tf.uint64)
                columns[one.column] = values.with_values(bits) if ragged else bits
        return self.outputs(self._logits(columns))

    def ranked(self, given: Tensors) -> dict[str, tf.Tensor]:
        """Returns the outputs of candidates, `[candidates]`: the user's columns come once, `[1]`."""
        once = [one for one in self.inputs if one.feature in self.user]
        each = [one for one in self.inputs if one not in once]
        user, candidates = columns_of(once, given), columns_of(each, given)
        if not self.computes_fields:
            rows = tf.zeros([_num_rows(each, given)], tf.int64)
            return self.outputs(self._logits({**candidates, **{name: tf.gather(c, rows) for name, c in user.items()}}))
        return self.outputs(self._ranked_logits(user, candidates))

    @property
    def computes_fields(self) -> bool:
        """Whether inference is this package's own, and can be put together from its parts."""
        return bool(getattr(self.model, "calls_directly", False))

    def look(self, ids: tf.Tensor, features: Sequence[Feature] | None = None) -> tf.Tensor:
        """Returns rows, float32 `[..., width]`, of ids; see `FusedEmbedding.rows`."""
        rows: tf.Tensor = self.model.embedding.rows(ids, features, self.tables)
        return rows

    def _mean(self, logits_of: Callable[["Served"], tf.Tensor]) -> tf.Tensor:
        """The mean of the logits, `[rows]`, of each model that there is, with its own share of the tables."""
        parts, found, held = self.model.parts, [], self.tables
        for part in parts:
            tables, held = (None, None) if held is None else _divided(held, len(part.embedding.layouts))
            found.append(logits_of(replace(self, model=part, tables=tables)))
        return found[0] if len(parts) == 1 else tf.add_n(found) / len(parts)

    def scored(self, encoded: Mapping[str, Any]) -> tf.Tensor:
        """Returns the outputs' logit, `[rows]`, of an encoded batch, whose bags may be padded."""
        return self._mean(lambda served: served.scored_alone(encoded))

    def scored_alone(self, encoded: Mapping[str, Any]) -> tf.Tensor:
        """Returns what `scored` returns, of a model that is no ensemble."""
        embedding = self.model.embedding
        fields = looked_up(embedding, encoded, self.model.features, self.look)
        together = embedded(embedding, fields, sums=self.model.takes_sums)
        return tf.reshape(self.model.score(together, encoded[NUMBERS]), [-1])

    def _logits(self, columns: Mapping[str, Any]) -> tf.Tensor:
        if self.tables is None or not self.computes_fields:
            return tf.reshape(self.model.call(columns, training=False), [-1])
        return self.scored(self.model.encoder.encode(columns, self.model.features))

    def _ranked_logits(self, user: Mapping[str, Any], candidates: Mapping[str, Any]) -> tf.Tensor:
        model, features = self.model, self.model.features
        specs = self._sides(features)
        encoded = [model.encoder.encode(part, spec) for part, spec in zip((user, candidates), specs, strict=True)]
        return self._mean(lambda served: served.ranked_alone(encoded))

    def _sides(self, features: FeatureSpec) -> list[FeatureSpec]:
        """The features of the user, and those of a candidate."""
        return [features.part([n for n in features.names if (n in self.user) is once]) for once in (True, False)]

    def ranked_alone(self, encoded: Sequence[Mapping[str, Any]]) -> tf.Tensor:
        """Returns the logits, `[candidates]`, of the user and the candidates, of a model that is no ensemble."""
        model, features = self.model, self.model.features
        specs = self._sides(features)
        found = [looked_up(model.embedding, part, spec, self.look) for part, spec in zip(encoded, specs, strict=True)]
        rows = tf.shape(encoded[1][NUMBERS])[0]
        found = list(across(model.embedding, (specs[0], found[0]), (specs[1], found[1]), rows))
        if model.takes_sums:
            sums: list[Any] = [embedded(model.embedding, fields, sums=True) for fields in found if fields.any]
            together: Any = sums[0] if len(sums) == 1 else added(*sums)
            if not found[1].any:  # of the user's fields alone
                together = type(together)(*(None if part is None else tf.repeat(part, rows, 0) for part in together))
        else:
            sides = list(zip(specs, (found[0].repeated(rows), found[1]), strict=True))
            together = embedded(model.embedding, side_by_side(sides, features), sums=False)
        numbers = tf.concat([tf.repeat(encoded[0][NUMBERS], rows, axis=0), encoded[1][NUMBERS]], axis=1)
        names = [number.name for spec in specs for number in spec.numbers]
        order = [names.index(number.name) for number in features.numbers]
        numbers = numbers if order == sorted(order) else tf.gather(numbers, order, axis=1)
        return tf.reshape(model.score(together, numbers), [-1])

    def outputs(self, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs by their names, each `[rows]`, of the model's logits or predictions."""
        if not self.model.is_binary:
            return {"prediction": logits}
        logits = self.adjustment.of_tensor(logits)
        return {"logit": logits, "probability": tf.sigmoid(logits)}


def _divided(tables: Sequence[Table], count: int) -> tuple[Sequence[Table], Sequence[Table]]:
    return tables[:count], tables[count:]


def columns_of(inputs: Sequence[Input], given: Tensors) -> dict[str, Any]:
    """Returns columns as a model reads them, of the tensors of an export.

    Args:
        inputs: Inputs, of some or all columns.
        given: The tensors, by the names of the inputs.
    """
    rows = _num_rows(inputs, given)
    lengths = {one.bag: given[one.name] for one in inputs if one.kind == "lengths"}
    values = {one.column: given[one.name] for one in inputs if one.kind == "bag"}
    columns: dict[str, Any] = {}
    compared: set[str] = set()
    for one in inputs:
        if one.kind == "lengths":
            continue
        column = given[one.name]
        bag = one.column if one.kind == "bag" else one.bag
        if bag is not None and not one.padded:
            column = _ragged(bag, column, values[bag], lengths[bag])
        elif one.kind == "weights":
            column = _weighing(one, column, values[str(bag)])
        if one.optional:  # what came once counts for each row
            many = rows_of(column)
            column = _checked(
                tf.reduce_any(many == [1, rows]), f"{one.name} has neither one row nor as many as others.", column
            )
            column = tf.gather(column, tf.where(many == 1, tf.zeros([rows], tf.int64), tf.range(rows)))
        elif one.kind == "bag" or one.dtype not in compared:  # values of one type are put side by side, which compares
            compared.add(one.dtype)
            column = _checked(rows_of(column) == rows, f"{one.name} has not as many rows as the others.", column)
        columns[one.column] = column
    return columns


def _checked(holds: tf.Tensor, message: str, column: Any) -> Any:
    """A column that is there once something holds."""
    with tf.control_dependencies([tf.debugging.Assert(holds, [message])]):
        return tf.nest.map_structure(tf.identity, column, expand_composites=True)


def _weighing(one: Input, weights: Any, bag: Any) -> Any:
    """The weights of a bag, ragged or padded, once they are shaped as it."""
    ragged = isinstance(bag, tf.RaggedTensor)
    shapes = [part.row_splits if ragged else tf.shape(part) for part in (weights, bag)]
    # Not tf.equal, which fails where the numbers of rows differ.
    alike = tf.reduce_all(tf.raw_ops.Equal(x=shapes[0], y=shapes[1], incompatible_shape_error=False))
    return _checked(alike, f"{one.name} has not one weight for each value of {one.bag}.", weights)


def _num_rows(inputs: Sequence[Input], given: Tensors) -> tf.Tensor:
    counted = [one for one in inputs if one.shape[0] == "rows"]
    required = [one for one in counted if not one.optional]
    return tf.shape(given[(required or counted)[0].name], tf.int64)[0]


def _ragged(bag: str, column: tf.Tensor, values: tf.Tensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    message = f"{bag}_lengths do not add up to the number of values of {bag}, or of its weights."
    sizes = [tf.size(part, tf.int64) for part in ([column] if column is values else [column, values])]
    adds_up = tf.logical_and(tf.reduce_all(tf.stack(sizes) == tf.reduce_sum(lengths)), tf.reduce_all(lengths >= 0))
    return tf.RaggedTensor.from_row_lengths(_checked(adds_up, message, column), lengths, validate=False)
