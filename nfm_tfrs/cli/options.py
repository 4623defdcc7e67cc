"""What several commands ask a person for, and the slips that are found before TensorFlow is imported or a row read."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import pyarrow as pa
import typer

from nfm_tfrs import arguments
from nfm_tfrs.arguments import missing_column
from nfm_tfrs.cli.settings import descriptions, names_in
from nfm_tfrs.data.history.events import check_columns as check_columns_of_history
from nfm_tfrs.data.history.parts import check_apart, checked_histories, is_read
from nfm_tfrs.data.history.rule import History
from nfm_tfrs.data.readers.table import column_names, find_files
from nfm_tfrs.data.split import Split, parse_split
from nfm_tfrs.features.number_encoders import NUMBER_ENCODERS
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.folder import read_features
from nfm_tfrs.specs import MODEL_ARGUMENTS
from nfm_tfrs.target import Target, Task
from tfrs_registry import blocks, models

if TYPE_CHECKING:
    from nfm_tfrs.data.parts import Prepared

Data = Annotated[
    list[str], typer.Option("--data", help="Parquet, CSV, libsvm, libffm or TFRecord: a file, a folder or a glob.")
]
ModelFile = Annotated[Path, typer.Option(help="model.keras, or the folder that train wrote.")]
Format = Annotated[str | None, typer.Option(help="The files' format, where their suffix does not tell.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Import and run whatever the file names. Only for files of your own.")
]
Seed = Annotated[
    int, typer.Option(help="Seed of the random split, of the weights, of dropout and of the order of rows.")
]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows to learn from, and what is read of them.

    Args:
        data: Parquet, CSV, libsvm, libffm or TFRecord: a file, a folder or a glob.
        label: A column, or a comparison such as "rating>=4"; that of the run where one is gone on from.
        split: random (if not given), time:COLUMN or user-time:USER,TIME; with :0.8,0.1,0.1 behind it if you like.
        valid: Rows to choose on, where they are files of their own.
        test: Rows to judge on, once, with --valid.
        columns: Columns to use, separated by commas; all others if not given.
        category: Columns that are categories whatever their values, separated by commas.
        number: Columns that are numbers whatever their values, separated by commas.
        min_count: Values seen less often become unknown; 5 if not given.
        number_encoder: How numbers are embedded: linear (with limits for a search), buckets, piecewise, periodic or
            autodis; linear if not given.
        features: A features.json to use instead of inferring.
        weight: Column of example weights.
        task: binary (if not given) or regression.
        format: The files' format, where their suffix does not tell.
        histories: What rows hold of what their user did before: user_id,timestamp:movie_id,last=20, with
            rating=rating>=4 (liked values apart, and their share) and name=seen behind it if you like; repeatable.
        earlier: Rows of before that histories see, and nothing else does; none of them may be in the other files too,
            where it would count twice.
        cache: Folder for encoded rows: the next run on the same files starts from them.
    """

    data: list[str]
    label: str | None = None
    split: str | None = None
    valid: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    columns: tuple[str, ...] | None = None
    category: tuple[str, ...] | None = None
    number: tuple[str, ...] | None = None
    min_count: int | None = None
    number_encoder: str | None = None
    features: Path | None = None
    weight: str | None = None
    task: str | None = None
    format: str | None = None
    histories: list[str] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)
    cache: Path | None = None

    def __post_init__(self) -> None:
        checked_histories(self.histories)
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
        if self.label is None:
            raise ValueError(
                '--label is missing, which says what to predict. Pass a column, or "rating>=4" for instance.'
            )
        return Target.parse(self.label, weight=self.weight, task=self.task or task)

    def cut(self, seed: int) -> Split:
        """Returns the split."""
        arguments.not_negative("--seed", seed)
        return parse_split(self.split or "random", seed)

    def given_features(self) -> FeatureSpec | None:
        """Returns the features of the file that is named; None where they are to be inferred."""
        if self.features is None:
            return None
        return features_given(self.features, beside=self.rules())

    def rules(self) -> dict[str, Any]:
        """Returns the rules by which features are inferred, as far as options say any."""
        return inference_rules(self.columns, self.category, self.number, self.min_count, self.number_encoder)

    def remembering(self, histories: Sequence[str], features: FeatureSpec | None = None) -> "Rows":
        """Returns the rows with the histories of a run or a search, where no option says any and the data lacks them.

        Args:
            histories: The histories, as a person writes them.
            features: The features, where they are known; histories of which they read nothing are left out.
        """
        if self.histories or not histories:
            return self
        there = set(column_names(find_files(self.data, format=self.format), format=self.format) or ())
        rules = [History.parse(text) for text in histories]
        read = [rule for rule in rules if features is None or is_read(rule, features)]
        return replace(self, histories=[str(rule) for rule in read if not there.issuperset(rule.names)])

    def check_columns(
        self,
        target: Target,
        split: Split,
        features: FeatureSpec | None,
        *,
        groups: str | None = None,
        stream: bool = False,
    ) -> None:
        """Checks that the files have the columns that are read of them, as far as a header or a footer tells.

        Args:
            target: What is predicted.
            split: The split, where the rows are split.
            features: The features, where they are known.
            groups: The column of users.
            stream: Whether the rows to train on are streamed, which takes Parquet alone.

        Raises:
            ValueError: A column is not there, a history that no feature reads, or a file that is in --earlier too.
            FileNotFoundError: There are no such files.
        """
        target_columns = named_columns(target, groups)
        histories = checked_histories(self.histories, stream=stream, earlier=self.earlier or None, features=features)
        made = {name for rule in histories for name in rule.names}
        named = self.columns or () if features is None else features.columns
        read = [(None, column) for column in named if column not in made]
        kinds = [("--category", column) for column in self.category or ()]
        kinds += [("--number", column) for column in self.number or ()]
        cut = [("--split", column) for column in (() if self.valid else split.columns)]
        check_columns(self.data, [*target_columns, *read, *cut, *kinds], format="parquet" if stream else self.format)
        for files in (self.valid, self.test):
            if files:
                check_columns(files, [*target_columns, *read], format=self.format)
        for files in (self.data, self.valid, self.test) if histories else ():
            check_histories(files, histories, format=self.format)
        if self.earlier:
            rows = [*self.data, *self.valid, *self.test]
            check_earlier(self.earlier, rows, histories, option="--history", format=self.format)

    def prepare(
        self,
        target: Target,
        split: Split,
        features: FeatureSpec | None,
        *,
        keep: Sequence[str] = (),
        stream: bool = False,
    ) -> "Prepared":
        """Reads the rows and encodes their parts; imports TensorFlow.

        Args:
            target: What is predicted.
            split: The split, where the rows are split.
            features: The features; inferred by the rules that options say if not given.
            keep: Columns that are kept raw beside the encoded rows.
            stream: Whether the rows to train on are too many for memory.
        """
        from nfm_tfrs.data.prepare import prepare_files

        return prepare_files(
            self.data,
            target,
            split,
            valid=self.valid or None,
            test=self.test or None,
            stream=stream,
            features=features,
            histories=self.histories,
            earlier=self.earlier or None,
            format=self.format,
            cache=self.cache,
            keep=keep,
            **({} if features is not None else self.rules()),
        )


_HELP = descriptions(Rows)
Histories = Annotated[list[str] | None, typer.Option("--history", help=_HELP.get("histories"))]
Earlier = Annotated[list[str] | None, typer.Option("--earlier", help=_HELP.get("earlier"))]
NumberEncoder = Annotated[str | None, typer.Option(help=_HELP.get("number_encoder"))]


def named_columns(target: Target, groups: str | None = None) -> list[tuple[str | None, str]]:
    """Returns the columns of a target and of users, each behind the option that names it."""
    named = {"--label": target.label.column, "--weight": target.weight, "--groups": groups}
    return [(option, column) for option, column in named.items() if column]


def check_columns(data: Sequence[str], named: Iterable[tuple[str | None, str]], *, format: str | None = None) -> None:
    """Checks that files have columns, where their format says it without reading rows.

    Args:
        data: The files.
        named: The columns, each behind the option that names it.
        format: The files' format, where their suffix does not tell.

    Raises:
        ValueError: A column is not there.
        FileNotFoundError: There are no such files.
    """
    paths, wanted = find_files(data, format=format), list(named)
    there = column_names(paths, format=format) if wanted else None
    present = set(there or ())
    for option, column in wanted:
        if there is not None and column not in present:
            raise missing_column(column, there, reader=option)


def check_histories(data: Sequence[str], histories: Iterable[History], *, format: str | None = None) -> None:
    """Checks that files have what histories read, and nothing that they make, where their format says it.

    Args:
        data: The files; none are in order.
        histories: The histories.
        format: The files' format, where their suffix does not tell.

    Raises:
        ValueError: A column is not there, or is already.
        FileNotFoundError: There are no such files.
    """
    names = column_names(find_files(data, format=format), format=format) if data else None
    for rule in histories if names is not None else ():
        check_columns_of_history(names or (), rule)


def check_earlier(
    earlier: Sequence[str],
    data: Sequence[str],
    histories: Iterable[History],
    *,
    option: str,
    format: str | None = None,
) -> None:
    """Checks that files of rows of before have what histories read, and are none of the rows' own.

    Args:
        earlier: The files of rows of before.
        data: The files of the rows.
        histories: The histories.
        option: The option that names the columns.
        format: The files' format, where their suffix does not tell.

    Raises:
        ValueError: A column is not there, or a file is in both.
        FileNotFoundError: There are no such files.
    """
    check_apart(find_files(data, format=format), find_files(earlier, format=format))
    check_columns(earlier, [(option, column) for rule in histories for column in rule.columns], format=format)


def inference_rules(
    columns: Sequence[str] | None,
    category: Sequence[str] | None,
    number: Sequence[str] | None,
    min_count: int | None,
    number_encoder: str | None = None,
) -> dict[str, Any]:
    """Returns the rules of `infer_features` that options say; none where none does."""
    kinds = dict.fromkeys(category or (), "category") | dict.fromkeys(number or (), "number")
    both = sorted({*(category or ())} & {*(number or ())})
    if both:
        raise ValueError(f"--category and --number both name {', '.join(both)}. Leave it out of one of them.")
    found: dict[str, Any] = {} if columns is None else {"columns": list(columns)}
    found |= {"kinds": kinds} if kinds else {}
    if number_encoder not in (None, *NUMBER_ENCODERS):
        raise ValueError(f"--number-encoder is one of {', '.join(NUMBER_ENCODERS)}; received {number_encoder!r:.60}.")
    found |= {} if number_encoder is None else {"number_encoder": number_encoder}
    return found | ({} if min_count is None else {"min_count": min_count})


def features_given(path: Path, *, beside: Mapping[str, Any]) -> FeatureSpec:
    """Returns the features of a features.json.

    Raises:
        ValueError: It is none, or rules to infer by are given beside it.
    """
    if beside:
        raise ValueError(
            "--features says what --columns, --category, --number, --min-count and --number-encoder would infer. Pass "
            "it alone, or edit the file."
        )
    return read_features(path)


def check_arguments(names: Sequence[str], arguments: Mapping[str, Any], *, also: Sequence[str] = ()) -> None:
    """Checks that models of this package have the arguments that --set names; others are asked when they are made.

    Args:
        names: The models' registered names.
        arguments: What --set gives, by name.
        also: Names that --set takes beside the model's arguments.

    Raises:
        LookupError: There is no such model, or no such block.
        ValueError: The models have no argument of such a name.
    """
    specs = [models.spec(name) for name in names]
    if not all(models.provider(spec.name).startswith("nfm-tfrs ") for spec in specs):
        return
    known = (*also, *MODEL_ARGUMENTS)
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"--set {name}: {specs[0].name} has no such argument.{hint} It has {', '.join(known)}.")
    interaction = arguments.get("interaction", ())
    for block in interaction if isinstance(interaction, list | tuple) else [interaction]:
        block = block.get("name") if isinstance(block, Mapping) else block
        if isinstance(block, str):  # anything else is refused by the model
            blocks.spec(block)


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
