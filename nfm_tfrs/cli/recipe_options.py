"""The options of a command that say what model is trained, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.training.recipe import MODEL, SCHEDULES, Best, Recipe
from nfm_tfrs.training.schedules import OVER_STEPS


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """The model and how it is trained.

    Args:
        model: A model of `tfrs-registry list --models`; nfm if not given.
        config: A best.json of tune, or a run.json of train: features, model, arguments, training; other options go
            before.
        set: Model argument NAME=VALUE, such as embedding_dim=32; repeatable. Models of this package have members=4
            if not given.
        optimizer: lazyadagrad (if not given), lazyadam, or a Keras optimizer's name.
        optimizer_set: Optimizer argument NAME=VALUE, such as initial_accumulator_value=0.001; repeatable.
        learning_rate: The optimizer's rate, or the highest of a schedule; its default if not given. That of an Adagrad
            is for steps of 256 rows, and grows with the batch.
        schedule: constant (if not given); cosine, which falls over all passes; one_cycle, which rises first; or
            plateau, which is divided when validation stalls.
        schedule_set: Schedule argument NAME=VALUE, such as warm_up=0.2; repeatable. cosine and one_cycle have warm_up
            and floor, plateau has factor, looks and drops.
        averaging: Decay of averaged weights, such as 0.999; none are averaged if not given, or 0.
        precision: float32 (if not given), mixed_bfloat16, mixed_float16, or auto: the device's fastest.
        batch_size: Rows of a training step; 256 if not given.
        epochs: Passes over the training rows at most; 50 if not given, 20 of cosine and one_cycle, as many as the
            search's, or 2 with --from.
        patience: Epochs to wait for a better validation score; 4 if not given, all of cosine and one_cycle.
        members: Trainings with seeds of their own, whose logits are averaged in one saved model; 1 if not given, or as
            many as --config says.
        repeat: Train as the search trained its own model, bit for bit on the same machine: with --config alone.
    """

    model: str | None = None
    config: Path | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    optimizer_set: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    schedule: str | None = None
    schedule_set: Mapping[str, Any] = field(default_factory=dict)
    averaging: float | None = None
    precision: str | None = None
    batch_size: int | None = None
    epochs: int | None = None
    patience: int | None = None
    members: int | None = None
    repeat: bool = False

    def __post_init__(self) -> None:
        for option, value, most in (
            ("--batch-size", self.batch_size, None),
            ("--epochs", self.epochs, None),
            ("--members", self.members, arguments.MOST_MODELS),
        ):
            if value is not None:
                arguments.count(option, value, most)
        if self.patience is not None:
            arguments.not_negative("--patience", self.patience)
        if self.precision is not None and "dtype" in self.set:
            raise ValueError("--precision and --set dtype both say what to compute in. Pass one of them.")
        if self.schedule is not None:
            arguments.choice("--schedule", self.schedule, SCHEDULES)
        others: list[Any] = [
            self.model,
            self.optimizer,
            self.learning_rate,
            self.precision,
            self.batch_size,
            self.epochs,
        ]
        others += [self.schedule, self.averaging, self.members, self.patience]
        settings = self.set or self.optimizer_set or self.schedule_set
        told = settings or any(value is not None for value in others)
        if self.repeat and (self.config is None or told):
            raise ValueError("--repeat trains as a search did: give it with --config, and nothing else of the model.")

    def best(self) -> Best:
        """Returns what --config names; the default recipe of the model without it."""
        found = Best(recipe=Recipe.default(self.model or MODEL)) if self.config is None else Best.from_file(self.config)
        if self.repeat and found.winner is None:
            raise ValueError(
                f"{self.config} does not say how a search made its model: a run, or nfm-tfrs 0.1.0, wrote it. "
                "Leave out --repeat."
            )
        return found

    def check_arguments(self, told: Recipe, best: Recipe) -> None:
        """Checks the model's arguments; where those of --config are wrong by themselves, the line names the file."""
        try:
            told.check_arguments()
        except (ValueError, TypeError) as error:
            if self.config is None:
                raise
            try:
                best.check_arguments()
            except (ValueError, TypeError):
                raise ValueError(f"{self.config}: {error}") from error
            raise

    def recipe(self, best: Recipe, task: str | None) -> Recipe:
        """Returns the recipe, options before what a best.json says; its task is that one's where no option says it."""
        known = best.config.get("task", "binary")
        if self.repeat and task not in (None, known):
            raise ValueError(f"--repeat trains the search's {known} model; received --task {task}. Leave out --task.")
        config = {name: value for name, value in self.set.items() if name != "dtype"}
        optimizer, rate = self.optimizer or best.optimizer, self.learning_rate
        same = self.optimizer in (None, best.optimizer)
        if rate is None and same:  # the rate of another says nothing
            rate = best.learning_rate
        return replace(
            best,
            model=self.model or best.model,
            config={**best.without_features().config, "task": task or known, **config},
            optimizer=optimizer,
            optimizer_arguments={**(best.optimizer_arguments if same else {}), **self.optimizer_set},
            learning_rate=rate,
            precision=self.precision or self.set.get("dtype") or best.precision,
            batch_size=best.batch_size if self.batch_size is None else self.batch_size,
            **self._scheduled(best, keeps=same or rate is not None),
        )

    def _scheduled(self, best: Recipe, *, keeps: bool) -> dict[str, Any]:
        """The schedule, its arguments, the averaging, and the passes that it is over."""
        keeps = keeps or best.schedule not in OVER_STEPS  # a plateau divides any rate
        schedule = self.schedule or (best.schedule if keeps else "constant")
        given = best.schedule_arguments if schedule == best.schedule else {}
        averaging = None if self.schedule in OVER_STEPS else best.averaging
        return {
            "schedule": schedule,
            "schedule_arguments": {**given, **self.schedule_set},
            "averaging": averaging if self.averaging is None else self.averaging,
            "passes": self.epochs or best.passes if self.schedule in OVER_STEPS else best.passes,
        }

    def going_on(self, base: Recipe, path: Path) -> Recipe:
        """Returns the recipe by which a run's model goes on: the run's, but for the rate and the size of a batch.

        Args:
            base: The run's recipe.
            path: The run's folder.

        Raises:
            ValueError: Options say what is the run's, or its rate has fallen to 0.
        """
        own: dict[str, Any] = {
            "--model": self.model,
            "--config": self.config,
            "--set": self.set or None,
            "--repeat": self.repeat or None,
        }
        own |= {"--optimizer": self.optimizer, "--optimizer-set": self.optimizer_set or None}
        own |= {"--schedule": self.schedule, "--schedule-set": self.schedule_set or None, "--averaging": self.averaging}
        own |= {"--precision": self.precision, "--members": self.members}
        for option, value in own.items():
            if value is not None:
                raise ValueError(
                    f"The model and its optimizer are those of {path}; received {option}. Leave it out, or train anew "
                    "without --from."
                )
        if base.schedule in OVER_STEPS and self.learning_rate is None:
            raise ValueError(
                f"The {base.schedule} schedule of {path} was for its own passes, and has ended with them. Pass "
                "--learning-rate, from here on a constant one."
            )
        rate = base.learning_rate if self.learning_rate is None else self.learning_rate
        size = base.batch_size if self.batch_size is None else self.batch_size
        constant: dict[str, Any] = {"schedule": "constant", "schedule_arguments": {}}
        return replace(base.without_features(), learning_rate=rate, batch_size=size, **constant)
