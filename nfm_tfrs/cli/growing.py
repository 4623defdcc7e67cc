"""`train --from`: a run's model goes on with new rows, and its vocabularies grow with them."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfm_tfrs import arguments
from nfm_tfrs.cli.history_rows import warn_of_lone_rows
from nfm_tfrs.cli.options import Rows
from nfm_tfrs.cli.terminal import print_lines
from nfm_tfrs.data.split import Split
from nfm_tfrs.features.feature import Categories
from nfm_tfrs.features.growth import Growth
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.files import files_state
from nfm_tfrs.runs.folder import read_run
from nfm_tfrs.runs.record import RunRecord
from nfm_tfrs.target import Target
from nfm_tfrs.training.recipe import Best

if TYPE_CHECKING:
    from nfm_tfrs.data.parts import Prepared


@dataclass(frozen=True, kw_only=True)
class GrowthOptions:
    """Going on from an earlier run.

    Args:
        from_run: A run's folder, whose model goes on with --data; new values get rows, and all else is the run's.
        init: Where the rows of new values start: zeros (if not given), random, or mean:COLUMN, the mean of those beside
            the same value of COLUMN.
        max_age: Days after which a value that is not seen any more loses its row; none does if not given.
        max_rows: Most rows of the table; beyond it the least frequent values lose theirs.
        day: Date of --data, such as 2026-01-31; that of the first start if not given.
        refresh_statistics: Take means and deviations of numbers from --data; predictions stay as they were at first.
    """

    from_run: Path | None = None
    init: str | None = None
    max_age: int | None = None
    max_rows: int | None = None
    day: str | None = None
    refresh_statistics: bool = False

    def __post_init__(self) -> None:
        told = (self.init, self.max_age, self.max_rows, self.day, self.refresh_statistics or None)
        if self.from_run is None and any(value is not None for value in told):
            raise ValueError(
                "--init, --max-age, --max-rows, --day and --refresh-statistics say how a run's model grows. Pass "
                "--from too."
            )
        for option, value in (("--max-age", self.max_age), ("--max-rows", self.max_rows)):
            if value is not None:
                arguments.count(option, value)

    def base(self) -> "Base | None":
        """Returns the run that is gone on from; None without --from.

        Raises:
            FileNotFoundError: There is no such run.
            ValueError: It does not say how its model was made, or it was interrupted.
        """
        if self.from_run is None:
            return None
        record, features = read_run(self.from_run)
        if record is None or features is None or record.recipe is None:
            raise ValueError(
                f"{self.from_run} does not say how its model was made: it has no run.json and features.json of a "
                "newer train. Give the folder that train wrote."
            )
        if record.members > 1:
            raise ValueError(
                f"{self.from_run} holds the mean of {record.members} models, which trains no further. Go on from a run "
                "of one model, or train anew without --from."
            )
        if record.interrupted:
            raise ValueError(
                f"{self.from_run} holds a run that was interrupted. Run its command again first: {record.command}"
            )
        return Base(self.from_run, record, features)

    def to_json(self, rows: Rows) -> dict[str, Any]:
        """Returns how vocabularies grow, plain JSON types by name."""
        growth = self.growth(rows)
        told = {field.name: getattr(growth, field.name) for field in fields(growth)}
        return {**told, "day": growth.day and str(growth.day), "refresh_statistics": self.refresh_statistics}

    def growth(self, rows: Rows) -> Growth:
        """Returns how vocabularies grow."""
        told = {"init": self.init, "min_count": rows.min_count, "max_age": self.max_age, "max_rows": self.max_rows}
        told |= {"day": self.day}
        return Growth(**{name: value for name, value in told.items() if value is not None})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Base:
    """A run that another one goes on from.

    Args:
        path: Its folder.
        record: What its run.json holds.
        features: Its features.
    """

    path: Path
    record: RunRecord
    features: FeatureSpec

    def best(self) -> Best:
        """Returns the run's recipe."""
        return Best.of_run(self.record, self.features)

    def rows(self, rows: Rows, options: GrowthOptions) -> Rows:
        """Returns the rows, label, weight, task and split those of the run where options do not say them.

        Warns where their histories are made of these rows alone.

        Args:
            rows: The rows, as options say them.
            options: How the model grows.

        Raises:
            ValueError: Options say what is the run's.
        """
        if rows.columns or rows.category or rows.number or rows.number_encoder:
            raise ValueError(
                f"The features are those of {self.path}; received --columns, --category, --number or --number-encoder. "
                "Leave them out, or train anew without --from."
            )
        if rows.histories:
            raise ValueError(f"The histories are those of {self.path}; received --history. Leave it out.")
        told = (options.init, options.max_age, options.max_rows, rows.min_count)
        if rows.features is not None and any(value is not None for value in told):
            raise ValueError(
                "--features says which values have rows, as --init, --max-age, --max-rows and --min-count would. Pass "
                "it without these."
            )
        if rows.cache is not None:
            raise ValueError(
                "A cache keeps rows encoded by one vocabulary, and --from grows it; received --cache. Leave it out."
            )
        target = self.record.target
        if rows.task not in (None, target.task):
            raise ValueError(
                f"The model of {self.path} is a {target.task} one; received --task {rows.task}. Leave it out."
            )
        label = str(target.label) if rows.label is None else rows.label
        weight = target.weight if rows.label is None and rows.weight is None else rows.weight
        split = self.record.split if rows.split is None and not rows.valid else rows.split
        rows = rows.remembering(self.record.histories, self.features)
        if rows.histories and not rows.earlier:
            warn_of_lone_rows(rows.histories)
        return replace(rows, label=label, weight=weight, task=target.task, split=split)

    @property
    def checksum(self) -> str:
        """A hash of the model's file."""
        return files_state([self.path / "model.keras"], contents=True)

    def grown(
        self,
        rows: Rows,
        target: Target,
        split: Split,
        options: GrowthOptions,
        *,
        rate: float | None,
        keep: list[str],
        stream: bool,
        trust: bool,
    ) -> tuple[Any, "Prepared"]:
        """Returns the run's model, grown with the training rows, and the rows encoded for it.

        Args:
            rows: The rows.
            target: What is predicted.
            split: The split, where the rows are split.
            options: How it grows.
            rate: The optimizer's rate from here on; what it is if not given.
            keep: Columns that are kept raw beside the encoded rows.
            stream: Whether the rows to train on are too many for memory.
            trust: Whether to import and run whatever the model's file names.
        """
        from nfm_tfrs.data.moments import moments  # TensorFlow, as below
        from nfm_tfrs.data.parts import encode_tables
        from nfm_tfrs.models.grow import grow, with_features
        from nfm_tfrs.models.rate import set_rate
        from nfm_tfrs.models.refresh import refreshed
        from nfm_tfrs.runs.saving import load_model

        model = load_model(self.path / "model.keras", trust=trust)
        parts = None if stream else rows.prepare(target, split, self.features, keep=keep)
        source: Any = rows.data if parts is None else parts.tables.get("train")
        format = "parquet" if stream else None
        if (given := rows.given_features()) is not None:
            grown = with_features(model, given)
        else:
            grown = grow(model, source, options.growth(rows), format=format)
        if options.refresh_statistics:
            grown = refreshed(grown, moments(source, grown.features, format=format))
        if rate is not None:
            set_rate(grown, rate)
        print_lines([_growth_in_words(self.features, grown.features)])
        if parts is None:
            return grown, rows.prepare(target, split, grown.features, keep=keep, stream=True)
        return grown, replace(encode_tables(parts.tables, grown.encoder, target), split=parts.split)


def _growth_in_words(before: FeatureSpec, now: FeatureSpec) -> str:
    """How many values each vocabulary has gained and lost."""
    changes = []
    for old, new in zip(before, now, strict=True):
        if not (isinstance(old, Categories) and isinstance(new, Categories)):
            continue
        known, knows = set(old.known_values), set(new.known_values)
        gained, lost = len(knows - known), len(known - knows)
        if gained or lost:
            changes.append(f"{old.name} +{gained:,}" + (f" -{lost:,}" if lost else ""))
    return f"grows: {', '.join(changes)}" if changes else "grows by no value"
