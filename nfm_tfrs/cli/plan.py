"""What `nfm-tfrs train` is told, put together and checked before any row is read."""

import hashlib
import sys
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from nfm_tfrs.cli.growing import Base, GrowthOptions
from nfm_tfrs.cli.options import Rows, check_arguments
from nfm_tfrs.cli.pretrained import PretrainedOptions
from nfm_tfrs.cli.recipe_options import RecipeOptions
from nfm_tfrs.data.history.rule import History
from nfm_tfrs.data.readers.table import find_files
from nfm_tfrs.data.split import Split
from nfm_tfrs.features.number_encoders import LINEAR
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.files import files_state
from nfm_tfrs.runs.record import RunRecord, Source, as_command, without_credentials
from nfm_tfrs.training.recipe import Best, Recipe
from nfm_tfrs.versions import versions

if TYPE_CHECKING:
    from nfm_tfrs.data.parts import Prepared

_GONE_ON = 2  # passes over the rows of a night, chosen on validation: benchmarks/quality/daily.py


@dataclass(frozen=True)
class Plan:
    """What a command is told, put together before any row is read.

    Args:
        rows: The rows.
        options: The model and its training, as options say them.
        growing: How a run's model grows.
        pretrained: Vectors that rows begin at.
        base: The run that is gone on from; None where a new model is trained.
        best: What --config names, or the base's recipe.
        told: The recipe.
        record: What the run's run.json is to hold.
        split: The split, where the rows are split.
    """

    rows: Rows
    options: RecipeOptions
    growing: GrowthOptions
    pretrained: PretrainedOptions
    base: Base | None
    best: Best
    told: Recipe
    record: RunRecord
    split: Split

    @property
    def features(self) -> FeatureSpec | None:
        """The features that options, --config or a base name; None where they are to be inferred."""
        if self.base is not None:
            return self.base.features
        return _told_features(self.rows, self.best)

    @property
    def stream(self) -> bool:
        """Whether the rows to train on are read batch by batch."""
        return self.record.source is not None and self.record.source.stream

    @property
    def keep(self) -> list[str]:
        """The columns that are kept raw beside the encoded rows."""
        return [] if self.record.groups is None else [self.record.groups]

    def check(self) -> None:
        """Refuses what can be seen to be wrong before any row is read; imports TensorFlow at its end."""
        check_arguments([self.told.model], self.options.set)
        both = (self.rows.number_encoder, self.told.config.get("number_encoder"))
        if both[0] not in (None, LINEAR, both[1]) and both[1] is not None:
            raise ValueError(
                f"--number-encoder says {both[0]}, and the model's number_encoder {both[1]}. Leave out one of them, or "
                "pass --number-encoder linear, which keeps the limits alone."
            )
        self.rows.check_columns(
            self.record.target, self.split, self.features, groups=self.record.groups, stream=self.stream
        )
        if self.base is None:
            self.pretrained.check(self.features)
            self.options.check_arguments(self.told, self.best.recipe)

    def prepared(self, trust: bool, day: int) -> tuple[Any, "Prepared"]:
        """Returns the model that goes on, None for a new one, and the rows.

        Args:
            trust: Whether to import and run whatever a model's file names.
            day: The day of the rows where no option says it, in days since 1970-01-01.
        """
        told: Any = {"keep": self.keep, "stream": self.stream}
        if self.base is None:
            data = self.rows.prepare(self.record.target, self.split, self.features, **told)
            return None, self.pretrained.applied(data)
        before = self.best.recipe
        another = self.options.learning_rate is not None or self.told.rate_growth != before.rate_growth
        another = another or self.told.schedule != before.schedule  # the rate that a plateau has divided
        told |= {"rate": self.told.rate if another else None, "trust": trust}
        growing = replace(self.growing, day=self.growing.day or str(date(1970, 1, 1) + timedelta(days=day)))
        return self.base.grown(self.rows, self.record.target, self.split, growing, **told)


def planned(
    rows: Rows,
    recipe: RecipeOptions,
    growing: GrowthOptions,
    pretrained: PretrainedOptions,
    *,
    groups: str | None,
    stream: bool,
    seed: int,
) -> Plan:
    """Returns the plan of a training; of the files hashes are taken, and no row is read.

    Args:
        rows: The rows, as options say them.
        recipe: The model and its training, as options say them.
        growing: The run to go on from, and how its model grows.
        pretrained: Vectors that rows begin at.
        groups: The column of users; None without, or for that of the run that is gone on from.
        stream: Whether the rows to train on are read batch by batch.
        seed: Seed of the split, of the weights, of dropout and of the order of rows.

    Raises:
        FileNotFoundError: There are no such files, or no such run.
        ValueError: Options that do not fit each other, or the run.
    """
    if pretrained.pretrained and (growing.from_run is not None or recipe.repeat):
        raise ValueError(
            "--pretrained says where the rows of a new model begin; --from and --repeat say it too. Pass one of them."
        )
    base = growing.base()
    if base is None:
        best = recipe.best()
        told = recipe.recipe(best.recipe, rows.task)
        given = rows.given_features()
        rows = rows.remembering(best.histories, best.recipe.features if given is None and not rows.rules() else given)
    else:
        rows, groups, best = base.rows(rows, growing), groups or base.record.groups, base.best()
        told = recipe.going_on(best.recipe, base.path)
    split, given = rows.cut(seed), rows.given_features()
    record = RunRecord(
        target=rows.target(told.config.get("task", "binary")),
        seed=seed,
        split=rows.split,
        groups=groups,
        recipe=told,
        epochs=_GONE_ON if base is not None and recipe.epochs is None else recipe.epochs,
        patience=None if recipe.repeat else told.lasting(recipe.epochs, recipe.patience)[1],
        winner=best.winner if recipe.repeat else None,
        slices=best.slices if recipe.repeat else None,
        source=Source(
            data=tuple(rows.data),
            valid=tuple(rows.valid),
            test=tuple(rows.test),
            earlier=tuple(rows.earlier),
            format=rows.format,
            stream=stream,
            state=_state(rows, stream),
        ),
        versions=versions(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=as_command(["nfm-tfrs", *sys.argv[1:]]),
        base=None if base is None else str(base.path),
        histories=tuple(str(History.parse(text)) for text in rows.histories),
        growth={} if base is None else {**growing.to_json(rows), "checksum": base.checksum},
        pretrained=pretrained.to_json(_told_features(rows, best)) if pretrained.pretrained else {},
        members=best.members if recipe.members is None else recipe.members,
        rules={**rows.rules(), "features": None if given is None else _hash(given)},
    )
    return Plan(rows, recipe, growing, pretrained, base, best, told, record, split)


def _told_features(rows: Rows, best: Best) -> FeatureSpec | None:
    """The features of a new model, where options or --config name them."""
    features = rows.given_features()
    return best.recipe.features if features is None and not rows.rules() else features


def _state(rows: Rows, stream: bool) -> dict[str, str]:
    """What is in the files, by what a person named; of streamed ones, which may be of any size, when they changed."""
    found = {}
    for part in (rows.data, rows.valid, rows.test, rows.earlier):
        streamed = stream and part is rows.data
        for named in part:
            files = find_files(named, format="parquet" if streamed else rows.format)
            found[without_credentials(named)] = files_state(files, contents=not streamed)
    return found


def _hash(features: FeatureSpec) -> str:
    return hashlib.sha256(features.to_json().encode()).hexdigest()
