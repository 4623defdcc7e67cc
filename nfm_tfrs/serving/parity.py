"""Whether an export answers as the model does, signature by signature, on rows with all that is odd."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nfm_tfrs.features.bag import UINT64_MISSING, Bag, splits_of
from nfm_tfrs.features.frames import batch_columns, read_columns
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.models.ensemble import ensemble_of
from nfm_tfrs.serving.drawn import drawn_rows
from nfm_tfrs.serving.quantized import quantized_tables, tables_of
from nfm_tfrs.serving.rows import arrays_of
from nfm_tfrs.serving.runtime import Onnx, SavedModel, as_tensor, opened
from nfm_tfrs.serving.signature import Input, Signature

LARGEST = 1e-5  # float32 added up in another order
_MOVES = 3  # of the weights by their last bits
_BITS = 64  # such moves are as good as none: a sum in another order is off by many where a square cancels


@dataclass(frozen=True)
class Parity:
    """How far an export is from its model.

    Args:
        differences: By signature and rows, the largest difference of the first output, of max(1, |it|); where the last
            bits of the weights move the model's own by more than a 64th of 1e-5 of that, of 64e5 such moves.
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

    The rows are drawn from the features, with all that is odd, and those given beside. Meanwhile the model answers by
    other weights: no other thread should ask it.

    Args:
        model: The model that was exported.
        path: The export's folder.
        rows: More rows, of any library, with the model's columns.

    Returns:
        The differences. An export with a quantized table is held against the model with that table, one of a model in
        half precision against its float32 twin, which it is.

    Raises:
        ValueError: A difference is above 1e-5, or it is no export.
    """
    folder, features = Path(path), model.features
    signature = Signature.from_file(folder)
    tables = [drawn_rows(features)] + ([] if rows is None else [read_columns(rows, features.columns)])
    found: dict[str, float] = {}
    with stood_for(model, signature) as reference:
        runtime = opened(folder, signature)
        for table in tables:
            for name, difference in _differences(reference, runtime, signature, table):
                found[name] = float(np.max([difference, found.get(name, 0.0)]))
    parity = Parity(found)
    if not parity.largest <= LARGEST:
        raise ValueError(
            f"The export in {path} does not answer as the model: {parity}; at most {LARGEST:g} is right. Report it, "
            "with the features and the model's arguments."
        )
    return parity


@contextmanager
def stood_for(model: Any, signature: Signature) -> Iterator[Any]:
    """Gives the model that an export stands for: in float32, and with the table that it has."""
    model = float32_twin(model)
    if signature.table is None:
        yield model
        return
    variables = tables_of(model)
    own = [variable.numpy() for variable in variables]
    for variable, table in zip(variables, quantized_tables(model, signature.table), strict=True):
        variable.assign(table.dense())
    try:
        yield model
    finally:
        for variable, values in zip(variables, own, strict=True):
            variable.assign(values)


def float32_twin(model: Any) -> Any:
    """Returns the model itself where it computes in float32, or else one of the same weights that does."""
    if all(part.compute_dtype == "float32" for part in model.parts):
        return model
    if model.parts[0] is not model:
        return ensemble_of([float32_twin(part) for part in model.parts])
    twin = type(model).from_config({**model.get_config(), "dtype": "float32"})
    twin.set_weights(model.get_weights())
    return twin


def outputs_of(model: Any, rows: pa.Table) -> np.ndarray:
    """Returns a model's logits or predictions of rows, float64 `[rows]`."""
    columns = {name: _tensor(column) for name, column in batch_columns(rows, model.features).items()}
    return model(columns, training=False).numpy()[:, 0].astype(np.float64)


def examples_of(inputs: Sequence[Input], rows: pa.Table) -> np.ndarray:
    """Returns rows as serialized tf.train.Examples, `[rows]` of objects; a missing value is no feature.

    Args:
        inputs: The inputs of the export.
        rows: The rows, with the columns of all inputs.
    """
    arrays = arrays_of(inputs, rows)
    splits = {one.bag: splits_of(arrays[one.name]) for one in inputs if one.kind == "lengths"}
    found: np.ndarray = np.empty(rows.num_rows, object)
    for at in range(rows.num_rows):
        features = {}
        for one in inputs:
            bag = one.column if one.kind == "bag" else one.bag
            if one.kind == "value":
                values = arrays[one.name][at : at + 1]
                if _is_missing(values[0]):
                    continue
            elif one.kind == "lengths":
                continue
            else:
                values = arrays[one.name][at] if one.padded else arrays[one.name][splits[bag][at] : splits[bag][at + 1]]
            features[one.column] = _feature(values)
        found[at] = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    return found


def _differences(
    model: Any, runtime: SavedModel | Onnx, signature: Signature, table: pa.Table
) -> Iterator[tuple[str, float]]:
    user = [one for one in signature.inputs if one.feature in signature.user]
    candidate = [one for one in signature.inputs if one not in user]
    for rows in (table, table.slice(0, 1), table.slice(0, 0)):
        said = f"{rows.num_rows} row{'s' * (rows.num_rows != 1)}"
        arrays, wanted = arrays_of(signature.inputs, rows), _Wanted(model, signature, rows)
        yield f"serving_default of {said}", wanted.difference(runtime.run("serving_default", arrays))
        if "examples" in signature.names:
            examples = {"examples": examples_of(signature.inputs, rows)}
            yield f"examples of {said}", wanted.difference(runtime.run("examples", examples))
        for number in (0, 1) if "rank" in signature.names and table.num_rows > 1 else ():
            one = table.slice(number, 1)
            wanted = _Wanted(model, signature, _with_user(rows, one, user))
            arrays = arrays_of(user, one) | arrays_of(candidate, rows)
            yield f"rank of {said}, user {number}", wanted.difference(runtime.run("rank", arrays))


class _Wanted:
    """What an export is to answer of some rows.

    Args:
        model: The model that it stands for.
        signature: What it takes and gives.
        rows: The rows.
    """

    def __init__(self, model: Any, signature: Signature, rows: pa.Table) -> None:
        self._model, self._rows = model, rows
        self._adjusted = signature.adjustment.of_array if signature.binary else np.array
        self._first = signature.outputs[0]
        self._logits = outputs_of(model, rows)

    def difference(self, outputs: Mapping[str, np.ndarray]) -> float:
        """How far outputs are from it, the largest of all rows; a probability from its logit."""
        found, logits = outputs[self._first], self._logits
        if found.shape != logits.shape:
            raise ValueError(f"An export gave an output of shape {found.shape} for {len(logits)} rows. Report it.")
        probability = outputs.get("probability")
        unit = np.maximum(1.0, np.abs(logits))
        # What a huge number makes infinite, or NaN, may be either.
        finite = np.isfinite(logits)
        with np.errstate(invalid="ignore"):
            gaps = np.abs(found - self._adjusted(logits))
        gaps = np.where(finite, gaps, np.where(np.isfinite(found), np.inf, 0.0))
        distances = gaps / self._steepness(unit)
        if not (distances <= LARGEST).all():  # rarely: a row whose last bits decide is held against these
            again = outputs_of(self._model, self._rows)[finite]
            if not (np.abs(again - logits[finite]) <= LARGEST * unit[finite]).all():
                raise ValueError("The model answers the same rows differently each time. Export one that does not.")
            distances = gaps / self._steepness(np.maximum(unit, _BITS / LARGEST * self._moved()))
        if probability is not None:
            with np.errstate(over="ignore"):
                of_logits = 1 / (1 + np.exp(-found.astype(np.float64)))
            distances = np.maximum(distances, np.where(finite, np.abs(probability - of_logits), 0.0))
        return float(np.max(distances, initial=0.0))

    def _steepness(self, unit: np.ndarray) -> np.ndarray:
        """The unit behind the adjustment: a steep calibration makes more of 1e-5."""
        logits = np.where(np.isfinite(self._logits), self._logits, 0.0)
        unit = np.where(np.isfinite(unit), unit, 1.0)
        steps = [
            np.abs(self._adjusted(logits + step) - self._adjusted(logits)) for step in (LARGEST * unit, -LARGEST * unit)
        ]
        return np.maximum(np.maximum(unit, np.abs(self._adjusted(logits))), np.max(steps, axis=0) / LARGEST)

    def _moved(self) -> np.ndarray:
        """How far the last bits of all weights move the model's own logit, [rows].

        Each weight moves by one bit, up or down. In the interaction of a huge number that is all there is: its square
        cancels.
        """
        own = [(variable, variable.numpy()) for variable in self._model.weights if variable.dtype.is_floating]
        rng, moved = np.random.default_rng(0), []
        try:
            for _ in range(_MOVES):
                for variable, values in own:
                    bits = rng.integers(0, 2, values.shape, np.int8) * np.float32(2**-22) - np.float32(2**-23)
                    variable.assign(values * (1 + bits))
                moved.append(np.abs(outputs_of(self._model, self._rows) - self._logits))
        finally:
            for variable, values in own:
                variable.assign(values)
        return np.nan_to_num(np.max(moved, axis=0), posinf=0.0)


def _with_user(rows: pa.Table, one: pa.Table, user: list[Any]) -> pa.Table:
    """The rows, each with the user's columns of a single one."""
    repeated = one.take(pa.array(np.zeros(rows.num_rows, np.int64)))
    for column in dict.fromkeys(given.column for given in user):
        rows = rows.set_column(rows.schema.get_field_index(column), column, repeated.column(column))
    return rows


def _tensor(column: np.ndarray | Bag) -> Any:
    if isinstance(column, Bag):
        return tf.RaggedTensor.from_row_splits(_tensor(column.values), column.row_splits, validate=False)
    return as_tensor(column)


def _is_missing(value: Any) -> bool:
    if isinstance(value, np.integer):
        return bool(value < 0) or int(value) == UINT64_MISSING
    return bool(value != value) or value == ""


def _feature(values: np.ndarray) -> Any:
    """Values of one row as a feature of an example."""
    if values.dtype == object:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values.tolist()]))
    if values.dtype == np.float32:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values.view(np.int64).tolist()))  # of uint64 the bits
