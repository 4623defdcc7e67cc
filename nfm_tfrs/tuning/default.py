"""The model that is trained without a search: a finalist of every search, so that none ends below it."""

import math
from typing import Any

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.data.parts import Prepared
from nfm_tfrs.evidence import Run
from nfm_tfrs.models.stop import LossNotFinite
from nfm_tfrs.training.evaluate import evaluate
from nfm_tfrs.training.recipe import MODEL, Recipe, Trained
from nfm_tfrs.training.stopping import best_epoch
from nfm_tfrs.tuning.hypermodel import AVERAGED, OPEN, RankingHyperModel
from nfm_tfrs.tuning.settings import TRAINING
from nfm_tfrs.tuning.tuner import Diverged, SliceTuner


def default_of(tuner: SliceTuner) -> Recipe:
    """Returns the recipe of the model that is trained without a search, as far as the space has it.

    That is the NFM where `"ranking"` is the first of the models and may have NFM's block and structure, and else the
    first model, each with its own defaults and with what is fixed. Where `"ranking"` may not be an NFM it is the first
    configuration of the space. The size of a batch and the precision are the defaults where the space holds them, and
    else its first.

    Args:
        tuner: The tuner of the search.
    """
    space = tuner.space
    size = Configuration(model=MODEL).batch_size
    batch_size = size if size in tuner.batch_sizes else tuner.batch_sizes[0]
    first = tuner.candidate(tuner.oracle.get_space())
    name = space.models[0]
    if name == OPEN and not _may_be_nfm(space):
        return Recipe.of(first)
    name = MODEL if name == OPEN else name
    fixed = dict(space.fixed)
    told = {key: fixed.pop(key) for key in TRAINING if key in fixed}
    precision = fixed.pop("dtype", "float32" if "float32" in space.precisions else space.precisions[0])
    if told.get("schedule", "constant") != "constant":  # which needs to know its rate
        told = {"optimizer": first.optimizer, "learning_rate": first.learning_rate} | told
    default = Recipe.default(name)
    if told.get("schedule", "constant") in AVERAGED:
        told = {"averaging": default.averaging} | told
    config = {key: value for key, value in {**default.config, **fixed}.items() if space.takes(name, key)}
    return Recipe(
        model=name,
        config={**config, "task": space.task},
        precision=None if precision == "float32" or not space.takes(name, "dtype") else precision,
        batch_size=batch_size,
        **told,
    )


def trained_default(recipe: Recipe, data: Prepared, metric: str, seed: int) -> tuple[Trained, Run]:
    """Trains the default as it is trained without a search; returns what that leaves, and what it reached.

    Args:
        recipe: What `default_of` returns.
        data: The prepared rows.
        metric: The metric that has to be finite, such as `"auc"`.
        seed: Seed of its weights, dropout and order of rows.

    Raises:
        Diverged: The loss, or the metric, became infinite or NaN.
        ValueError: What else `Recipe.fit` refuses.
    """
    try:
        trained = recipe.fit(data, seed=seed)
    except LossNotFinite as error:
        raise Diverged(str(error)) from error
    score = evaluate(trained.model, data.valid)
    if not math.isfinite(score[metric]):
        raise Diverged(f"It diverged: its val_{metric} was {score[metric]}. Lower its rate.")
    monitor, mode = trained.model.objective
    epoch, averaged = best_epoch(trained.history, monitor, mode)
    epochs = len(trained.history[monitor])
    return trained, Run(seed=seed, slice=epoch + 1, metrics=score, file="", trained=epochs, averaged=averaged)


def steps_of(recipe: Configuration, rows: int) -> int:
    """Returns the steps of a whole training without a search, over which a schedule falls.

    Args:
        recipe: The model and its training.
        rows: The number of its training rows.
    """
    return math.ceil(Recipe.of(recipe).lasting()[0] * -(-rows // recipe.batch_size))


def _may_be_nfm(space: RankingHyperModel) -> bool:
    fixed: Any = space.fixed
    block = "interaction" in fixed or "bi_interaction" in space.blocks
    return block and ("structure" in fixed or "stacked" in space.structures)
