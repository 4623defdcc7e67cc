"""What `nfm-tfrs train` is told, put together and checked before any row is read."""

import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from nfm_tfrs.cli.growing import Base, GrowthOptions
from nfm_tfrs.cli.options import Rows, check_arguments
from nfm_tfrs.cli.recipe_options import RecipeOptions
from nfm_tfrs.data.readers.parquet import footers
from nfm_tfrs.data.readers.table import find_files
from nfm_tfrs.data.split import Split
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.record import RunRecord, Source, as_command
from nfm_tfrs.training.recipe import Best, Recipe
from nfm_tfrs.versions import versions

if TYPE_CHECKING:
    from nfm_tfrs.data.parts import Prepared


@dataclass(frozen=True)
class Plan:
    """What a command is told, put together before any row is read.

    Args:
        rows: The rows.
        options: The model and its training, as options say them.
        growing: How a run's model grows.
        base: The run that is gone on from; None where a new model is trained.
        best: What --config names, or the base's recipe.
        told: The recipe.
        record: What the run's run.json is to hold.
        split: The split, where the rows are split.
    """

    rows: Rows
    options: RecipeOptions
    growing: GrowthOptions
    base: Base | None
    best: Best
    told: Recipe
    record: RunRecord
    split: Split

    @property
    def features(self) -> FeatureSpec | None:
        """The features that options, --config or a base name; None where they are to be inferred."""
        features = self.rows.given_features()
        if self.base is not None:
            return self.base.features
        return self.best.recipe.features if features is None and not self.rows.rules() else features

    @property
    def stream(self) -> bool:
        """Whether the rows to train on are read batch by batch."""
        return self.record.source is not None and self.record.source.stream

    @property
    def keep(self) -> list[str]:
        """The columns that are kept raw beside the encoded rows."""
        return [] if self.record.groups is None else [self.record.groups]

    @property
    def settings(self) -> dict[str, Any]:
        """What makes the training another than others."""
        streamed = {"files": footers(find_files(self.rows.data, format="parquet"))} if self.stream else {}
        gone_on = {} if self.base is None else {"checksum of the model": self.base.checksum}
        return {**self.record.settings, **streamed, **gone_on}

    def check(self) -> None:
        """Refuses what can be seen to be wrong before any row is read; imports TensorFlow at its end."""
        check_arguments([self.told.model], self.options.set)
        self.rows.check_columns(
            self.record.target, self.split, self.features, groups=self.record.groups, stream=self.stream
        )
        if self.base is None:
            self.options.check_arguments(self.told, self.best.recipe)

    def prepared(self, trust: bool) -> tuple[Any, "Prepared"]:
        """Returns the model that goes on, None for a new one, and the rows."""
        told: Any = {"keep": self.keep, "stream": self.stream}
        if self.base is None:
            return None, self.rows.prepare(self.record.target, self.split, self.features, **told)
        told |= {"rate": self.options.learning_rate, "trust": trust}
        return self.base.grown(self.rows, self.record.target, self.split, self.growing, **told)


def planned(
    rows: Rows, recipe: RecipeOptions, growing: GrowthOptions, *, groups: str | None, stream: bool, seed: int
) -> Plan:
    base = growing.base()
    if base is None:
        best = recipe.best()
        told = recipe.recipe(best.recipe, rows.task)
    else:
        rows, groups, best = base.rows(rows), groups or base.record.groups, base.best()
        told = recipe.going_on(best.recipe, base.path)
    split = rows.cut(seed)
    record = RunRecord(
        target=rows.target(told.config.get("task", "binary")),
        seed=seed,
        split=rows.split,
        groups=groups,
        recipe=told,
        epochs=recipe.epochs,
        patience=None if recipe.repeat else recipe.patience,
        winner=best.winner if recipe.repeat else None,
        slices=best.slices if recipe.repeat else None,
        source=Source(
            data=tuple(rows.data),
            valid=tuple(rows.valid),
            test=tuple(rows.test),
            format=rows.format,
            stream=stream,
        ),
        versions=versions(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=as_command(["nfm-tfrs", *sys.argv[1:]]),
        base=None if base is None else str(base.path),
        growth={} if base is None else growing.to_json(rows),
    )
    return Plan(rows, recipe, growing, base, best, told, record, split)
