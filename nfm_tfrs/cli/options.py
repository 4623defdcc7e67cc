"""What several commands ask a person for, and the slips that are found before TensorFlow is imported or a row read."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

import pyarrow as pa
import typer

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.cli.settings import names_in
from nfm_tfrs.data.readers.table import column_names, find_files
from nfm_tfrs.data.split import Split, parse_split
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.specs import MODEL_ARGUMENTS
from nfm_tfrs.target import Target, Task
from tfrs_registry import models

Data = Annotated[
    list[str], typer.Option("--data", help="Parquet, CSV, libsvm, libffm or TFRecord: a file, a folder or a glob.")
]
ModelFile = Annotated[Path, typer.Option(help="model.keras, or the folder that train wrote.")]
Format = Annotated[str | None, typer.Option(help="The files' format, where their suffix does not tell.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.", metavar="")]
Seed = Annotated[
    int, typer.Option(help="Seed of the random split, of the weights, of dropout and of the order of rows.")
]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows to learn from, and what is read of them.

    Args:
        data: Parquet, CSV, libsvm, libffm or TFRecord: a file, a folder or a glob.
        label: A column, or a comparison such as "rating>=4".
        split: random (if not given), time:COLUMN or user-time:USER,TIME; with :0.8,0.1,0.1 behind it if you like.
        valid: Rows to choose on, where they are files of their own.
        test: Rows to judge on, once, with --valid.
        columns: Columns to use, separated by commas; all others if not given.
        category: Columns that are categories whatever their values, separated by commas.
        number: Columns that are numbers whatever their values, separated by commas.
        min_count: Values seen less often become unknown; 5 if not given.
        features: A features.json to use instead of inferring.
        weight: Column of example weights.
        task: binary (if not given) or regression.
        format: The files' format, where their suffix does not tell.
        cache: Folder for encoded rows: the next run on the same files starts from them.
    """

    data: list[str]
    label: str
    split: str | None = None
    valid: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    columns: tuple[str, ...] | None = None
    category: tuple[str, ...] | None = None
    number: tuple[str, ...] | None = None
    min_count: int | None = None
    features: Path | None = None
    weight: str | None = None
    task: str | None = None
    format: str | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.task not in (None, *get_args(Task)):
            raise ValueError(f"--task is binary or regression; received {self.task!r}.")
        if self.valid and self.split is not None:
            raise ValueError("--valid and --split both say which rows to choose on. Pass one of them.")
        if self.test:
            self.need_valid("--test")

    def need_valid(self, option: str) -> None:
        """Refuses an option that goes with files to choose on, where there are none."""
        if not self.valid:
            raise ValueError(f"Beside {option} the rows to choose on come from files of their own. Pass --valid.")

    def target(self, task: str = "binary") -> Target:
        """Returns what is predicted; the task is this one where no option says it."""
        return Target.parse(self.label, weight=self.weight, task=self.task or task)

    def cut(self, seed: int) -> Split:
        """Returns the split."""
        return parse_split(self.split or "random", seed)

    def given_features(self) -> FeatureSpec | None:
        """Returns the features of the file that is named; None where they are to be inferred."""
        if self.features is None:
            return None
        return read_features(self.features, beside=self.rules())

    def rules(self) -> dict[str, Any]:
        """Returns the rules by which features are inferred, as far as options say any."""
        return inference_rules(self.columns, self.category, self.number, self.min_count)

    def check_columns(self, target: Target, split: Split, *, others: Iterable[tuple[str, str]] = ()) -> None:
        """Checks that the files have the columns that options name, where their format says it without reading rows.

        Args:
            target: What is predicted.
            split: The split, where the rows are split.
            others: Further options and the columns that they name.

        Raises:
            ValueError: A column is not there.
            FileNotFoundError: There are no such files.
        """
        there = column_names(find_files(self.data, format=self.format), format=self.format)
        named: list[tuple[str | None, str]] = [("--label", target.label.column)]
        named += [("--weight", target.weight)] if target.weight else []
        named += [(None, column) for column in self.columns or ()]
        named += [("--split", column) for column in (() if self.valid else split.columns)]
        named += [("--category", column) for column in self.category or ()]
        named += [("--number", column) for column in self.number or ()]
        for option, column in [*named, *others]:
            if there is not None and column not in there:
                raise missing_column(column, there, reader=option)


def inference_rules(
    columns: Sequence[str] | None, category: Sequence[str] | None, number: Sequence[str] | None, min_count: int | None
) -> dict[str, Any]:
    """Returns the rules of `infer_features` that options say; none where none does."""
    kinds = dict.fromkeys(category or (), "category") | dict.fromkeys(number or (), "number")
    both = sorted({*(category or ())} & {*(number or ())})
    if both:
        raise ValueError(f"--category and --number both name {', '.join(both)}. Leave it out of one of them.")
    found: dict[str, Any] = {} if columns is None else {"columns": list(columns)}
    found |= {"kinds": kinds} if kinds else {}
    return found | ({} if min_count is None else {"min_count": min_count})


def read_features(path: Path, *, beside: Mapping[str, Any]) -> FeatureSpec:
    """Returns the features of a features.json.

    Raises:
        ValueError: It is none, or rules to infer by are given beside it.
    """
    if beside:
        raise ValueError(
            "--features says what --columns, --category, --number and --min-count would infer. Pass it alone, or edit "
            "the file."
        )
    try:
        return FeatureSpec.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def check_arguments(model: str, arguments: Iterable[str]) -> None:
    """Checks that a model of this package has the arguments that --set names; others are asked when they are made.

    Raises:
        LookupError: There is no such model.
        ValueError: It has no argument of such a name.
    """
    spec = models.spec(model)
    if not models.provider(spec.name).startswith("nfm-tfrs "):
        return
    for name in arguments:
        if name not in MODEL_ARGUMENTS:
            near = difflib.get_close_matches(name, MODEL_ARGUMENTS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"--set {name}: {spec.name} has no such argument.{hint} It has {', '.join(MODEL_ARGUMENTS)}."
            )


def column_of(table: pa.Table, name: str, option: str) -> Any:
    """Returns a column of a table.

    Raises:
        ValueError: It is not there.
    """
    if name not in table.schema.names:
        raise missing_column(name, table.schema.names, reader=option)
    return table[name]


def names_given(text: str | None) -> tuple[str, ...] | None:
    """Returns the names that an option lists, separated by commas; None where it is not given."""
    return None if text is None else names_in(text)
