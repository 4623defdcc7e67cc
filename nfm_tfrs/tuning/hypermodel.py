"""What there is to search: models, interaction blocks and their own arguments, structures, sizes, optimizers."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any, get_args

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import misfit
from nfm_tfrs.configuration import Configuration
from nfm_tfrs.embedding.table import FusedEmbedding
from nfm_tfrs.features.feature import Feature
from nfm_tfrs.features.number_encoders import LINEAR, NUMBER_ENCODERS, least_boundaries
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import forgotten_gradients, load_keras_tuner
from nfm_tfrs.models.ranking import RankingModel, Structure
from nfm_tfrs.training.recipe import AVERAGING, MEMBERS, SCHEDULES, Recipe
from nfm_tfrs.training.schedules import OVER_STEPS
from nfm_tfrs.tuning.settings import TRAINING
from tfrs_registry import PluginWarning, RegistryError, blocks
from tfrs_registry import models as model_registry

keras_tuner = load_keras_tuner()

OPEN = "ranking"  # the model whose blocks and structure are searched; every other one has its own
OPTIMIZERS = {"lazyadagrad": "adagrad", "lazyadam": "adam", "adagrad": "adagrad", "adam": "adam"}
RATES = {"adagrad": (0.01, 0.3, 0.05), "adam": (3e-4, 1e-2, 3e-3)}  # lowest, highest, default
ACCUMULATORS = (0.1, 1e-3)  # that an Adagrad starts with; the optimizers' own one first
WARM_UPS = (0.2, 0.05)  # of one_cycle, as shares of the steps
LOOKS = 4  # slices without a better score after which a plateau divides the rate; half of a search's default patience
AVERAGED = ("constant", "plateau")  # rates whose weights averaging helps
DECAYS = (AVERAGING, 0.0)  # of averaged weights, the default first; 0: there are none
PENALTIES = (0.0, 1e-3, 1e-2, 1e-1)  # embedding_l2
PENALTIES_BY = ("batch", "frequency")  # what the penalty of a row is divided by
# Arguments by their values, the default first; what a model does not take is not drawn.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "label_smoothing": (0.0, 0.05),
    "self_ensemble": (0.0, 1.0),
    "field_dropout": (0.0, 0.1),
}
RARE = ("label_smoothing", "self_ensemble", "field_dropout")  # which mostly help none, and two of them less than one
DECLARED = "declared"  # the choice of what the features say themselves
_DROPOUTS = ("dropout", "interaction_dropout")
_HISTORIES = ("mean", "attention")
_TRAINING = tuple(name for name in TRAINING if name != "batch_size")  # which a tuner draws


class RankingHyperModel(keras_tuner.HyperModel):  # type: ignore[name-defined]
    """A search space of ranking models, for any tuner of KerasTuner.

    The blocks' arguments are those that each block's `search_space` draws: a block of any installed package takes
    part. How bags that have a target are pooled is searched where there are such bags: as they say, by their mean, or
    by target attention. The encoder of numbers is searched where features leave numbers linear, `"buckets"` and
    `"piecewise"` where each of these has limits. What cannot be built is not in the space: blocks that the features are
    too few for, or whose number differs by batch, and structures that need it known.

    Args:
        features: Features that every model reads.
        models: Registered models. Blocks, structure and tower are searched of `"ranking"`; every other one keeps its
            own, and only sizes and regularisation are searched.
        blocks: Registered blocks; all that fit if not given.
        structures: Places of the tower of `"ranking"` to choose from: stacked, parallel, concat.
        precisions: Dtypes; see `RankingModel`.
        fixed: Hyperparameters that are not searched, or any other argument of the models, by name: `embedding_dim=16`,
            `optimizer="adam"`, `learning_rate=0.01`, `jit_compile=True`, `batch_norm_momentum=0.9`.
        task: What the models predict: `"binary"` or `"regression"`.
        decay_steps: Steps of a whole training, which this package's search knows; schedules of the rate and averaged
            weights are then searched as well.

    Raises:
        ValueError: An empty list, a structure that there is not, a key in `fixed` that no model knows, something in it
            that is no JSON, blocks where none are searched, a block that does not fit the features, or one whose search
            space fails.
        LookupError: A model or block that is not installed.

    Example:
        >>> from nfm_tfrs import CategoricalFeature
        >>> features = [CategoricalFeature(name, vocabulary_size=9) for name in ("user", "item")]
        >>> hypermodel = RankingHyperModel(features, blocks=["fm", "cross"], fixed={"embedding_dim": 8})
        >>> hypermodel.candidate(keras_tuner.HyperParameters()).config["interaction"]
        {'name': 'fm', 'config': {}}
    """

    def __init__(
        self,
        features: FeatureSpec | Sequence[Feature],
        *,
        models: Sequence[str] = (OPEN,),
        blocks: Sequence[str] | None = None,
        structures: Sequence[str] = get_args(Structure),
        precisions: Sequence[str] = ("float32",),
        fixed: Mapping[str, Any] | None = None,
        task: Any = "binary",
        decay_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.features = features if isinstance(features, FeatureSpec) else FeatureSpec(tuple(features))
        # As the registry spells them, which takes "NFM" for "nfm".
        self.models = tuple(
            dict.fromkeys(model_registry.spec(name).name for name in arguments.listed("models", models))
        )
        self.structures = arguments.listed("structures", structures)
        self.precisions = arguments.listed("precisions", precisions)
        self.fixed = arguments.plain("fixed", fixed or {})
        self.task = task
        self.decay_steps = decay_steps
        self._classes = {name: model_registry.load(name) for name in self.models}
        self._check_fixed()
        for structure in self.structures:
            if structure not in get_args(Structure):
                known = ", ".join(get_args(Structure))
                raise ValueError(f"structures may hold {known}; received {structure!r}. Correct or remove it.")
        self.num_fields = self._num_fields()
        if self.num_fields is None:
            if "stacked" not in self.structures:
                raise ValueError(
                    f"Where the number of fields differs by batch, the structure is stacked; received {structures!r}. "
                    'Add "stacked".'
                )
            self.structures = ("stacked",)
        searched = OPEN in self.models and "interaction" not in self.fixed
        if blocks is not None and not searched:
            raise ValueError(
                f"Blocks are searched of the model {OPEN!r} where no interaction is fixed; received {blocks!r} for "
                f"{', '.join(self.models)}. Leave blocks out."
            )
        self.blocks = self._fitting(blocks) if searched else {}
        self.number_encoders = number_encoders(self.features)

    # --- what a tuner calls

    def build(self, hp: Any) -> Any:
        """Returns a compiled model, its variables made."""
        return self.built(self.candidate(hp))

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns what `model.fit` does; nothing of it stays when the model goes."""
        del hp
        with forgotten_gradients():
            return model.fit(*args, **kwargs)

    def built(self, candidate: Configuration, decay_steps: int | None = None) -> Any:
        """Returns the compiled model of a candidate, its variables made.

        Args:
            candidate: A model and its training, as `candidate` returns it.
            decay_steps: Steps of a whole training, where the batch size decides on them.
        """
        with forgotten_gradients():
            return Recipe.of(candidate).build(self.features, steps=decay_steps or self.decay_steps)

    def candidate(self, hp: Any) -> Configuration:
        """Returns what `hp` says: the model's name, its config without the features, and how it is trained."""
        name = self._choice(hp, "model", self.models)
        drawn: dict[str, Any] = {}
        if OPEN in self.models:
            with self._when(hp, "model", [OPEN]):
                drawn = self._open(hp) if name == OPEN else {}
        drawn |= (
            self._numbers(hp, name)
            | self._sizes(hp)
            | self._options(hp, name)
            | self._histories(hp, name)
            | {"dtype": self._choice(hp, "dtype", self.precisions), "task": self.task}
        )
        drawn |= {key: value for key, value in self.fixed.items() if key not in _TRAINING}
        known = _parameters(self._classes[name])
        config = {key: value for key, value in drawn.items() if "**" in known or key in known}
        return Configuration(model=name, precision=config.pop("dtype", None), config=config, **self._training(hp))

    def with_members(self, candidate: Configuration) -> Configuration:
        """Returns a candidate of as many members as a model that is trained without a search has.

        One that has been fixed, or whose model has none, is returned as it is.

        Args:
            candidate: A model, and how it is trained.
        """
        if "members" in self.fixed or not self.takes(candidate.model, "members"):
            return candidate
        return replace(candidate, config={**candidate.config, "members": MEMBERS})

    def check_arguments(self) -> None:
        """Checks that each model can be made with what is fixed of it, and the first value of everything else.

        Raises:
            ValueError: An argument out of its range, or one that does not go with the others.
        """
        for name in self.models if self.fixed else ():
            hp = keras_tuner.HyperParameters()
            hp.values["model"] = name
            candidate = self.candidate(hp)
            # A block that is drawn has arguments of its own, which only its trials say.
            drawn = {"interaction"} - set(self.fixed)
            config = {key: value for key, value in candidate.config.items() if key not in drawn}
            Recipe.of(replace(candidate, config=config)).check_arguments()

    def problem(self, candidate: Configuration) -> str | None:
        """Returns why a candidate cannot be made for these features, or not be trained; None where it can.

        No table is made for that: a block of somebody else may draw arguments that do not go together.
        """
        own = signature(self._classes[candidate.model]).parameters
        try:
            Recipe.of(candidate)
        except ValueError as error:
            return str(error)
        drops = [candidate.config.get(name, getattr(own.get(name), "default", 0.0)) for name in _DROPOUTS]
        if candidate.config.get("self_ensemble") and not any(drops):
            return "two passes that each learn from their mean need dropout"
        interaction = candidate.config.get("interaction")
        if not isinstance(interaction, Mapping) or self.num_fields is None:
            return None
        try:
            blocks.load(interaction["name"])(**interaction.get("config", {})).cost(
                self.num_fields, candidate.config["embedding_dim"]
            )
        except Exception as error:  # noqa: BLE001 - a block of another package may raise anything
            return str(error) or type(error).__name__
        return None

    # --- the space

    def _open(self, hp: Any) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        if "interaction" not in self.fixed:
            # NFM's first: it is the default.
            names = sorted(self.blocks, key=lambda name: name != "bi_interaction")
            block = self._choice(hp, "interaction", names)
            for name, cls in self.blocks.items():
                with self._when(hp, "interaction", [name], choices=self.blocks), hp.name_scope(name):
                    if name == block:
                        drawn |= {"interaction": {"name": name, "config": _drawn_config(name, cls, hp)}}
        layers = 0
        if "hidden_units" not in self.fixed:
            layers = hp.Int("layers", 0, 3, default=1)
            with hp.conditional_scope("layers", [1, 2, 3]):
                units = hp.Choice("units", [32, 64, 128, 256], default=64)
                drawn |= {"hidden_units": [units] * layers if layers else []}
        deep = bool(self.fixed.get("hidden_units", layers))
        with nullcontext() if "hidden_units" in self.fixed else hp.conditional_scope("layers", [1, 2, 3]):
            if deep:  # with no tower the structures are one
                drawn |= {
                    "structure": self._choice(hp, "structure", self.structures),
                    "batch_norm": self._drawn(hp.Boolean, "batch_norm", default=True),
                    "dropout": self._drawn(hp.Choice, "dropout", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], default=0.2),
                }
        return drawn | {"interaction_batch_norm": self._drawn(hp.Boolean, "interaction_batch_norm", default=True)}

    def _numbers(self, hp: Any, model: str) -> dict[str, Any]:
        """The encoder of numbers, of models whose numbers are fields and where there is one to choose."""
        takers = [name for name in self._takers("number_encoder") if self._has_number_fields(name)]
        if "number_encoder" in self.fixed or len(self.number_encoders) < 2:
            return {}
        encoder = self._taken(hp, model, takers, "number_encoder", self.number_encoders)
        return {} if encoder == LINEAR else {"number_encoder": encoder}

    def _has_number_fields(self, model: str) -> bool:
        own = getattr(_parameters(self._classes[model]).get("numeric"), "default", "field")
        return bool(self.fixed.get("numeric", own) == "field")

    def _sizes(self, hp: Any) -> dict[str, Any]:
        penalty = self._drawn(hp.Choice, "embedding_l2", list(PENALTIES), default=PENALTIES[0])
        drawn = {
            "embedding_dim": self._drawn(hp.Choice, "embedding_dim", [8, 16, 32, 64, 128], default=64),
            "interaction_dropout": self._drawn(
                hp.Choice, "interaction_dropout", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7], default=0.5
            ),
            "embedding_l2": penalty,
        }
        by = "embedding_l2_by"
        if by not in self.fixed and self.decay_steps:  # other tuners count no rows, which it needs
            told = "embedding_l2" in self.fixed
            with nullcontext() if told else hp.conditional_scope("embedding_l2", list(PENALTIES[1:])):
                drawn |= {by: hp.Choice(by, list(PENALTIES_BY), default=PENALTIES_BY[0])} if penalty else {}
        return drawn

    def _histories(self, hp: Any, model: str) -> dict[str, Any]:
        """How bags that have a target are pooled, where there are some and each is one field already."""
        if "history_combiner" in self.fixed or not self.features.histories:
            return {}
        declared = {bag.combiner for bag in self.features.histories}
        if None in declared:  # the number of fields would differ with it
            return {}
        others = [combiner for combiner in _HISTORIES if declared != {combiner}]
        takers = self._takers("history_combiner")
        drawn = self._taken(hp, model, takers, "history_combiner", [DECLARED, *others])
        return {"history_combiner": None if drawn == DECLARED else drawn}

    def _options(self, hp: Any, model: str) -> dict[str, Any]:
        """What is off by default, of the models that take it."""
        known = _parameters(RankingModel)
        return {
            name: self._taken(hp, model, self._takers(name), name, values)
            for name, values in OPTIONS.items()
            if name in known and name not in self.fixed and (name != "label_smoothing" or self.task == "binary")
        }

    def _training(self, hp: Any) -> dict[str, Any]:
        optimizer = self._choice(hp, "optimizer", list(OPTIMIZERS))
        family = OPTIMIZERS.get(optimizer)
        rate, further = self.fixed.get("learning_rate"), dict(self.fixed.get("optimizer_arguments", {}))
        for known, (low, high, default) in RATES.items() if rate is None else ():
            with self._of_family(hp, known):
                if family == known:
                    rate = hp.Float("learning_rate", low, high, sampling="log", default=default)
        if "optimizer_arguments" not in self.fixed:
            with self._of_family(hp, "adagrad"):
                if family == "adagrad":
                    value = hp.Choice("initial_accumulator_value", list(ACCUMULATORS), default=ACCUMULATORS[0])
                    further = {} if value == ACCUMULATORS[0] else {"initial_accumulator_value": value}
        training = {"optimizer": optimizer, "learning_rate": rate, "optimizer_arguments": further}
        others = ("jit_compile", "rate_rows")
        return training | self._course(hp) | {key: self.fixed[key] for key in others if key in self.fixed}

    def _course(self, hp: Any) -> dict[str, Any]:
        """What the rate does over a training, and whether the weights are averaged."""
        # What others than the search's own training do not know is not for them: they give no steps.
        schedules = SCHEDULES if self.decay_steps else SCHEDULES[:1]
        schedule = self._choice(hp, "schedule", schedules)
        own = dict(self.fixed.get("schedule_arguments", {}))
        decay = self.fixed.get("averaging") if schedule in AVERAGED else None
        if schedule == "plateau" and not own:
            own = {"looks": LOOKS}
        if "schedule_arguments" not in self.fixed and "one_cycle" in schedules:
            with self._when(hp, "schedule", ["one_cycle"], choices=schedules), hp.name_scope("one_cycle"):
                if schedule == "one_cycle":
                    own = {"warm_up": hp.Choice("warm_up", list(WARM_UPS), default=WARM_UPS[0])}
        if "averaging" not in self.fixed and self.decay_steps:
            with self._when(hp, "schedule", AVERAGED, choices=schedules):
                if schedule in AVERAGED:
                    decay = hp.Choice("averaging", list(DECAYS), default=DECAYS[0])
        return {"schedule": schedule, "schedule_arguments": own, "averaging": decay or None}

    @contextmanager
    def _of_family(self, hp: Any, family: str) -> Iterator[None]:
        """The scope in which the optimizer is one of a family, which names what is drawn in it."""
        names = [name for name, of in OPTIMIZERS.items() if of == family]
        with self._when(hp, "optimizer", names, choices=OPTIMIZERS), hp.name_scope(family):
            yield

    # --- drawing

    def _drawn(self, draw: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.fixed[name] if name in self.fixed else draw(name, *args, **kwargs)

    def _choice(self, hp: Any, name: str, values: Sequence[Any]) -> Any:
        """One of the values; no hyperparameter where there is but one, or a fixed one."""
        if name in self.fixed:
            return self.fixed[name]
        return values[0] if len(values) == 1 else hp.Choice(name, list(values), default=values[0])

    def takes(self, model: str, argument: str) -> bool:
        """Returns whether a model takes an argument."""
        known = _parameters(self._classes.get(model) or model_registry.load(model))
        return argument in known or ("**" in known and argument in _parameters(RankingModel))

    def _takers(self, argument: str) -> list[str]:
        """The models that take an argument."""
        return [name for name in self.models if {argument, "**"} & set(_parameters(self._classes[name]))]

    def _taken(self, hp: Any, model: str, takers: Sequence[str], name: str, values: Sequence[Any]) -> Any:
        """One of the values where the model is one that takes it, the first of them for any other."""
        if not takers:
            return values[0]
        with self._when(hp, "model", takers):
            return self._choice(hp, name, values) if model in takers else values[0]

    def _when(self, hp: Any, name: str, values: Sequence[Any], choices: Any = None) -> Any:
        """The scope in which a hyperparameter has one of these values; none where it is not drawn."""
        drawn = name not in self.fixed and len(self.models if choices is None else choices) > 1
        return hp.conditional_scope(name, list(values)) if drawn else nullcontext()

    # --- checks

    def _check_fixed(self) -> None:
        known = {key for cls in self._classes.values() for key in _parameters(cls)} | set(_TRAINING)
        if any("**" in _parameters(cls) for cls in self._classes.values()):
            known |= set(_parameters(RankingModel))
        known -= {"features", "task", "**"}
        for key in self.fixed:
            if key not in known:
                raise ValueError(f"fixed may hold {', '.join(sorted(known))}; received {key!r}. Correct or remove it.")
        told = {name: self.fixed[name] for name in _TRAINING if name in self.fixed}
        Recipe(model=OPEN, **{"learning_rate": 1.0, **told})  # refuses what does not go together
        if (schedule := self.fixed.get("schedule")) in OVER_STEPS and self.decay_steps is None:
            raise ValueError(f'schedule="{schedule}" needs to know over how many steps. Pass decay_steps too.')
        optimizer = self.fixed.get("optimizer")
        if optimizer is None and (given := self.fixed.get("optimizer_arguments")):
            raise ValueError(
                f"Each optimizer has arguments of its own; received optimizer_arguments {', '.join(given)}. "
                "Fix the optimizer too."
            )
        if "learning_rate" not in self.fixed and optimizer is not None and optimizer not in OPTIMIZERS:
            raise ValueError(
                f"The rates of {', '.join(OPTIMIZERS)} are searched; received optimizer={optimizer!r}. "
                "Fix its learning_rate too."
            )

    def _num_fields(self) -> int | None:
        beside = self.fixed.get("numeric", "field") != "field"
        fields = FusedEmbedding(self.features, 1, numbers=not beside).num_fields
        bottom = self.fixed.get("numeric") == "bottom_mlp" and bool(self.features.numbers)
        return None if fields is None else fields + bottom

    def _fitting(self, names: Sequence[str] | None) -> dict[str, Any]:
        """The classes of the blocks, by name."""
        found = {}
        for name in arguments.listed("blocks", blocks.names() if names is None else names):
            try:
                name, cls = blocks.spec(name).name, blocks.load(name)
                problem = self._misfit(cls)
                if problem is None:
                    _drawn_config(name, cls, keras_tuner.HyperParameters())
            except (RegistryError, BrokenSpaceError) as error:
                if names is not None:
                    raise
                warnings.warn(f"The block {name!r} takes no part: {error}", PluginWarning, stacklevel=3)
                continue
            if problem is None:
                found[name] = cls
            elif names is not None:
                raise ValueError(f"The block {name!r} does not fit these features: {problem}. Leave it out.")
        if not found:
            raise ValueError(f"None of the blocks fits {self.num_fields} fields. Add a feature.")
        return found

    def _misfit(self, cls: Any) -> str | None:
        return None if (problem := misfit(cls, self.num_fields)) is None else f"it {problem}"


def number_encoders(features: FeatureSpec) -> tuple[str, ...]:
    """Returns the encoders that every linear number of some features can take, the linear one first; that one alone
    where there is no such number.

    Args:
        features: What models read.
    """
    limits = [len(number.boundaries or ()) for number in features.numbers if number.encoding is None]
    if not limits:
        return (LINEAR,)
    return tuple(name for name in NUMBER_ENCODERS if min(limits) >= least_boundaries(name))


class BrokenSpaceError(ValueError):
    """The search space of a block fails."""


def _drawn_config(name: str, cls: Any, hp: Any) -> dict[str, Any]:
    try:
        config: dict[str, Any] = cls.search_space(hp)
    except Exception as error:
        raise BrokenSpaceError(
            f"The search space of the block {name!r} fails: {type(error).__name__}: {error}. Leave the block out."
        ) from error
    return config


def _parameters(cls: Any) -> dict[str, Any]:
    """The parameters that a model's class, or a partial of one, takes by name; `"**"` for any other."""
    found = {}
    for name, parameter in signature(cls).parameters.items():
        found["**" if parameter.kind is Parameter.VAR_KEYWORD else name] = parameter
    return found
