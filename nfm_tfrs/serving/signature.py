"""What an export takes and gives, name by name: what `signature.json` holds."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.features.bag import UINT64_MISSING
from nfm_tfrs.features.feature import Categories, Feature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.serving.adjustment import Adjustment
from nfm_tfrs.written import FORMAT, check_format, read, read_choice, read_file, read_texts, reason

SIGNATURE = "signature.json"

Form = Literal["savedmodel", "onnx"]
Kind = Literal["value", "bag", "weights", "lengths"]
DType = Literal["string", "int64", "uint64", "float32"]
Values = Literal["string", "int64", "uint64", "float32", "either"]

_SMALLEST = -(2**63)
MISSING: Mapping[str, Any] = {
    "string": "",
    "either": "",
    "int64": _SMALLEST,
    "uint64": UINT64_MISSING,
    "float32": float("nan"),
}


@dataclass(frozen=True)
class Input:
    """One input of an export.

    Args:
        name: Name of the tensor.
        column: The column that it is of.
        kind: `"value"`, one a row; `"bag"`, the values of bags; `"weights"`, those of bags; `"lengths"`, of bags.
        dtype: Type of the tensor.
        bag: The column of the bag that weights or lengths are of.
        padded: Whether bags, and their weights, are `[rows, length]`, filled up with missing values.
        optional: Whether one value, or one bag, may stand for all rows.
        num_hash_buckets: Number of buckets, where the export takes the number of the bucket, from 0 on.
        values: Type of the column's own values: `dtype`, or what is hashed; `"either"` for strings and integers alike,
            whose decimal form is hashed.
        marks: Numbers that stand for a missing one.
    """

    name: str
    _: KW_ONLY
    column: str
    kind: Kind
    dtype: DType
    bag: str | None = None
    padded: bool = False
    optional: bool = False
    num_hash_buckets: int | None = None
    values: Values = "string"
    marks: tuple[float, ...] = ()

    @property
    def feature(self) -> str:
        """Name of the feature that it is a part of: the bag's, of its lengths and weights."""
        return self.bag or self.column

    @property
    def missing(self) -> Any:
        """The value that means missing."""
        return MISSING[self.dtype]

    @property
    def shape(self) -> list[str]:
        """What each axis is, in words."""
        if self.kind in ("value", "lengths"):
            return ["rows"]
        return ["rows", "length"] if self.padded else ["values of all rows"]

    def to_json(self) -> dict[str, Any]:
        """Returns the input as plain JSON types, with its shape and what means missing in words."""
        missing = {"string": '""', "float32": "NaN"}.get(self.dtype, str(self.missing))
        if self.kind in ("weights", "lengths"):
            missing = "length 0" if self.kind == "lengths" else "none: missing values count nothing"
        return {**asdict(self), "shape": self.shape, "missing": missing}

    @classmethod
    def from_json(cls, written: Any) -> "Input":
        """Returns what `to_json` wrote.

        Raises:
            KeyError: Something is missing.
            TypeError: A value is not of its type.
        """
        return cls(
            read(written, "name", str),
            column=read(written, "column", str),
            kind=read_choice(written, "kind", get_args(Kind)),
            dtype=read_choice(written, "dtype", get_args(DType)),
            bag=read(written, "bag", str | None, None),
            padded=read(written, "padded", bool, False),
            optional=read(written, "optional", bool, False),
            num_hash_buckets=read(written, "num_hash_buckets", int | None, None),
            values=read_choice(written, "values", get_args(Values)),
            marks=tuple(float(mark) for mark in read(written, "marks", list | tuple, ())),
        )


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What an export takes and gives.

    Args:
        inputs: The inputs, in the order of the features.
        binary: Whether it gives a logit and a probability, or else a prediction.
        form: How it is written.
        names: Names of its signatures; an ONNX file has one.
        user: Columns that the signature `rank` takes once for all candidates.
        adjustment: What is done to the model's logit.
        table: What the table is quantized to, `"int8"` or `"float16"`; None for float32.
    """

    inputs: tuple[Input, ...]
    binary: bool
    form: Form = "savedmodel"
    names: tuple[str, ...] = ("serving_default",)
    user: tuple[str, ...] = ()
    adjustment: Adjustment = field(default_factory=Adjustment)
    table: str | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, each float32 `[rows]`."""
        return ("logit", "probability") if self.binary else ("prediction",)

    def of(self, column: str) -> list[Input]:
        """Returns the inputs of a column."""
        return [given for given in self.inputs if given.column == column]

    def to_json(self) -> dict[str, Any]:
        """Returns the signature as plain JSON types."""
        outputs = [{"name": name, "dtype": "float32", "shape": ["rows"]} for name in self.outputs]
        return {
            "format": FORMAT,
            "form": self.form,
            "signatures": list(self.names),
            "user": list(self.user),
            "inputs": [given.to_json() for given in self.inputs],
            "outputs": outputs,
            "adjustment": asdict(self.adjustment),
            "table": self.table,
        }

    @classmethod
    def from_file(cls, folder: Path) -> "Signature":
        """Returns the signature of an export's folder.

        Raises:
            ValueError: It is none.
        """
        path = folder / SIGNATURE
        if not path.exists():
            raise ValueError(f"{folder} is no export: it has no {SIGNATURE}. Give a folder that export wrote.")
        try:
            written = read_file(path)
            check_format(written, SIGNATURE)
            outputs = [read(one, "name", str) for one in read(written, "outputs", list)]
            return cls(
                inputs=tuple(Input.from_json(one) for one in read(written, "inputs", list)),
                binary="probability" in outputs,
                form=read_choice(written, "form", get_args(Form)),
                names=read_texts(written, "signatures"),
                user=read_texts(written, "user", ()),
                adjustment=Adjustment.from_json(read(written, "adjustment", dict, {})),
                table=read(written, "table", str | None, None),
            )
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(f"{path} is damaged: {reason(error)}. Export the model anew.") from error


def inputs_of(
    features: FeatureSpec, *, optional: Sequence[str] = (), padded: Sequence[str] = (), hashes: bool = True
) -> tuple[Input, ...]:
    """Returns the inputs of a model of these features, column by column.

    Args:
        features: What the model reads.
        optional: Columns of which one value, or one bag, may stand for all rows.
        padded: Bags that come filled up to one length, instead of one behind the other with their lengths.
        hashes: Whether the export hashes by itself.

    Raises:
        ValueError: There is no such column or bag, all columns are optional, or two inputs have one name.
    """
    for column in optional:
        if column not in features.names:
            raise missing_column(column, features.names, reader="optional=")
    bags = [bag.name for bag in features.bags]
    for column in padded:
        if column not in bags:
            raise ValueError(f"padded= names bags; received {column!r}. The bags are {', '.join(bags) or 'none'}.")
    if {*features.names} <= {*optional}:
        raise ValueError("All columns are optional, and none tells the number of rows. Leave one out of optional=.")
    of_weights: dict[str, list[str]] = {}
    for bag in features.bags:
        of_weights.setdefault(bag.weights or "", []).append(bag.name)
    for column, several in of_weights.items():
        if column and len({(name in padded, name in optional) for name in several}) > 1:
            raise ValueError(
                f"The bags {', '.join(several)} share the weights {column!r}. Name all of them in padded= and "
                "optional=, or none."
            )
    found = [one for feature in features for one in _inputs(feature, optional, padded, hashes)]
    weights = {one.name: one for one in reversed(found) if one.kind == "weights"}  # which two bags may share
    found = [one for one in found if one.kind != "weights" or one is weights[one.name]]
    twice = [name for name, count in Counter(one.name for one in found).items() if count > 1]
    if twice:
        raise ValueError(
            f"Two inputs are called {twice[0]!r}: the lengths of a bag NAME are NAME_lengths. Rename a column, or name "
            "the bag in padded=."
        )
    return tuple(found)


def _inputs(feature: Feature, optional: Sequence[str], padded: Sequence[str], hashes: bool) -> Iterator[Input]:
    name, may_miss = feature.name, feature.name in optional
    if isinstance(feature, NumericFeature):
        marks = feature.missing_values
        yield Input(name, column=name, kind="value", dtype="float32", values="float32", optional=may_miss, marks=marks)
        return
    kind: Kind = "bag" if isinstance(feature, MultiCategoricalFeature) else "value"
    buckets = None if hashes else feature.num_hash_buckets
    values = _values(feature)
    dtype: DType = "int64" if buckets is not None else "string" if values == "either" else values
    filled = name in padded
    yield Input(
        name,
        column=name,
        kind=kind,
        dtype=dtype,
        padded=filled,
        optional=may_miss,
        num_hash_buckets=buckets,
        values=values,
    )
    if isinstance(feature, MultiCategoricalFeature):
        if not filled:
            lengths = f"{name}_lengths"
            yield Input(
                lengths, column=name, kind="lengths", dtype="int64", values="int64", bag=name, optional=may_miss
            )
        if feature.weights:
            weights = feature.weights
            yield Input(
                weights,
                column=weights,
                kind="weights",
                dtype="float32",
                values="float32",
                bag=name,
                padded=filled,
                optional=may_miss,
            )


def _values(feature: Categories) -> Values:
    if feature.dtype != "int64":
        return feature.dtype or "either"
    values = feature.vocabulary or ()
    return "uint64" if any(isinstance(value, int) and value >= 2**63 for value in values) else "int64"
