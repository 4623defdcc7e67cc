"""Whether an export answers as the model does, signature by signature, on rows with all that is odd."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nfm_tfrs.features.bag import Bag
from nfm_tfrs.features.feature import MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.frames import batch_columns, read_columns
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.serving.drawn import drawn_rows
from nfm_tfrs.serving.quantized import quantized
from nfm_tfrs.serving.rows import arrays_of
from nfm_tfrs.serving.runtime import opened
from nfm_tfrs.serving.signature import Signature

LARGEST = 1e-5  # float32 added up in another order
_MOVES = 3  # of the weights by their last bits
_BITS = 8  # such moves are as good as none: a sum in another order is off by several


@dataclass(frozen=True)
class Parity:
    """How far an export is from its model.

    Args:
        differences: By signature and rows, the largest difference of the first output, of max(1, |it|); where the last
            bits of the weights move the model's own by more than an eighth of 1e-5 of that, of 8e5 such moves.
    """

    differences: Mapping[str, float]

    @property
    def largest(self) -> float:
        """The largest of them; NaN where one is."""
        return float(np.max(list(self.differences.values())))

    def __str__(self) -> str:
        worst = max(self.differences, key=lambda name: np.nan_to_num(self.differences[name], nan=np.inf))
        return f"largest difference {self.largest:.1e}, in {worst}"


def check_parity(model: Any, path: str | Path, rows: Any = None) -> Parity:
    """Holds an export against its model: each signature, on all rows, on one, and on none.

    Args:
        model: The model that was exported.
        path: The export's folder.
        rows: Rows of any library with the model's columns; drawn from the features if not given.

    Returns:
        The differences. An export with a quantized table is held against the model with that table, one in ONNX of a
        model in half precision against its float32 twin.

    Raises:
        ValueError: A difference is above 1e-5, or it is no export.
    """
    signature = Signature.from_file(Path(path))
    table = drawn_rows(model.features) if rows is None else read_columns(rows, model.features.columns)
    with stood_for(model, signature) as reference:
        found = dict(_differences(reference, Path(path), signature, table))
    parity = Parity(found)
    if not parity.largest <= LARGEST:
        raise ValueError(
            f"The export in {path} does not answer as the model: {parity}; at most {LARGEST:g} is right. Report it, "
            "with the features and the model's arguments."
        )
    return parity


@contextmanager
def stood_for(model: Any, signature: Signature) -> Iterator[Any]:
    """Gives the model that an export stands for: in float32 where it is ONNX, and with the table that it has."""
    model = float32_twin(model) if signature.form == "onnx" else model
    if signature.table is None:
        yield model
        return
    variable = model.embedding.table
    own = variable.numpy()
    variable.assign(quantized(own, signature.table, embedding_dim=model.embedding_dim).dense())
    try:
        yield model
    finally:
        variable.assign(own)


def float32_twin(model: Any) -> Any:
    """Returns the model itself where it computes in float32, or else one of the same weights that does."""
    if model.compute_dtype == "float32":
        return model
    twin = type(model).from_config({**model.get_config(), "dtype": "float32"})
    twin.set_weights(model.get_weights())
    return twin


def outputs_of(model: Any, rows: pa.Table) -> np.ndarray:
    """Returns a model's logits or predictions of rows, float64 `[rows]`."""
    columns = {name: _tensor(column) for name, column in batch_columns(rows, model.features).items()}
    return model(columns, training=False).numpy()[:, 0].astype(np.float64)


def examples_of(features: FeatureSpec, rows: pa.Table) -> np.ndarray:
    """Returns rows as serialized tf.train.Examples, `[rows]` of objects; a missing value is no feature."""
    found: np.ndarray = np.empty(rows.num_rows, object)
    for at, row in enumerate(rows.select(features.columns).to_pylist()):
        found[at] = tf.train.Example(
            features=tf.train.Features(
                feature={name: _feature(features, name, value) for name, value in row.items() if value is not None}
            )
        ).SerializeToString()
    return found


def _differences(model: Any, path: Path, signature: Signature, table: pa.Table) -> Iterator[tuple[str, float]]:
    runtime, first = opened(path, signature), signature.outputs[0]
    user = [one for one in signature.inputs if (one.bag or one.column) in signature.user]
    candidate = [one for one in signature.inputs if one not in user]
    one = table.slice(min(1, table.num_rows - 1), 1)
    for rows in (table, table.slice(0, 1), table.slice(0, 0)):
        said = f"{rows.num_rows} row{'s' * (rows.num_rows != 1)}"
        for name in signature.names:
            meant = rows
            if name == "rank":
                arrays = arrays_of(user, one) | arrays_of(candidate, rows)
                meant = _with_user(rows, one, user)
            elif name == "examples":
                arrays = {"examples": examples_of(model.features, rows)}
            else:
                arrays = arrays_of(signature.inputs, rows)
            found, logits = runtime.run(name, arrays)[first], outputs_of(model, meant)
            yield f"{name} of {said}", _difference(found, logits, _units(model, meant, logits), signature)


def _with_user(rows: pa.Table, one: pa.Table, user: list[Any]) -> pa.Table:
    """The rows, each with the user's columns of a single one."""
    repeated = one.take(pa.array(np.zeros(rows.num_rows, np.int64)))
    for column in dict.fromkeys(given.column for given in user):
        rows = rows.set_column(rows.schema.get_field_index(column), column, repeated.column(column))
    return rows


def _units(model: Any, rows: pa.Table, logits: np.ndarray) -> np.ndarray:
    """What a difference is held against, [rows]: 1, the logit, or how far float32's last bits move it themselves.

    Each weight moves by one bit, up or down. In the interaction of a huge number that is all there is: its square
    cancels.
    """
    own = [(variable, variable.numpy()) for variable in model.weights if variable.dtype.is_floating]
    rng, moved = np.random.default_rng(0), []
    try:
        for _ in range(_MOVES):
            for variable, values in own:
                bits = rng.integers(0, 2, values.shape, np.int8) * np.float32(2**-22) - np.float32(2**-23)
                variable.assign(values * (1 + bits))
            moved.append(np.abs(outputs_of(model, rows) - logits))
    finally:
        for variable, values in own:
            variable.assign(values)
    return np.maximum(np.maximum(1.0, np.abs(logits)), _BITS / LARGEST * np.max(moved, axis=0))


def _difference(found: np.ndarray, logits: np.ndarray, unit: np.ndarray, signature: Signature) -> float:
    """How far an export's first output is from what the adjustment makes of the model's logits."""
    if found.shape != logits.shape:
        raise ValueError(f"An export gave an output of shape {found.shape} for {len(logits)} rows. Report it.")
    adjusted = signature.adjustment.of_array if signature.binary else np.array
    distances = np.abs(found - adjusted(logits))
    # A calibration may be steep: what it makes of 1e-5 is as good as that.
    steps = [np.abs(adjusted(logits + step) - adjusted(logits)) for step in (LARGEST * unit, -LARGEST * unit)]
    unit = np.maximum(unit, np.max(steps, axis=0) / LARGEST)
    both = np.isnan(found) & np.isnan(logits)
    return float(np.max(np.where(both, 0.0, distances / unit), initial=0.0))


def _tensor(column: np.ndarray | Bag) -> Any:
    if isinstance(column, Bag):
        return tf.RaggedTensor.from_row_splits(_tensor(column.values), column.row_splits, validate=False)
    return tf.constant(column, tf.string) if column.dtype == object else tf.constant(column)


def _feature(features: FeatureSpec, name: str, value: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    feature = features[name] if name in features else None  # noqa: SIM401 (a spec has no get)
    if feature is None or isinstance(feature, NumericFeature):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if isinstance(feature, MultiCategoricalFeature):
        values = ["" if one is None and feature.dtype != "int64" else -1 if one is None else one for one in values]
    if feature.dtype == "int64":
        signed = [one - 2**64 if one >= 2**63 else one for one in values]
        return tf.train.Feature(int64_list=tf.train.Int64List(value=signed))
    texts = [one if isinstance(one, bytes) else str(one).encode() for one in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
