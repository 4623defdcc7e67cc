"""Several trained models as one: the mean of their logits, in one file, one export, one answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from nfm_tfrs.features.feature import feature_to_dict
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models import description
from nfm_tfrs.models.feature_model import FeatureModel
from nfm_tfrs.models.serial import deserialized, serialized

# What a feature says of its embedding alone: an encoded batch is the same whatever it is.
_OF_EMBEDDINGS = ("combiner", "attention", "encoder", "embedding_dim", "frozen", "compression")


def ensemble_of(models: Sequence[Any]) -> "EnsembleModel":
    """Returns one model whose output is the mean of the outputs of trained models.

        logit(x) = 1/k Σ_m logit_m(x)    of k models; of a regression the mean of their predictions

    The models may differ in all but the features and the task: seeds, presets, blocks, sizes. They are copied, weights
    alone: what becomes of them later changes nothing, and the ensemble is as large as their weights together.

    Args:
        models: Models of this package that know their features; statistics and label are those of the first.

    Returns:
        The ensemble, compiled for `evaluate`; it is not trained any more.

    Raises:
        ValueError: There is no model, one is none of this package or an ensemble itself, does not know its features,
            or reads other features or has another task than the first.

    Reference:
        Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS
        2017, section 2.4; there the mean is of probabilities.

    Example:
        >>> from nfm_tfrs import NFM, CategoricalFeature
        >>> features = [CategoricalFeature(name, vocabulary_size=9) for name in ("user", "film")]
        >>> one, other = NFM(features), NFM(features, embedding_dim=8)
        >>> both = ensemble_of([one, other])
        >>> rows = {"user": [3, 4], "film": [1, 2]}
        >>> mean = (one.predict(rows, verbose=0) + other.predict(rows, verbose=0)) / 2
        >>> bool(abs(both.predict(rows, verbose=0) - mean).max() < 1e-6)
        True
    """
    models = list(models)
    _check(models)
    return assembled([weights_alone(model, f"model_{number}") for number, model in enumerate(models)])


def assembled(models: Sequence[Any]) -> "EnsembleModel":
    """Returns the ensemble of models that become parts of it, without a copy of their weights.

    Args:
        models: What `weights_alone` returned, each of another name.

    Raises:
        ValueError: As `ensemble_of` raises.
    """
    ensemble = EnsembleModel(models)
    ensemble.statistics = models[0].statistics
    for model in models:  # a file holds them once
        model.statistics = None
    ensemble.compile()
    return ensemble


def weights_alone(model: Any, name: str) -> Any:
    """Returns a copy of a model without its optimizer, whose state a file would hold too.

    Args:
        model: A model that knows its features.
        name: The copy's name.
    """
    copy = type(model).from_config({**model.get_config(), "name": name})
    copy.set_weights(model.get_weights())
    copy.statistics = model.statistics
    return copy


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class EnsembleModel(FeatureModel):
    """The mean of trained models that read the same features; `ensemble_of` makes one.

    Columns are encoded once, and each model scores the encoded batch. Nothing of it is trainable. `members` counts
    those of its models, whose spread `predict_proba(rows, uncertainty=True)` tells.

    Args:
        models: The models, which become parts of this one; no two of the same name.

    Returns:
        The mean of their logits (binary) or predictions (regression), float32 `[batch, 1]`.

    Raises:
        ValueError: As `ensemble_of` raises.
    """

    later_weights: Mapping[str, float] = {}

    def __init__(self, models: Sequence[Any], **kwargs: Any) -> None:
        _check(models)
        first = models[0]
        # Without variables to train, compiling makes no optimizer's state for them.
        super().__init__(task=first.written_task, label=first.label, trainable=False, **kwargs)
        self.models = list(models)
        self.members = sum(model.members for model in self.models)
        self.features = first.features
        self.encoder = first.encoder
        self.built = True

    @property
    def parts(self) -> list[Any]:
        return list(self.models)

    @property
    def calls_directly(self) -> bool:
        own = getattr(self.call, "__func__", None) is EnsembleModel.call
        return own and all(model.calls_directly for model in self.models)

    def build(self, input_shape: Any) -> None:
        """Does nothing: the models are built."""
        del input_shape

    @tf.autograph.experimental.do_not_convert
    def call(self, columns: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        encoded = self.encoder(columns)
        return tf.add_n([model.call(encoded, training=training) for model in self.models]) / len(self.models)

    @tf.autograph.experimental.do_not_convert
    def member_logits(self, columns: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        encoded = self.encoder(columns)
        outputs = [
            (model.call if model.members == 1 else model.member_logits)(encoded, training=training)
            for model in self.models
        ]
        return tf.concat(outputs, axis=1)

    def mean_logit(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the output, `[batch]`: each model counts the same, however many members it has."""
        of_models = tf.split(logits, [model.members for model in self.models], axis=1)
        return tf.add_n([tf.reduce_mean(part, axis=1) for part in of_models]) / len(self.models)

    # --- what is not trained

    @property
    def is_fresh(self) -> bool:
        return False

    @property
    def _loss_unit(self) -> Any:
        return 1.0

    def adapt_labels(self, labels: Any, weights: Any = None) -> None:
        """Does nothing: the models start where they were told."""
        del labels, weights

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Raises: an ensemble is what its models have learnt.

        Raises:
            ValueError: Whenever it is called.
        """
        del x, args, kwargs
        raise _not_trained(self)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Raises as `fit` does."""
        del args, kwargs
        raise _not_trained(self)

    # --- what a person sees

    def __repr__(self) -> str:
        return description.describe(self)

    def _repr_html_(self) -> str:
        return description.describe_as_html(self)

    # --- saving

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "models": [serialized(model, keras.layers) for model in self.models]}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "EnsembleModel":
        del custom_objects
        config = dict(config)
        models = [deserialized(written, keras.layers) for written in config.pop("models")]
        return cls(models, **config)

    def get_build_config(self) -> None:
        """Returns None: the models are built when they are made."""


def _check(models: Sequence[Any]) -> None:
    if not models:
        raise ValueError("An ensemble is the mean of models; received none. Give trained models.")
    for model in models:
        if not isinstance(model, FeatureModel) or isinstance(model, EnsembleModel):
            raise ValueError(
                f"An ensemble is of single models of this package; received {type(model).__name__}. Give RankingModels "
                "(of an ensemble its models)."
            )
        if model.features is None:
            raise ValueError(
                f"{model.name} does not know its features yet. Give models that were trained, or built with features=."
            )
        if (reason := _differs(models[0], model)) is not None:
            raise ValueError(
                f"The models of an ensemble share features and task; {model.name} {reason} than {models[0].name}. Give "
                "models that were trained on the same rows."
            )


def _differs(first: Any, model: Any) -> str | None:
    """What of a model differs that may not, in words."""
    if _encoding(first.features) != _encoding(model.features):
        return "reads other features"
    return None if first.written_task == model.written_task else "has another task"


def _encoding(features: FeatureSpec) -> list[dict[str, Any]]:
    """All that decides what an encoded batch holds."""
    return [
        {name: value for name, value in feature_to_dict(feature).items() if name not in _OF_EMBEDDINGS}
        for feature in features
    ]


def _not_trained(model: EnsembleModel) -> ValueError:
    return ValueError(
        f"{model.name} is the mean of {len(model.models)} trained models, and trains nothing. Train its models, and "
        "call ensemble_of again."
    )
