"""A model and how it is trained, in one object that builds, compiles and trains it, and that a best.json holds."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nfm_tfrs import arguments
from nfm_tfrs.configuration import OPTIMIZERS, ROW_WISE, Configuration, RateSchedule
from nfm_tfrs.data.history.rule import read_histories
from nfm_tfrs.evidence import Winner
from nfm_tfrs.features.feature import feature_to_dict
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.vectors import check_frozen
from nfm_tfrs.runs.checkpoint import Checkpoints
from nfm_tfrs.runs.files import files_state
from nfm_tfrs.runs.folder import read_features
from nfm_tfrs.runs.record import RunRecord
from nfm_tfrs.training.schedules import OVER_STEPS, Cosine, plateau_of, schedule_of
from nfm_tfrs.written import check_format, read, read_file, reason
from tfrs_registry import get_model, models

if TYPE_CHECKING:
    from nfm_tfrs.data.parts import Prepared
    from nfm_tfrs.data.pipeline.position import Position
    from nfm_tfrs.models.pretrained import Coverage
    from nfm_tfrs.training.resume import Course

# Chosen on validation, over several sets: benchmarks/quality/defaults.py
EPOCHS, PATIENCE = 50, 4
FALLING_EPOCHS = 20  # of a schedule that falls to an end, where nobody says over how many passes
MODEL, MEMBERS, AVERAGING = "nfm", 4, 0.999

SCHEDULES = get_args(RateSchedule)
_RATED = (*ROW_WISE, "adam", "adamax", "adamw", "nadam")  # whose default rates are ones to train with
_FROZEN = "Give pretrained= with vectors of {!r}, or take frozen out of the features."


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind.

    Args:
        model: The model with its best weights.
        history: The value of each metric, epoch by epoch.
        resumed: At which steps the training went on from a checkpoint, counted from the first pass on.
        pretrained: How many values of each feature have got a pretrained row; see `nfm_tfrs.load_pretrained`.
        members: The history of each training whose mean the model is; none without such. `history` is the first's.
    """

    model: Any
    history: dict[str, list[float]]
    resumed: tuple[int, ...] = ()
    pretrained: "Sequence[Coverage]" = ()
    members: Sequence[dict[str, list[float]]] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe(Configuration):
    """A model and how it is trained; see `Configuration` for the arguments.

    Raises:
        ValueError: A schedule, an optimizer, a rate, a batch size or a number of passes that there is not, arguments
            that are no object, an argument that the schedule does not take, a rate among the optimizer's further
            arguments, a schedule over the steps without a rate where the optimizer's default is none to begin at, or
            weights averaged under one.

    Example:
        >>> from nfm_tfrs import CategoricalFeature
        >>> features = FeatureSpec([CategoricalFeature(name, vocabulary_size=9) for name in ("user", "film")])
        >>> recipe = Recipe(model="nfm", config={"embedding_dim": 4}, optimizer="lazyadam", learning_rate=0.01)
        >>> recipe.build(features).optimizer.name
        'LazyAdam'
    """

    def __post_init__(self) -> None:
        arguments.choice("schedule", self.schedule, SCHEDULES)
        if self.optimizer is not None and str(self.optimizer).lower() not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; received {self.optimizer!r:.60}.")
        if self.learning_rate is not None:
            arguments.not_negative("learning_rate", self.learning_rate)
        for name in ("config", "optimizer_arguments", "schedule_arguments"):
            arguments.named_values(name, getattr(self, name))
        if "learning_rate" in self.optimizer_arguments:
            raise ValueError(
                f"optimizer_arguments are those beside the rate; received the rate "
                f"{self.optimizer_arguments['learning_rate']!r}. Give learning_rate= instead."
            )
        arguments.count("batch_size", self.batch_size)
        if self.rate_rows is not None:
            arguments.count("rate_rows", self.rate_rows)
        self._check_schedule()
        if self.passes is not None:
            arguments.positive("passes", self.passes)

    def _check_schedule(self) -> None:
        schedule_of(self.schedule, self.schedule_arguments)
        if self.averaging is not None:
            arguments.share("averaging", self.averaging)
        if self.schedule not in OVER_STEPS:
            return
        if self.learning_rate is None and self.optimizer is not None and self._optimizer_name not in _RATED:
            raise ValueError(
                f'schedule="{self.schedule}" needs the highest rate of {self.optimizer}; received none. Give '
                "learning_rate= too."
            )
        if self.averaging:
            raise ValueError(
                f'Averaged weights gain nothing with schedule="{self.schedule}", whose rate ends low; received '
                f"{self.averaging!r}. Leave averaging= out, or take a constant rate or a plateau."
            )

    @classmethod
    def of(cls, configuration: Configuration) -> "Recipe":
        """Returns the recipe of a candidate or of what was written."""
        return cls(**vars(configuration))

    @classmethod
    def default(cls, model: str = MODEL) -> "Recipe":
        """Returns how a model is trained where nobody says more: what did best on validation over several sets.

        The models themselves have their papers' defaults: one member. One of another package is trained as it is.

        Args:
            model: The model's registered name.

        Raises:
            LookupError: No model of that name is installed.
        """
        return (
            cls(model=model, config={"members": MEMBERS}, averaging=AVERAGING) if _is_ours(model) else cls(model=model)
        )

    @property
    def features(self) -> FeatureSpec | None:
        """The features that the config holds; None where it holds none."""
        written = self.config.get("features")
        if written is not None and not isinstance(written, Mapping):
            raise ValueError(
                f'The features in a config are an object with a list "features"; received {type(written).__name__}. '
                "Write them with FeatureSpec.to_dict."
            )
        return None if written is None else FeatureSpec.from_dict(dict(written))

    def without_features(self) -> "Recipe":
        """Returns the recipe for any features: those in its config left out."""
        return replace(self, config={name: value for name, value in self.config.items() if name != "features"})

    def check_arguments(self) -> None:
        """Checks, before any row is read, that a model of this package takes its config, and the optimizer its own.

        Models of others may look at their features when they are made; `build` asks them.

        Raises:
            ValueError: The model or the optimizer has no such argument, or one is out of its range.
            LookupError: A model or a block that is not installed.
        """
        self._optimizer(steps=1)
        if _is_ours(self.model):
            self._made(None)

    def build(self, features: FeatureSpec | None = None, *, steps: int | None = None) -> Any:
        """Returns the compiled model, its variables made.

        Args:
            features: What the model reads; what the config holds if not given.
            steps: Steps of a whole training, over which the rate of a schedule rises and falls.

        Raises:
            ValueError: An argument that the model does not take, or a schedule over steps without them.
            LookupError: A model or a block that is not installed.
        """
        features = self.features if features is None else features
        if features is None:
            raise ValueError("A model needs to know its features; received none. Give features=.")
        if self.schedule in OVER_STEPS and steps is None:
            raise ValueError(f'schedule="{self.schedule}" needs to know over how many steps. Give steps too.')
        model = self._made(features)
        told: dict[str, Any] = {} if self.jit_compile is None else {"jit_compile": self.jit_compile}
        told |= {"averaging": self.averaging} if self.averaging else {}
        model.compile(self._optimizer(steps), **told)
        return model

    @property
    def rate(self) -> float:
        """What the optimizer's rate is, or the highest of its schedule; imports TensorFlow."""
        from nfm_tfrs.optimizers import default_rate

        rate = default_rate(self.optimizer or ROW_WISE[0]) if self.learning_rate is None else self.learning_rate
        return rate if self.rate_growth == 1 else rate * self.rate_growth

    @property
    def _optimizer_name(self) -> str:
        """The optimizer's name; that of a model's own where none is told, which XLA decides on."""
        return self.optimizer.lower() if self.optimizer else ROW_WISE[0] if self.jit_compile is not True else "adagrad"

    def _optimizer(self, steps: int | None) -> Any:
        """The optimizer; None for the model's own."""
        from nfm_tfrs.models.serial import check_known  # TensorFlow: a recipe is told without it
        from nfm_tfrs.optimizers import named_optimizer

        check_known(dict(self.optimizer_arguments))
        schedule = schedule_of(self.schedule, self.schedule_arguments)
        told = self.optimizer or self.learning_rate is not None or self.optimizer_arguments
        if not told and self.rate_growth == 1 and not isinstance(schedule, Cosine):
            return None
        rate: Any = self.rate
        if isinstance(schedule, Cosine) and steps is not None:
            rate = schedule.over(rate, steps=steps)
        return named_optimizer(self._optimizer_name, rate, **self.optimizer_arguments)

    def fit(
        self,
        data: "Prepared",
        *,
        rows: Any = None,
        model: Any = None,
        seed: int = 0,
        epochs: int | None = None,
        patience: int | None = None,
        callbacks: Sequence[Any] = (),
        tensorboard: Path | None = None,
        checkpoints: Checkpoints | None = None,
        pretrained: Mapping[str, Any] | None = None,
        members: int = 1,
    ) -> Trained:
        """Trains a model, stops early on the validation rows, and keeps the best weights.

        Args:
            data: The prepared rows; see `nfm_tfrs.data.prepare`.
            rows: Batches of the training rows where they do not fit into memory; see `nfm_tfrs.data.stream`. With
                checkpoints a function that returns them: a pass for None, or from a `Position` on without end.
            model: A compiled model that goes on, such as `nfm_tfrs.grow` returns, of the same features as `data`; a new
                one of this recipe if not given.
            seed: Seed of the weights, of dropout and of the order of rows.
            epochs: Passes over the training rows at most; as many as the recipe's passes if not given. A schedule is
                over these where the recipe has none.
            patience: Epochs without a better validation score before it stops. If not given a rate that falls to an end
                is not stopped, and keeps its best epoch all the same.
            callbacks: Further Keras callbacks, such as one that shows progress.
            tensorboard: Folder for TensorBoard logs; none are written without it. With checkpoints one of this training
                alone: what was logged behind the checkpoint that it goes on from is taken out.
            checkpoints: Where and how often to write down where the training is. Where there are such, it goes on from
                the last one, bit for bit as if it had never ended: weights, optimizer, order of rows, dropout, metrics
                and history, on the same machine, versions and threads.
            pretrained: By feature the vectors that the rows of a new model begin at; see `nfm_tfrs.load_pretrained`.
            members: Trainings, of seeds that follow each other; of several the model is the mean of their logits, see
                `nfm_tfrs.models.ensemble_of`. Each reads `rows` anew, or what a list of them holds for it, and has a
                folder of its own among the checkpoints and logs; what was trained whole there is not trained again.

        Returns:
            The model with the weights of its best epoch, and the metrics of each epoch.

        Raises:
            ValueError: An argument out of its range, a frozen feature of a new model without vectors, a loss that
                became infinite or NaN, checkpoints of another training, or what `build` refuses.
            OSError: Nothing can be written into the checkpoints' folder.
        """
        if epochs is not None:
            arguments.count("epochs", epochs)
        passes, patience = self.lasting(epochs, patience)
        epochs = epochs or math.ceil(passes)
        if model is not None and model.features != data.features:
            raise ValueError(
                "The model reads other features than those that the rows were prepared with. Prepare them with "
                "features=model.features."
            )
        if arguments.count("members", members, arguments.MOST_MODELS) > 1:
            told = {"epochs": epochs, "patience": patience, "callbacks": callbacks, "pretrained": pretrained}
            return self._members({**told, "model": model}, data, rows, members, seed, tensorboard, checkpoints)
        if model is None:
            check_frozen(data.features, pretrained or {}, _FROZEN)
        from nfm_tfrs.keras_compat import keras
        from nfm_tfrs.models.averaging import averages_of
        from nfm_tfrs.training.fit import fit
        from nfm_tfrs.training.stopping import calibration

        course = None
        if checkpoints is not None:
            told = {"seed": seed, "epochs": epochs, "patience": patience}
            course = self._course(checkpoints, data, rows, told, epochs, tensorboard)
        rows = self._opened(data, rows, seed, None if course is None else course.start)
        steps = len(rows) if course is None else course.steps
        keras.utils.set_random_seed(seed)
        coverage: list[Coverage] = []
        if model is None:
            whole = math.ceil(passes * steps) if self.schedule in OVER_STEPS else None
            model, coverage = self._begun(data, whole, None if course is None else course.day, pretrained or {})
        # Of a stream, cached or not, a pass has so many steps that the statistics have arrived.
        averaged = averages_of(model) is not None and "train" in data.encoded and not data.streamed
        history = fit(
            model,
            rows,
            data.valid.dataset(4096),
            epochs=epochs,
            patience=patience,
            callbacks=callbacks,
            tensorboard=tensorboard,
            course=course,
            plateau=plateau_of(self),
            calibration=calibration(data.train, self.batch_size, seed) if averaged else (),
        )
        return Trained(model, history, () if course is None else course.resumed, coverage)

    def lasting(self, epochs: int | None = None, patience: int | None = None) -> tuple[float, int]:
        """Returns over how many passes a training goes, and how many epochs it waits for a better validation score.

        Args:
            epochs: Passes that it was told; None where it was told none.
            patience: Epochs that it was told to wait; None where it was told none.

        Raises:
            ValueError: The patience is below 0.
        """
        falls = self.schedule in OVER_STEPS
        passes = self.passes or epochs or (FALLING_EPOCHS if falls else EPOCHS)
        if patience is None:
            return passes, math.ceil(passes) if falls else PATIENCE
        arguments.not_negative("patience", patience)
        return passes, patience

    def _opened(self, data: "Prepared", rows: Any, seed: int, start: "Position | None") -> Any:
        """The batches to train on, from a position on where there is one."""
        if rows is None:
            return data.train.dataset(self.batch_size, shuffle=True, seed=seed, start=start)
        return _entered(rows(start), start) if callable(rows) else rows

    def _begun(
        self, data: "Prepared", steps: int | None, day: int | None, pretrained: Mapping[str, Any]
    ) -> tuple[Any, "list[Coverage]"]:
        """A new model that knows what its training rows tell, and how many values have got a pretrained row."""
        from nfm_tfrs.models.pretrained import load_pretrained
        from nfm_tfrs.training.fit import adapt_labels
        from nfm_tfrs.training.statistics import adapt_statistics

        model = self.build(data.features, steps=steps)
        if "train" in data.encoded:
            adapt_labels(model, data.train)
        adapt_statistics(model, data, day=day)
        return model, load_pretrained(model, pretrained) if pretrained else []

    def _members(
        self,
        told: Mapping[str, Any],
        data: "Prepared",
        rows: Any,
        members: int,
        seed: int,
        logs: Path | None,
        checkpoints: Checkpoints | None,
    ) -> Trained:
        """Trains several models, and returns their ensemble."""
        if told.get("model") is not None:
            raise ValueError(f"A model that goes on is one; received members={members} beside it. Leave out one.")
        from nfm_tfrs.training.members import Training, fit_members

        def settings(member: Training) -> dict[str, Any]:
            known = {"seed": member.seed, "epochs": told.get("epochs"), "patience": told.get("patience")}
            return self._known(data, member.rows, known)[1]

        def fit(member: Training) -> Trained:
            where: dict[str, Any] = {"tensorboard": member.logs, "checkpoints": member.checkpoints}
            return self.fit(data, rows=member.rows, seed=member.seed, **told, **where)

        callbacks = told.get("callbacks") or ()
        trainings = Training.all(members, rows=rows, seed=seed, logs=logs, checkpoints=checkpoints)
        return fit_members(self.model, trainings, fit, settings, callbacks)

    def _course(
        self,
        checkpoints: Checkpoints,
        data: "Prepared",
        rows: Any,
        told: Mapping[str, Any],
        epochs: int,
        logs: Path | None,
    ) -> "Course":
        """Where a training with checkpoints begins, and what makes it another than others."""
        from nfm_tfrs.training.resume import Course

        steps, known = self._known(data, rows, told)
        return Course(checkpoints, known, steps=steps, epochs=epochs, logs=logs)

    def _known(self, data: "Prepared", rows: Any, told: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """The steps of a pass, and all that a training depends on, plain JSON types by name."""
        from nfm_tfrs.data.parts import fingerprint

        if rows is None:
            steps, parts, streamed = -(-len(data.train) // self.batch_size), [data.train, data.valid], {}
        elif callable(rows):
            steps, parts, streamed = (
                len(rows(None)),
                [data.valid],
                {"files": files_state(data.streamed, contents=False)},
            )
        else:
            raise ValueError(
                f"With checkpoints rows is a function of the position to begin at; received {type(rows).__name__}. "
                "Give lambda start: recipe.stream(paths, data, seed=seed, start=start)."
            )
        features = {feature.name: _hash(feature_to_dict(feature)) for feature in data.features}
        known = {**self.without_features().to_json(), **told, **streamed}
        if self.schedule in OVER_STEPS:  # over which the rate falls, where an earlier version had passes of its own
            known |= {"training": {**self.training, "passes": self.passes or told["epochs"]}}
        known |= {"features": features, "rows": fingerprint(*parts)[:16]}
        return steps, known

    def stream(
        self, paths: Sequence[str | Path], data: "Prepared", *, seed: int, start: "Position | None" = None
    ) -> Any:
        """Returns the batches of training rows that do not fit into memory, for `fit` to train on.

        Args:
            paths: The Parquet files of the rows.
            data: The other rows, prepared with `stream=True`; where it holds the encoded rows too, they are taken.
            seed: Seed of the order of rows.
            start: Where an iterator begins, without end; None makes each iterator a pass.
        """
        from nfm_tfrs.data.pipeline.streaming import stream

        assert data.target is not None  # of rows to train on
        return stream(
            paths,
            data.features,
            data.target,
            batch_size=self.batch_size,
            shuffle=True,
            seed=seed,
            transform=data.encoder.encode_arrays,
            encoded=data.encoded.get("train"),
            start=start,
        )

    def _made(self, features: FeatureSpec | None) -> Any:
        """The model, not compiled; without features not built either."""
        config = dict(self.without_features().config)
        config |= {} if self.precision is None else {"dtype": self.precision}
        from nfm_tfrs.models.serial import check_known, only_known  # TensorFlow

        check_known(config)
        try:
            with only_known():
                return get_model(self.model, features=features, **config)
        except TypeError as error:  # an argument that the model does not have, or of another type
            settings = ", ".join(f"{name}={value!r:.200}" for name, value in config.items())
            why = str(error).rstrip(".")
            raise ValueError(
                f"{self.model} cannot be made with {settings}: {why}. Correct or remove the argument."
            ) from error


def _is_ours(model: str) -> bool:
    """Whether this package provides a model."""
    return models.provider(models.spec(model).name).startswith("nfm-tfrs ")


def _entered(batches: Any, start: "Position | None") -> Any:
    """Batches as a training takes them, which begin at a position without end where there is one."""
    from nfm_tfrs.keras_compat import tf

    if start is not None and int(batches.cardinality()) != tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"With checkpoints rows begins at the position that it is given and has no end; received {len(batches)} "
            "batches. Give what recipe.stream(paths, data, seed=seed, start=start) returns."
        )
    return batches


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Best:
    """What a search chose: the recipe, and how its own model was made from it.

    Args:
        recipe: The recipe, with the features in its config.
        winner: How the search's model was made; None in files of version 0.1.0.
        slices: Slices of a whole training of the search.
        fingerprint: Hash of the rows that it trained and chose on.
        histories: What rows hold of what their user did before, as a person writes it.
        members: Trainings, of seeds that follow each other, whose mean a run's model is.
    """

    recipe: Recipe
    winner: Winner | None = None
    slices: int | None = None
    fingerprint: str | None = None
    histories: tuple[str, ...] = ()
    members: int = 1

    def to_json(self) -> dict[str, Any]:
        """Returns this as plain JSON types; `get_model(best["model"], **best["config"])` makes the model again."""
        recipe = self.recipe
        made = {} if self.winner is None else {**self.winner.to_json(), "of": self.slices, "data": self.fingerprint}
        told: dict[str, Any] = {"histories": list(self.histories)} if self.histories else {}
        told |= {"members": self.members} if self.members > 1 else {}
        # The config last: its features are long.
        return {"model": recipe.model, "training": recipe.training, "winner": made, **told, "config": recipe.arguments}

    @classmethod
    def of_run(cls, record: RunRecord, features: FeatureSpec) -> "Best":
        """Returns the recipe of a run, and how a search made its model, if the run repeated that.

        Args:
            record: What the run's run.json holds.
            features: The run's features.

        Raises:
            ValueError: The record holds no recipe.
        """
        if record.recipe is None:
            raise ValueError("it holds no recipe")
        return cls(
            recipe=Recipe.of(replace(record.recipe, config={**record.recipe.config, "features": features.to_dict()})),
            winner=record.winner,
            slices=record.slices,
            fingerprint=None if record.source is None else record.source.fingerprint,
            histories=record.histories,
            members=record.members,
        )

    @classmethod
    def from_file(cls, path: Path) -> "Best":
        """Returns what a search wrote into its best.json.

        Args:
            path: A best.json, or the run.json of a run whose features.json lies beside.

        Raises:
            FileNotFoundError: There is nothing at the path.
            ValueError: It is neither of the two, or a newer version wrote it.
        """
        if not path.exists():
            raise FileNotFoundError(f"There is no {path}. Give the best.json that tune wrote, or a run's run.json.")
        try:
            written = read_file(path)
            if isinstance(written, Mapping) and "recipe" in written:
                return cls.of_run(RunRecord.from_file(path), read_features(path.with_name("features.json")))
            check_format(written, "best.json")
            made = written.get("winner") or {}
            best = cls(
                recipe=Recipe.of(Configuration.from_json(written)),
                winner=Winner.from_json(made) if made else None,
                slices=read(made, "of", int | None, None),
                fingerprint=read(made, "data", str | None, None),
                histories=read_histories(written),
                members=read(written, "members", int, 1),
            )
            _ = best.recipe.features  # read once here, while the file's name is known
            return best
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = reason(error)
            raise ValueError(f"{path} is no best.json of a search: {why}. Pass the one that tune wrote.") from error
