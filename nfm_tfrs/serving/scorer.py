"""Scores rows by an export, from Python: a row in a fraction of a millisecond."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.serving.rows import NUMPY, Arrays, arrays_of, arrays_of_row, is_row, plain_value
from nfm_tfrs.serving.runtime import Onnx, SavedModel, as_tensor, opened
from nfm_tfrs.serving.signature import Input, Signature
from nfm_tfrs.written import first_line

Outputs = Mapping[str, np.ndarray]


def load(path: str | Path) -> "Scorer":
    """Opens an export to score rows with.

    Args:
        path: The folder that `export` wrote. A SavedModel is run by TensorFlow, an ONNX file by onnxruntime, which
            needs no TensorFlow. Opening a SavedModel runs what it holds: only open your own.

    Raises:
        ModuleNotFoundError: What runs it is not installed.
        ValueError: It is no export, or damaged.
    """
    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"There is no export at {folder}. Check the path.")
    signature = Signature.from_file(folder)
    runtime = opened(folder, signature)
    try:
        return Scorer(signature, runtime)
    except Exception as error:  # of a signature that is not the model's TensorFlow raises anything
        raise ValueError(f"{folder} is not opened: {first_line(error)}. Export the model anew.") from error


class Scorer:
    """An export, ready to score rows; it may be called from several threads.

    Args:
        signature: What it takes and gives.
        runtime: What runs it.
    """

    def __init__(self, signature: Signature, runtime: SavedModel | Onnx) -> None:
        self.signature = signature
        self._runtime = runtime
        self._packed = _Packed(signature.inputs)
        self._function = None if isinstance(runtime, Onnx) else _flat_function(runtime, signature, self._packed)

    def predict_proba(self, rows: Any) -> np.ndarray:
        """Returns the probability that the label is 1, float32 `[rows]`.

        Args:
            rows: A dict of values, one row; a list of dicts; a dict of columns; a DataFrame (pandas, or with Arrow's C
                stream as polars has); an Arrow table. Columns that the model does not read are ignored, and optional
                ones may be left out.

        Raises:
            ValueError: The model predicts numbers, or a column is missing or does not fit.
        """
        if not self.signature.binary:
            raise ValueError("A probability is of a binary model; this one predicts numbers. Call predict.")
        return self._run(rows)["probability"]

    def predict(self, rows: Any) -> np.ndarray:
        """Returns the logit of a binary model, or else the prediction, float32 `[rows]`.

        Args:
            rows: As in `predict_proba`.

        Raises:
            ValueError: A column is missing or does not fit.
        """
        return self._run(rows)[self.signature.outputs[0]]

    def rank(self, user: Any, candidates: Any) -> np.ndarray:
        """Returns the probability, or the prediction, of each candidate, float32 `[candidates]`.

        Args:
            user: A dict with the values of the columns that the export takes once.
            candidates: Rows with the other columns.

        Raises:
            ValueError: The export has no signature `rank`, or a column is missing or does not fit.
        """
        if "rank" not in self.signature.names:
            raise ValueError("This export has no signature rank. Export the model with user= (--user COLUMN,…).")
        once = [one for one in self.signature.inputs if one.feature in self.signature.user]
        each = [one for one in self.signature.inputs if one not in once]
        if not isinstance(user, Mapping):
            raise ValueError(f"The user is one row, a dict of values; received {type(user).__name__}. Give a dict.")
        found = self._runtime.run("rank", arrays_of_row(once, user) | arrays_of(each, candidates))
        return found[self.signature.outputs[-1]]

    def _run(self, rows: Any) -> Outputs:
        if self._function is None:
            return self._runtime.run("serving_default", arrays_of(self.signature.inputs, rows))
        if isinstance(rows, Mapping) and is_row(self.signature.inputs, rows):
            return self._function(self._packed.of_row(rows))
        return self._function(self._packed.of_arrays(arrays_of(self.signature.inputs, rows)))


class _Packed:
    """Columns of one type side by side: a tensor a column would take longer to make than a row to score.

    Args:
        inputs: What an export takes.
    """

    def __init__(self, inputs: Sequence[Input]) -> None:
        self.groups: dict[str, list[Input]] = {}
        for one in inputs:
            if one.kind == "value" and not one.optional:
                self.groups.setdefault(one.dtype, []).append(one)
        packed = {one.name for group in self.groups.values() for one in group}
        self.others = [one for one in inputs if one.name not in packed]
        self._inputs = list(inputs)

    def of_row(self, row: Mapping[str, Any]) -> list[np.ndarray]:
        """Returns the tensors of one row: `[columns, 1]` of each type, then the others."""
        found: list[np.ndarray] = []
        for dtype, group in self.groups.items():
            values = [plain_value(one, row.get(one.column)) for one in group]
            if None in values or any(one.column not in row for one in group):
                return self.of_arrays(arrays_of_row(self._inputs, row))
            found.append(np.array(values, NUMPY[dtype])[:, None])
        others = arrays_of_row(self.others, row)
        return found + [others[one.name] for one in self.others]

    def of_arrays(self, arrays: Arrays) -> list[np.ndarray]:
        """Returns the tensors of many rows, `[columns, rows]` of each type, then the others."""
        groups = [np.stack([arrays[one.name] for one in group]) for group in self.groups.values()]
        return groups + [arrays[one.name] for one in self.others]


def _flat_function(runtime: SavedModel, signature: Signature, packed: _Packed) -> Callable[[list[np.ndarray]], Outputs]:
    """The signature as a function of few tensors in order, without what TensorFlow does with names in each call."""
    from nfm_tfrs.keras_compat import tf

    serve = runtime.function("serving_default")

    def compute(*tensors: Any) -> list[Any]:
        given = iter(tensors)
        named: dict[str, Any] = {}
        for group in packed.groups.values():
            named |= dict(zip([one.name for one in group], tf.unstack(next(given), num=len(group)), strict=True))
        named |= {one.name: next(given) for one in packed.others}
        found = serve(**named)
        return [found[name] for name in signature.outputs]

    specs = [tf.TensorSpec([len(group), None], tf.as_dtype(dtype)) for dtype, group in packed.groups.items()]
    specs += [tf.TensorSpec([None, None] if one.padded else [None], tf.as_dtype(one.dtype)) for one in packed.others]
    concrete = tf.function(compute, autograph=False).get_concrete_function(*specs)

    def run(arrays: list[np.ndarray]) -> Outputs:
        found = concrete(*map(as_tensor, arrays))
        return {name: value.numpy() for name, value in zip(signature.outputs, found, strict=True)}

    return run
