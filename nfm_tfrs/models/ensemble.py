"""Several trained models as one: the mean of their logits, in one file, one export, one answer."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.arguments import MOST_MODELS
from nfm_tfrs.features.feature import feature_to_dict
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models import description
from nfm_tfrs.models.feature_model import FeatureModel
from nfm_tfrs.models.serial import deserialized, serialized

_COUNT = "models"  # under which a file of weights holds how many models they are of

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
        ValueError: There is no model, or more than 50; one is none of this package or an ensemble itself, does not know
            its features, or reads other features or has another task than the first.

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
    models = listed(models)
    return assembled([weights_alone(model, f"model_{number}") for number, model in enumerate(models)])


def listed(models: Any) -> list[Any]:
    """Returns the models of an ensemble as a list, once they go together.

    Args:
        models: The models.

    Raises:
        ValueError: As `ensemble_of` raises.
    """
    if not isinstance(models, Iterable) or isinstance(models, str | Mapping):
        raise ValueError(f"An ensemble is of a list of models; received {type(models).__name__}. Give [model, ...].")
    models = list(models)
    if not models:
        raise ValueError("An ensemble is the mean of models; received none. Give trained models.")
    if len(models) > MOST_MODELS:
        raise ValueError(f"An ensemble has {MOST_MODELS} models at most; received {len(models):,}. Give fewer.")
    _check(models)
    return models


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
        models = listed(models)
        first = models[0]
        # Without variables to train, compiling makes no optimizer's state for them.
        super().__init__(task=first.written_task, label=first.label, trainable=False, **kwargs)
        self.models = models
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

    def train_step(self, data: Any) -> Any:
        """Raises as `fit` does."""
        del data
        raise _not_trained(self)

    def compile(self, optimizer: Any = None, *, averaging: float | None = None, **kwargs: Any) -> None:
        """Compiles for `evaluate`, as `TaskModel.compile` does.

        Args:
            optimizer: What is of no use here.
            averaging: None: weights that stay have no mean over steps.
            **kwargs: See `TaskModel.compile`.

        Raises:
            ValueError: A decay is given; or see `TaskModel.compile`.
        """
        if averaging is not None:
            raise _not_trained(self)
        super().compile(optimizer, **kwargs)

    # --- what a person sees

    def __repr__(self) -> str:
        return description.describe(self)

    def _repr_html_(self) -> str:
        return description.describe_as_html(self)

    # --- saving

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Loads weights as `FeatureModel` does; those of another number of models are another model's."""
        if (held := _models_in_checkpoint(str(filepath))) is not None and held != len(self.models):
            raise ValueError(
                f"{filepath} is damaged or holds weights of another model ({_of_others(held, self)}). Give weights "
                "that save_weights wrote for a model of this config."
            )
        return super().load_weights(filepath, *args, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        """Saves, beside what `FeatureModel` saves, how many models the weights are of."""
        super().save_own_variables(store)
        store[_COUNT] = len(self.models)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved, of as many models."""
        found = {name: store[name] for name in store.keys()}  # noqa: SIM118
        held = found.pop(_COUNT, None)
        if held is not None and int(np.asarray(held)) != len(self.models):
            raise ValueError(_of_others(int(np.asarray(held)), self))
        super().load_own_variables(found)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "models": [serialized(model, keras.layers) for model in self.models]}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "EnsembleModel":
        del custom_objects
        config = dict(config)
        written = config.pop(_COUNT, None)
        if not isinstance(written, list) or not all(isinstance(one, dict) for one in written):
            raise ValueError('"models" of an ensemble is a list of the configs of models. Save the ensemble again')
        return cls([deserialized(one, keras.layers) for one in written], **config)

    def get_build_config(self) -> None:
        """Returns None: the models are built when they are made."""


def _check(models: Sequence[Any]) -> None:
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


def _models_in_checkpoint(path: str) -> int | None:
    """How many models the weights of an ensemble in a checkpoint of TensorFlow are of; None of anything else."""
    if not Path(f"{path}.index").exists():
        return None
    names = [name.split("/") for name, _ in tf.train.list_variables(path)]
    return len({at for first, at, *_ in (name for name in names if len(name) > 1) if first == "models"}) or None


def _of_others(held: int, model: EnsembleModel) -> str:
    return f"its weights are of {held} models, and this is the mean of {len(model.models)}"


def _not_trained(model: EnsembleModel) -> ValueError:
    return ValueError(
        f"{model.name} is the mean of {len(model.models)} trained models, and trains nothing. Train its models, and "
        "call ensemble_of again."
    )
