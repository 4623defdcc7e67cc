"""Raw columns to rows of the table, by the nodes that ONNX has: what `FeatureEncoder` does without bags of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nfm_tfrs.features.feature import (
    FLOAT32_MAX,
    LARGEST_UNBENT,
    CategoricalFeature,
    Feature,
    MultiCategoricalFeature,
    NumericFeature,
)
from nfm_tfrs.features.host import local_rows
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.serving.signature import Input

OPSET, ML_OPSET, IR_VERSION = 18, 4, 9
IDS, NUMBERS = "encoder/ids", "encoder/numbers"
_TYPES = {
    "string": TensorProto.STRING,
    "int64": TensorProto.INT64,
    "uint64": TensorProto.UINT64,
    "float32": TensorProto.FLOAT,
}


class Nodes:
    """Nodes of an ONNX graph, and constants, with names that no column has."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any) -> str:
        """Returns the name of a constant."""
        name = f"encoder/constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Returns the name of the output of a new node.

        Args:
            kind: The operator.
            *inputs: Names of its inputs.
            output: Name of the output, where it has one of its own.
            domain: The operator's domain.
            **attributes: The operator's.
        """
        name = output or f"encoder/{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, name=name, **attributes))
        return name

    def integer(self, value: int) -> str:
        """Returns the name of an int64 scalar."""
        return self.constant(value, np.int64)

    def axis(self, value: int) -> str:
        """Returns the name of an int64 `[1]`."""
        return self.constant([value], np.int64)


def bag_name(bag: MultiCategoricalFeature) -> str:
    """Returns the name of a bag's rows of the table, int64 `[rows, length]`, -1 where there is no value."""
    return f"encoder/bag/{bag.name}"


def weights_name(bag: MultiCategoricalFeature) -> str:
    """Returns the name of a bag's weights, float32 `[rows, length]`."""
    return f"encoder/weights/{bag.name}"


def encoder_model(features: FeatureSpec, inputs: Sequence[Input]) -> Any:
    """Returns the encoder as an ONNX model: from the inputs of an export to ids, numbers and padded bags.

    Args:
        features: The model's.
        inputs: What the export takes.
    """
    nodes = Nodes()
    given = {one.name: one for one in inputs}
    outputs: list[tuple[str, int]] = []
    if features.single:
        _single(nodes, features, given)
        outputs.append((IDS, TensorProto.INT64))
    if features.numbers:
        _numbers(nodes, features)
        outputs.append((NUMBERS, TensorProto.FLOAT))
    for bag in features.bags:
        ids = _rows(nodes, bag, given[bag.name], bag.name, features.offsets[bag.name], missing=-1)
        lengths = f"{bag.name}_lengths"
        padded = given[bag.name].padded
        missing = nodes.axis(-1)
        nodes.add("Identity", ids if padded else _padded(nodes, ids, lengths, missing), output=bag_name(bag))
        outputs.append((bag_name(bag), TensorProto.INT64))
        if bag.weights:
            nothing = nodes.constant([0], np.float32)
            weights = bag.weights if padded else _padded(nodes, bag.weights, lengths, nothing)
            nodes.add("Identity", weights, output=weights_name(bag))
            outputs.append((weights_name(bag), TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes.nodes,
        "encoder",
        [helper.make_tensor_value_info(one.name, _TYPES[one.dtype], _shape(one)) for one in inputs],
        [helper.make_tensor_value_info(name, kind, [None, None]) for name, kind in outputs],
        nodes.constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _shape(one: Input) -> list[Any]:
    names = {
        "rows": "rows",
        "length": f"length of {one.column}",
        "values of all rows": f"values of {one.feature}",
    }
    return [names[axis] for axis in one.shape]


def _side_by_side(nodes: Nodes, columns: Sequence[str]) -> str:
    """Columns [rows] as [rows, columns]: three nodes, however many there are."""
    flat = nodes.add("Concat", *columns, axis=0) if len(columns) > 1 else columns[0]
    # [columns, rows], also of no row
    shape = nodes.add("Concat", nodes.axis(len(columns)), nodes.add("Shape", columns[0]), axis=0)
    return nodes.add("Transpose", nodes.add("Reshape", flat, shape, allowzero=1), perm=[1, 0])


def _single(nodes: Nodes, features: FeatureSpec, given: dict[str, Input]) -> None:
    """Rows of the table of single-valued features, [rows, features]."""
    ids = [f for f in features.single if isinstance(f, CategoricalFeature) and _are_ids(f, given[f.name])]
    others = [feature for feature in features.single if feature.name not in [one.name for one in ids]]
    parts = []
    if ids:
        values = _side_by_side(nodes, [feature.name for feature in ids])
        offsets = nodes.constant([features.offsets[feature.name] for feature in ids], np.int64)
        parts.append(_rows_of_ids(nodes, values, [feature.num_ids for feature in ids], offsets, offsets))
    if others:
        rows = [
            _rows(nodes, f, given[f.name], f.name, features.offsets[f.name], missing=features.offsets[f.name])
            for f in others
        ]
        parts.append(_side_by_side(nodes, rows))
    together = nodes.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    names = [feature.name for feature in (*ids, *others)]
    order = [names.index(feature.name) for feature in features.single]
    if order == sorted(order):
        nodes.add("Identity", together, output=IDS)
    else:
        nodes.add("Gather", together, nodes.constant(order, np.int64), output=IDS, axis=1)


def _are_ids(feature: Feature, given: Input) -> bool:
    sized = getattr(feature, "vocabulary_size", None) is not None
    return sized or given.num_hash_buckets is not None


def _rows_of_ids(nodes: Nodes, ids: str, sizes: Any, offset: str, missing: str) -> str:
    """Rows of the table of ids from 0 on: the feature's first row of unknown ones, and `missing` of negative ones."""
    known = nodes.add("Less", ids, nodes.constant(sizes, np.int64))
    rows = nodes.add("Add", nodes.add("Add", ids, nodes.integer(1)), offset)
    there = nodes.add("Where", known, rows, offset)
    return nodes.add("Where", nodes.add("Less", ids, nodes.integer(0)), missing, there)


def _rows(nodes: Nodes, feature: Feature, given: Input, values: str, offset: int, *, missing: int) -> str:
    """Rows of the table, int64, shaped as the values: the feature's first row of unknown ones."""
    first, none = nodes.integer(offset), nodes.integer(missing)
    if isinstance(feature, NumericFeature):
        number = _marked(nodes, feature, values)
        limits = nodes.constant(feature.boundaries, np.float32)
        above = nodes.add("GreaterOrEqual", nodes.add("Unsqueeze", number, nodes.axis(-1)), limits)
        count = nodes.add("ReduceSum", nodes.add("Cast", above, to=TensorProto.INT64), nodes.axis(-1), keepdims=0)
        return nodes.add("Where", nodes.add("IsNaN", number), none, nodes.add("Add", count, nodes.integer(offset + 1)))
    if _are_ids(feature, given):
        return _rows_of_ids(nodes, values, feature.num_ids, first, none)
    vocabulary = list(feature.vocabulary or ())
    rows = (offset + local_rows(feature)).tolist()
    if feature.dtype == "string":  # "" as one more value: ONNX compares no strings
        return nodes.add(
            "LabelEncoder",
            values,
            domain="ai.onnx.ml",
            keys_strings=["", *map(str, vocabulary)],
            values_int64s=[missing, *rows],
            default_int64=offset,
        )
    if given.dtype == "uint64":  # by their bits: those from 2⁶³ on are the negative numbers
        signed = nodes.add("Cast", values, to=TensorProto.INT64)
        keys = np.array(vocabulary, np.uint64).view(np.int64).tolist()
        return nodes.add(
            "LabelEncoder",
            signed,
            domain="ai.onnx.ml",
            keys_int64s=[-1, *keys],
            values_int64s=[missing, *rows],
            default_int64=offset,
        )
    found = nodes.add(
        "LabelEncoder", values, domain="ai.onnx.ml", keys_int64s=vocabulary, values_int64s=rows, default_int64=offset
    )
    return nodes.add("Where", nodes.add("Less", values, nodes.integer(0)), none, found)


def _marked(nodes: Nodes, feature: NumericFeature, values: str) -> str:
    """The numbers, NaN for those that stand for a missing one."""
    for mark in feature.missing_values:
        if abs(mark) > FLOAT32_MAX:  # no float32 is one
            continue
        alike = nodes.add("Equal", values, nodes.constant(mark, np.float32))
        values = nodes.add("Where", alike, nodes.constant(np.nan, np.float32), values)
    return values


def _numbers(nodes: Nodes, features: FeatureSpec) -> None:
    """Numbers standardised in float64, float32 [rows, numbers]."""
    numbers = features.numbers
    columns = [_marked(nodes, number, number.name) for number in numbers]
    values = nodes.add("Cast", _side_by_side(nodes, columns), to=TensorProto.DOUBLE)
    one = nodes.constant(1.0, np.float64)
    logs = [number.log for number in numbers]
    if any(logs):
        size = nodes.add("Log", nodes.add("Add", nodes.add("Abs", values), one))
        logged = nodes.add("Mul", nodes.add("Sign", values), size)
        values = logged if all(logs) else nodes.add("Where", nodes.constant(logs, np.bool_), logged, values)
    means, deviations = ([getattr(n, name) for n in numbers] for name in ("mean", "std"))
    values = nodes.add("Sub", values, nodes.constant(means, np.float64))
    values = nodes.add("Div", values, nodes.constant(deviations, np.float64))
    largest = nodes.constant(LARGEST_UNBENT, np.float64)
    size = nodes.add("Abs", values)
    # 2 - L / |x|, of those beyond L
    bend = nodes.add("Sub", nodes.constant(2.0, np.float64), nodes.add("Div", largest, nodes.add("Max", size, largest)))
    beyond = nodes.add("Mul", nodes.add("Sign", values), nodes.add("Mul", largest, bend))
    is_bent = nodes.add("And", nodes.add("Greater", size, largest), nodes.add("Not", nodes.add("IsInf", values)))
    bent = nodes.add("Where", is_bent, beyond, values)
    nodes.add("Cast", bent, output=NUMBERS, to=TensorProto.FLOAT)


def _padded(nodes: Nodes, values: str, lengths: str, filler: str) -> str:
    """Values [total] and lengths [rows] as [rows, longest], one column at least."""
    # Refused where the lengths do not add up.
    values = nodes.add("Reshape", values, nodes.add("ReduceSum", lengths, keepdims=1), allowzero=1)
    total = nodes.add("Shape", values)
    filled = nodes.add("Concat", values, filler, axis=0)
    lengths_and_one = nodes.add("Concat", lengths, nodes.axis(1), axis=0)
    longest = nodes.add("ReduceMax", lengths_and_one, nodes.axis(0), keepdims=0)
    place = nodes.add("Range", nodes.integer(0), longest, nodes.integer(1))
    start = nodes.add("Unsqueeze", nodes.add("CumSum", lengths, nodes.integer(0), exclusive=1), nodes.axis(1))
    there = nodes.add("Less", place, nodes.add("Unsqueeze", lengths, nodes.axis(1)))
    return nodes.add("Gather", filled, nodes.add("Where", there, nodes.add("Add", start, place), total))
