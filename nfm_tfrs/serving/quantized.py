"""The embedding table in fewer bytes: int8 with a scale for each row, or float16."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from nfm_tfrs.keras_compat import tf

Quantization = Literal["int8", "float16"]
QUANTIZATIONS = get_args(Quantization)


class Table(NamedTuple):
    """A table as an export holds it: arrays, or the same as tensors or variables.

    Attributes:
        values: float32 or float16 `[rows, width]`; of int8 the embeddings alone, `[rows, dim]`.
        scale: Factors that the rows of int8 values are multiplied by, float32 `[rows]`; None beside floats.
        first_order: First-order weights beside int8 values, float16 `[rows]`; None where `values` hold them.
    """

    values: Any
    scale: Any = None
    first_order: Any = None

    def mapped(self, change: Callable[[Any], Any]) -> "Table":
        """Returns the table with each of its arrays changed."""
        return Table(*(None if part is None else change(part) for part in self))

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns rows of tensors, float32 `[..., width]`.

        Args:
            ids: Which rows, integers of any shape.
        """
        rows = tf.cast(tf.gather(self.values, ids), tf.float32)
        if self.scale is not None:
            rows *= tf.gather(self.scale, ids)[..., None]
        if self.first_order is not None:
            rows = tf.concat([rows, tf.cast(tf.gather(self.first_order, ids), tf.float32)[..., None]], axis=-1)
        return rows

    def dense(self) -> np.ndarray:
        """Returns the table that arrays stand for, float32 `[rows, width]`."""
        table: np.ndarray = self.values.astype(np.float32)
        if self.scale is not None:
            table *= self.scale[:, None]
        if self.first_order is not None:
            table = np.concatenate([table, self.first_order.astype(np.float32)[:, None]], axis=1)
        return table


def quantized(table: np.ndarray, how: str | None, *, embedding_dim: int) -> Table:
    """Returns a table as an export holds it.

        int8:  v ≈ scale q,  scale = max |v| / 127,  q = round(v / scale),  for the embedding v of each row

    Args:
        table: float32 `[rows, width]`.
        how: `"int8"`, `"float16"`, or None for float32.
        embedding_dim: Length of an embedding; what is behind it is the first-order weight, float16 beside int8.

    Raises:
        ValueError: A weight does not fit into float16, or there is no such quantization.
    """
    if how is None:
        return Table(table)
    if how not in QUANTIZATIONS:
        raise ValueError(f"A table is quantized to {' or '.join(QUANTIZATIONS)}; received {how!r}.")
    halved = table if how == "float16" else table[:, embedding_dim:]
    if np.abs(halved).max(initial=0) > np.finfo(np.float16).max:
        raise ValueError(
            f"float16 holds numbers up to 65504, and a weight of the table is {np.abs(halved).max():.4g}. Leave the "
            "quantization out."
        )
    if how == "float16":
        return Table(table.astype(np.float16))
    vectors = table[:, :embedding_dim]
    scale = np.abs(vectors).max(axis=1) / np.float32(127)
    steps = np.rint(vectors / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
    first_order: Any = table[:, embedding_dim].astype(np.float16) if table.shape[1] > embedding_dim else None
    return Table(steps, scale.astype(np.float32), first_order)


def quantized_tables(model: Any, how: str | None) -> list[Table]:
    """Returns the tables of a model as an export holds them, in the order of `tables_of`.

    Args:
        model: The model.
        how: As `quantized` takes it.

    Raises:
        ValueError: As `quantized` raises.
    """
    dims = [layout.dim for part in model.parts for layout in part.embedding.layouts]
    return [quantized(table.numpy(), how, embedding_dim=dim) for table, dim in zip(tables_of(model), dims, strict=True)]


def tables_of(model: Any) -> list[Any]:
    """Returns a model's tables, variables in the order of its embedding's `layouts`; of an ensemble those of each."""
    return [table for part in model.parts for table in part.embedding.tables]
