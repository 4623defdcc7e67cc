"""A model whose numbers are standardised anew, by the moments of new rows: it predicts what it did."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal

import numpy as np

from nfm_tfrs.arguments import choice, missing_column
from nfm_tfrs.features.feature import NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.keras_compat.optimizer import inner_optimizer
from nfm_tfrs.models.copied import copied
from nfm_tfrs.models.number_weights import NumberWeights
from nfm_tfrs.models.ranking import RankingModel

# What optimizers keep for each weight, by the name that Keras gives it: the power of the gradient that it is of. Steps
# and averages of weights are of its inverse.
_GRADIENTS = {
    "m": 1,
    "v": 2,
    "vhat": 2,
    "u": 1,
    "accumulator": 2,
    "velocity": 2,
    "momentum": 0,
    "average_gradient": 1,
    "accumulated_grad": 2,
    "accumulated_delta_var": -2,
    "average": -1,
}
_AVERAGES = "average"  # of weights, which move as the weights do


def refreshed(
    model: Any, moments: Mapping[str, tuple[float, float]], *, keep: Literal["predictions", "weights"] = "predictions"
) -> Any:
    """Returns the model with numbers standardised by other means and deviations; it stays as it is itself.

    Kept are its predictions, where a number means what it did, such as a distance: it predicts what the model predicts,
    also for missing numbers, to a few units in the last place of float32 (in half precision, of that). A number
    x = (t - m) / s becomes x' = (t - m') / s', and each weight w that it is multiplied by w s' / s. What changes is how
    fast these weights learn: new numbers have a deviation of 1 again, so that their gradients are of the size that the
    optimizer's rate was chosen for. What the optimizer keeps for these weights is taken over in the new unit; all else
    is as before.

    Or kept are its weights, where a number means what it is beside the others of its day, such as a price in times of
    inflation: nothing but the means and deviations changes, and with them every prediction.

    For the predictions to stay, numbers beside the interaction (`numeric="concat"` and `"bottom_mlp"`) take the mean
    too: w (m' - m) / s goes to the bias behind them, and what a missing number counts as stays what it was
    (`NumericFeature.fill`). Numbers that are fields keep their mean. A field x v with another mean would be x' v' and a
    vector that is always there, for which an interaction has no place; their deviation is taken from the mean that
    stays.

    An encoder of numbers that is not linear has no weights to move into another unit: with one the weights can be kept,
    and its limits, which are in the column's own unit, and not the predictions.

    Numbers of more than 10⁷ deviations, before or afterwards, are bent otherwise, and predicted otherwise. A mean that
    moves by many deviations costs float32 as many units in its last place.

    Args:
        model: A `RankingModel` or one of its faces, trained or not.
        moments: The new mean and standard deviation by number, logged where the feature logs; those that are not named
            stay. `nfm_tfrs.data.moments` finds them.
        keep: What stays as it was: `"predictions"` or `"weights"`.

    Returns:
        A new model, compiled as the model was.

    Raises:
        ValueError: The model knows no features or has no numbers, it computes its output in its own way, its members'
            heads take the numbers themselves, a name is none of a plain number, a mean or deviation is none, the
            optimizer keeps what cannot follow, a number whose predictions are to be kept has an encoder that is not
            linear, or `keep` is none of the two.

    Example:
        >>> from nfm_tfrs import NFM, NumericFeature
        >>> model = NFM([NumericFeature("price", mean=10.0, std=2.0), NumericFeature("age", mean=40.0, std=9.0)])
        >>> tonight = refreshed(model, {"price": (10.0, 4.0)})
        >>> tonight.features["price"].std
        4.0
        >>> rows = {"price": [9.0, 17.0], "age": [30.0, 50.0]}
        >>> bool(abs(model.predict(rows, verbose=0) - tonight.predict(rows, verbose=0)).max() < 1e-6)
        True
    """
    choice("keep", keep, ("predictions", "weights"))
    features = _features_of(model)
    _check_names(features, moments)
    if keep == "weights":
        return _copied(model, _with(features, [_named(number, moments) for number in features.numbers]))
    _check_linear(features)
    _check_heads(model)
    slots = _slots_of(model)
    keeps_mean = model.embedding.has_number_fields
    renewed = [_renewed(number, _named(number, moments), keeps_mean=keeps_mean) for number in features.numbers]
    pairs = list(zip(renewed, features.numbers, strict=True))
    scales = np.array([now.std / before.std for now, before in pairs])
    shifts = np.array([(now.mean - before.mean) / before.std for now, before in pairs])
    new = _copied(model, _with(features, renewed))
    trained = [id(variable) for variable in new.trainable_variables]
    new_slots = _by_kind(new) if slots else {}
    for place in new.number_weights():
        _move(place, scales, shifts)
        if id(place.weight) not in trained:
            continue
        position = trained.index(id(place.weight))
        for kind, kept in new_slots.items():
            if kind == _AVERAGES:
                bias = None if place.bias is None else kept[trained.index(id(place.bias))]
                _move(place._replace(weight=kept[position], bias=bias), scales, shifts)
            else:
                _move(NumberWeights(kept[position], place.rows, None), scales ** -_GRADIENTS[kind], shifts)
    return new


def _features_of(model: Any) -> FeatureSpec:
    if not isinstance(model, RankingModel) or not model.calls_directly:
        raise ValueError(
            f"Numbers are standardised anew in models that compute as RankingModel does; received "
            f"{type(model).__name__}. Train it again on the new rows."
        )
    if model.features is None:
        raise ValueError(
            "This model does not know its features yet, and has no number to standardise anew. Call fit with data "
            "first."
        )
    if not model.features.numbers:
        raise ValueError(
            f"The model has no plain number to standardise anew: its features are "
            f"{', '.join(model.features.names):.200}. Leave this out."
        )
    return model.features


def _check_names(features: FeatureSpec, moments: Mapping[str, tuple[float, float]]) -> None:
    names = [number.name for number in features.numbers]
    for name, pair in moments.items():
        if name in features and name not in names:
            raise ValueError(f"Feature {name!r} is no plain number, and has no mean. The numbers are {names}.")
        if name not in names:
            raise missing_column(name, names, reader="moments")
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(one, Real) for one in pair):
            raise ValueError(f"moments of {name!r} are a mean and a standard deviation; received {pair!r:.60}.")


def _check_linear(features: FeatureSpec) -> None:
    for number in features.numbers:
        if number.encoding is not None:
            raise ValueError(
                f"Predictions are kept where numbers are linear; the encoder of {number.name!r} is "
                f"{number.encoding.name!r}. Keep the weights, or train the model on the new rows."
            )


def _check_heads(model: Any) -> None:
    if model.members > 1 and model.numeric == "concat" and not model.hidden_units:
        raise ValueError(
            f"The heads of members={model.members} take numbers as they are and share one bias, which cannot take the "
            "mean of each. Keep the weights, or train the model on the new rows."
        )


def _named(number: NumericFeature, moments: Mapping[str, tuple[float, float]]) -> NumericFeature:
    """The number with the moments that are named for it; refuses what are none."""
    mean, std = moments.get(number.name, (number.mean, number.std))
    return replace(number, mean=float(mean), std=float(std))


def _renewed(number: NumericFeature, named: NumericFeature, *, keeps_mean: bool) -> NumericFeature:
    """The number with moments by which its weights can be moved without a change of what is predicted."""
    if keeps_mean:
        return replace(number, std=math.hypot(named.std, named.mean - number.mean))
    # Of what a missing number counts as, x, the new one is x' = (s x + m - m') / s'.
    return replace(named, fill=(number.std * number.fill + number.mean - named.mean) / named.std)


def _with(features: FeatureSpec, numbers: Sequence[NumericFeature]) -> FeatureSpec:
    for number in numbers:
        features = features.replace(number)
    return features


def _slots_of(model: Any) -> Mapping[str, list[Any]]:
    """What the optimizer keeps, by its kind; nothing for a model that has not been compiled or not been trained."""
    found = _by_kind(model) if getattr(model, "optimizer", None) is not None else {}
    for kind, kept in found.items():
        if kind not in _GRADIENTS or len(kept) != len(model.trainable_variables):
            raise ValueError(
                f"{type(inner_optimizer(model.optimizer)).__name__} keeps {kind!r}, of which it is not known how it "
                "follows "
                "numbers that are standardised anew. Compile the model with another optimizer, such as LazyAdagrad or "
                "Adam."
            )
    return found


def _by_kind(model: Any) -> dict[str, list[Any]]:
    """What the optimizer keeps for each variable, in the variables' order, by the name of its kind."""
    found: dict[str, list[Any]] = {}
    for variable in inner_optimizer(model.optimizer).variables:
        kind, separator, _ = variable.name.partition("/")
        if separator:
            found.setdefault(kind, []).append(variable)
    return found


def _copied(model: Any, features: FeatureSpec) -> Any:
    """A model of features whose tables are as large, with all that the model has learnt."""
    new = copied(model, features, {}, {})
    new.statistics = model.statistics
    return new


def _move(place: NumberWeights, scales: np.ndarray, shifts: np.ndarray) -> None:
    """Moves weights by which numbers are multiplied, and the bias behind them, into another unit of the numbers."""
    rows = np.array(place.rows)
    weights = tf.gather(place.weight, rows, axis=-2).numpy().astype(np.float64)  # of a table two rows, not all
    if place.bias is not None:
        place.bias.assign_add((shifts @ weights).astype(np.float32))
    scaled = (weights * scales[:, None]).astype(np.float32)
    if scaled.ndim == 2:
        place.weight.scatter_update(tf.IndexedSlices(scaled, rows))
    else:  # a row of each member
        whole = place.weight.numpy()
        whole[:, rows] = scaled
        place.weight.assign(whole)
