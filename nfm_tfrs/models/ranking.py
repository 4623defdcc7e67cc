"""The one model class: encoder, fused table, interaction block, tower, ranking task."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.embedding import FusedEmbedding
from nfm_tfrs.features.encoder import NUMBERS, FeatureEncoder, encoded_signature
from nfm_tfrs.features.feature import Feature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf, tfrs
from nfm_tfrs.models.interaction import interaction_block, interaction_config
from nfm_tfrs.models.tasks import ranking_task, task_config
from nfm_tfrs.models.tower import Tower

Numeric = Literal["field", "concat", "bottom_mlp"]


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class RankingModel(tfrs.Model):
    """A ranking model around any interaction block.

        logit = w_0 + Σ_i w_i x_i + hᵀ tower(dropout(BatchNorm(block(embeddings))))

    Trains on batches of `(columns, label[, weight])`, or of one dict with the label inside (`label=`); columns are
    raw (Tensor, RaggedTensor or SparseTensor) or encoded by a `FeatureEncoder` of the same features.

    Args:
        features: A `FeatureSpec` or a list of features. Left out, they are inferred from the first data given to
            `fit` or `adapt`, and the model is built then.
        embedding_dim: Length of a field's embedding.
        interaction: A block's registered name, `{"name": …, "config": {…}}`, or an `InteractionBlock`.
        hidden_units: Widths of the tower's layers; none leaves one weight for each output of the block.
        activation: The tower's activation, by its Keras name.
        linear: Whether to add the first-order term.
        batch_norm: Whether to normalise before each activation of the tower.
        interaction_batch_norm: Whether to normalise what the block returns, in float32.
        batch_norm_momentum: Momentum of the moving averages of both.
        dropout: Share of each tower layer's outputs dropped in training.
        interaction_dropout: Share of the block's outputs dropped in training.
        numeric: Where numbers go: `"field"`, value × vector inside the interaction; `"concat"`, to the tower, beside
            the block's output; `"bottom_mlp"`, through a network of their own that makes one more field (DLRM).
        bottom_units: Widths of that network's layers before the last, which has `embedding_dim`.
        embedding_stddev: Standard deviation of the initial embeddings.
        embedding_l2: Weight of (1/batch) Σ ‖v‖² over the distinct embeddings v of a batch.
        task: `"binary"`, `"regression"`, or a `tfrs.tasks.Ranking` on logits with reduction NONE.
        label: The column that is the label, where batches are one dict.
        dtype: The dtype policy of this model; nothing global is set.

    Returns:
        The logit (binary) or prediction (regression), float32 `[batch, 1]`.

    Raises:
        ValueError: An argument out of range, a task on probabilities, or a block that does not fit the features.
        LookupError: No block of that name is installed.

    Example:
        >>> from nfm_tfrs import CategoricalFeature, NumericFeature
        >>> model = RankingModel([CategoricalFeature("user", vocabulary_size=9), NumericFeature("price")])
        >>> model({"user": tf.constant([3]), "price": tf.constant([0.5])}).shape
        TensorShape([1, 1])
    """

    def __init__(
        self,
        features: FeatureSpec | Sequence[Feature] | dict[str, Any] | None = None,
        *,
        embedding_dim: int = 16,
        interaction: str | Mapping[str, Any] | InteractionBlock = "bi_interaction",
        hidden_units: Sequence[int] = (64,),
        activation: str = "relu",
        linear: bool = True,
        batch_norm: bool = False,
        interaction_batch_norm: bool = False,
        batch_norm_momentum: float = 0.99,
        dropout: float = 0.0,
        interaction_dropout: float = 0.0,
        numeric: Numeric = "field",
        bottom_units: Sequence[int] = (64,),
        embedding_stddev: float = 0.01,
        embedding_l2: float = 0.0,
        task: Any = "binary",
        label: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        policy = keras.mixed_precision.Policy(dtype) if isinstance(dtype, str) else dtype
        if getattr(policy, "name", None) in ("float16", "bfloat16"):
            policy = keras.mixed_precision.Policy(f"mixed_{policy.name}")  # variables are float32 whatever the policy
        # autocast would turn a raw 70000 into infinity under float16; every layer casts for itself.
        super().__init__(dtype=policy, autocast=False, **kwargs)
        hidden_units, bottom_units = _widths("hidden_units", hidden_units), _widths("bottom_units", bottom_units)
        if numeric not in ("field", "concat", "bottom_mlp"):
            raise ValueError(f'numeric must be "field", "concat" or "bottom_mlp"; received {numeric!r}.')
        for argument, rate in (("dropout", dropout), ("interaction_dropout", interaction_dropout)):
            if not 0 <= rate < 1:
                raise ValueError(f"{argument} must be at least 0 and below 1; received {rate!r}.")
        switches = {"linear": linear, "batch_norm": batch_norm, "interaction_batch_norm": interaction_batch_norm}
        for argument, switch in switches.items():
            if not isinstance(switch, bool):
                raise ValueError(f"{argument} must be True or False; received {switch!r}.")
        if not 0 <= batch_norm_momentum < 1:
            raise ValueError(f"batch_norm_momentum must be at least 0 and below 1; received {batch_norm_momentum!r}.")
        if not isinstance(activation, str):
            raise ValueError(
                f'activation must be the name of a Keras activation, such as "relu"; received {activation!r}.'
            )
        self.embedding_dim = embedding_dim
        self.hidden_units = hidden_units
        self.activation = activation
        self.linear = linear
        self.batch_norm = batch_norm
        self.interaction_batch_norm = interaction_batch_norm
        self.batch_norm_momentum = batch_norm_momentum
        self.dropout = dropout
        self.interaction_dropout = interaction_dropout
        self.numeric = numeric
        self.bottom_units = bottom_units
        self.embedding_stddev = embedding_stddev
        self.embedding_l2 = embedding_l2
        self.label = label
        self._set_task(task)
        self.interaction = interaction_block(interaction, self.dtype_policy.name)
        # Every replica returns the synchronised metrics; Keras would add them up over workers.
        self.distribute_reduction_method = "first"
        self.features: FeatureSpec | None = None
        if features is not None:
            self._set_features(features)

    @tf.__internal__.tracking.no_automatic_dependency_tracking
    def _set_task(self, task: Any) -> None:
        # Untracked, and reported only once `compute_loss` uses them: a user's own model that just calls this one would
        # report metrics that are never updated, in the place of its own of the same name.
        self.task = ranking_task(task)
        self._task_name = task if isinstance(task, str) else None
        self._loss = keras.metrics.Mean("loss")
        self._regularization_loss = keras.metrics.Mean("regularization_loss")
        self._total_loss = keras.metrics.Mean("total_loss")

    # --- structure

    def _set_features(self, features: FeatureSpec | Sequence[Feature] | dict[str, Any]) -> None:
        if isinstance(features, dict):
            features = FeatureSpec.from_dict(features)
        spec = features if isinstance(features, FeatureSpec) else FeatureSpec(tuple(features))
        self.features = spec
        self.encoder = FeatureEncoder(spec)
        self.embedding = FusedEmbedding(
            spec,
            self.embedding_dim,
            linear=self.linear,
            numbers=self.numeric == "field",
            stddev=self.embedding_stddev,
            l2=self.embedding_l2,
            dtype=self.dtype_policy,
        )
        beside = bool(spec.numbers) and self.numeric != "field"
        self._number_weights = (
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype="float32", name="number_weights")
            if beside and self.linear
            else None
        )
        self._bottom = (
            Tower((*self.bottom_units, self.embedding_dim), self.activation, dtype=self.dtype_policy, name="bottom")
            if beside and self.numeric == "bottom_mlp"
            else None
        )
        self._interaction_batch_norm = (
            keras.layers.BatchNormalization(
                momentum=self.batch_norm_momentum, dtype="float32", name="interaction_batch_norm"
            )
            if self.interaction_batch_norm
            else None
        )
        self._interaction_dropout = keras.layers.Dropout(self.interaction_dropout, dtype="float32")
        self._tower = Tower(
            self.hidden_units,
            self.activation,
            batch_norm=self.batch_norm,
            batch_norm_momentum=self.batch_norm_momentum,
            dropout=self.dropout,
            dtype=self.dtype_policy,
            name="tower",
        )
        # float32: a logit in half precision has steps of 0.008 at 10.
        self._head = keras.layers.Dense(1, use_bias=False, dtype="float32", name="head")
        self._bias = self.add_weight("bias", [1], tf.float32, initializer="zeros", experimental_autocast=False)
        # Traced, not run, and past Keras' record of the first inputs: variables exist from here on, for any data.
        tf.function(self._traced_call, autograph=False).get_concrete_function(encoded_signature(spec))
        self._clear_losses()  # of the trace: a tensor of its graph
        self._check_jit(getattr(self, "_jit_compile", None))
        self.built = True

    def build(self, input_shape: Any) -> None:
        """Does nothing: a model is built as soon as it knows its features."""
        del input_shape
        self._known_features()

    def call(self, columns: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        spec = self._known_features()
        encoded = self.encoder(columns)
        embeddings, mask, logit = self.embedding(encoded)
        beside = []
        if self.numeric != "field" and spec.numbers:
            numbers = encoded[NUMBERS]
            numbers = tf.where(tf.math.is_nan(numbers), 0.0, numbers)  # standardised: 0 is the mean
            if self._number_weights is not None:
                logit += self._number_weights(numbers)
            if self._bottom is None:
                beside.append(numbers)
            else:
                field = tf.cast(self._bottom(numbers, training=training), embeddings.dtype)[:, None, :]
                embeddings = tf.concat([embeddings, field], axis=1)  # [batch, fields + 1, dim]
                if mask is not None:
                    mask = tf.pad(mask, [[0, 0], [0, 1]], constant_values=True)
        hidden = tf.cast(self.interaction(embeddings, mask=mask), tf.float32)  # [batch, units]
        if self._interaction_batch_norm is not None:
            hidden = self._interaction_batch_norm(hidden, training=training)
        hidden = self._interaction_dropout(hidden, training=training)
        hidden = self._tower(tf.concat([hidden, *beside], axis=1) if beside else hidden, training=training)
        score = self._head(hidden) + self._bias
        return score if logit is None else score + logit

    def _traced_call(self, encoded: Mapping[str, Any]) -> tf.Tensor:
        return self.call(encoded, training=False)

    def _known_features(self) -> FeatureSpec:
        if self.features is None:
            raise ValueError(
                "This model does not know its features yet. Pass features=, or call fit or adapt with data first."
            )
        return self.features

    # --- training

    def adapt(self, data: Any) -> None:
        """Infers the features from `data` and builds the model; nothing happens where they are known.

        Args:
            data: A batched tf.data.Dataset as for `fit`, or a dict of columns.

        Raises:
            ValueError: Nothing can be inferred; `FeatureSpec.from_dataset` says why.
        """
        if self.features is None:
            if not isinstance(data, tf.data.Dataset | Mapping):
                raise ValueError(
                    "Features are inferred from a batched tf.data.Dataset or a dict of columns; "
                    f"received {type(data).__name__}. Give one, or features=."
                )
            dataset = data if isinstance(data, tf.data.Dataset) else tf.data.Dataset.from_tensors(dict(data))
            with self.distribute_strategy.scope():
                self._set_features(FeatureSpec.from_dataset(dataset, label=self.label))

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains as Keras' `fit` does; a model without features infers them from `x` first."""
        self.adapt(x)
        return super().fit(x, *args, **kwargs)

    def compile(self, optimizer: Any = None, **kwargs: Any) -> None:
        """Compiles as Keras' `compile` does; the loss and the metrics are the task's.

        Args:
            optimizer: A Keras optimizer or its name; Adagrad(0.05) if not given.
            **kwargs: As in Keras, without `loss`, `metrics`, `weighted_metrics` and `loss_weights`.

        Raises:
            ValueError: A loss or metrics are given, or `jit_compile=True` for a number of fields that differs by batch.
        """
        for argument in ("loss", "metrics", "weighted_metrics", "loss_weights"):
            if kwargs.get(argument) is not None:
                raise ValueError(
                    f"{argument} belongs to the task; received {kwargs[argument]!r} in compile. "
                    "Pass task=tfrs.tasks.Ranking(...) to the model."
                )
        # Chosen on validation: benchmarks/movielens.py
        optimizer = keras.optimizers.get(keras.optimizers.Adagrad(0.05) if optimizer is None else optimizer)
        self._check_jit(kwargs.get("jit_compile"))
        if self.compute_dtype == "float16" and not isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
            optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
        super().compile(optimizer=optimizer, **kwargs)

    def _check_jit(self, jit_compile: bool | None) -> None:
        if jit_compile and self.features is not None and self.embedding.num_fields is None:
            raise ValueError(
                "jit_compile=True needs the same number of fields in each batch; received features with combiner=None "
                "and no max_length. Give them a max_length."
            )

    @property
    def is_binary(self) -> bool:
        """Whether the model returns the logit of a probability."""
        return isinstance(self.task._loss, keras.losses.BinaryCrossentropy)

    @property
    def objective(self) -> tuple[str, Literal["max", "min"]]:
        """What to choose on: the name of a validation metric, and whether more or less of it is better."""
        if self._task_name is None:
            return "val_loss", "min"
        return ("val_auc", "max") if self.is_binary else ("val_rmse", "min")

    @property
    def metrics(self) -> list[Any]:
        """The losses, as means over all rows, and the task's metrics."""
        own = [self._loss, self._regularization_loss, self._total_loss, *self.task.metrics]
        return own + [metric for metric in super().metrics if metric not in own]

    def compute_loss(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Returns the mean loss of a batch, float32 scalar, without regularisation, and updates the task's metrics."""
        self._metrics[:] = self.task.metrics  # from here on a model around this one reports them too
        columns, labels, weights = self._unpacked(inputs)
        predictions = self(columns, training=training)
        # Reshaped first: a loss of labels [batch] against predictions [batch, 1] broadcasts to one scalar.
        labels = tf.reshape(tf.cast(labels, tf.float32), [-1, 1])
        if weights is not None:
            weights = tf.reshape(tf.cast(weights, tf.float32), [-1, 1])
        losses = self.task(labels=labels, predictions=predictions, sample_weight=weights, training=training)
        return tf.reduce_mean(tf.cast(losses, tf.float32))

    def train_step(self, inputs: Any) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            total = self._tracked_loss(inputs, training=True)
            # Keras' optimizers add the replicas' gradients up.
            objective = total / tf.distribute.get_strategy().num_replicas_in_sync
            scaling = isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer)
            if scaling:
                objective = self.optimizer.get_scaled_loss(objective)
        gradients = tape.gradient(objective, self.trainable_variables)
        if scaling:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, inputs: Any) -> dict[str, tf.Tensor]:
        self._tracked_loss(inputs, training=False)
        return {metric.name: metric.result() for metric in self.metrics}

    def _tracked_loss(self, inputs: Any, training: bool) -> tf.Tensor:
        loss = self.compute_loss(inputs, training=training)
        regularization_loss = tf.add_n([tf.cast(tf.reduce_sum(extra), tf.float32) for extra in self.losses] or [0.0])
        rows = tf.shape(self._unpacked(inputs)[1])[0]  # the last batch may be smaller
        self._loss.update_state(loss, sample_weight=rows)
        self._regularization_loss.update_state(regularization_loss, sample_weight=rows)
        self._total_loss.update_state(loss + regularization_loss, sample_weight=rows)
        return loss + regularization_loss

    def _unpacked(self, inputs: Any) -> tuple[Any, Any, Any]:
        columns, labels, weights = keras.utils.unpack_x_y_sample_weight(inputs)
        if labels is None and self.label is not None:
            if self.label not in columns:
                raise ValueError(f"The batch has no label column {self.label!r}; it has {', '.join(columns)}.")
            labels = columns[self.label]
        if labels is None:
            raise ValueError(
                "Training and evaluation need labels; received columns only. "
                "Give (columns, label) batches, or label= for one inside the columns."
            )
        return columns, labels, weights

    # --- saving

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainable": self.trainable,
            "features": self.features.to_dict() if self.features else None,
            "embedding_dim": self.embedding_dim,
            "interaction": interaction_config(self.interaction, self.dtype_policy.name),
            "hidden_units": list(self.hidden_units),
            "activation": self.activation,
            "linear": self.linear,
            "batch_norm": self.batch_norm,
            "interaction_batch_norm": self.interaction_batch_norm,
            "batch_norm_momentum": self.batch_norm_momentum,
            "dropout": self.dropout,
            "interaction_dropout": self.interaction_dropout,
            "numeric": self.numeric,
            "bottom_units": list(self.bottom_units),
            "embedding_stddev": self.embedding_stddev,
            "embedding_l2": self.embedding_l2,
            "task": self._task_name or task_config(self.task),
            "label": self.label,
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "RankingModel":
        del custom_objects
        return cls(**config)

    def get_build_config(self) -> None:
        """Returns None: the features in the config are all it takes to build."""

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as the saved one was; Keras skips this where `compile` is overridden."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves as Keras' `save` does.

        Raises:
            ValueError: The model does not know its features yet.
        """
        self._known_features()
        super().save(*args, **kwargs)


def _widths(argument: str, units: Any) -> tuple[int, ...]:
    widths = units if isinstance(units, int | str) else tuple(units)
    if isinstance(widths, int | str) or any(not isinstance(n, int) or n < 1 for n in widths):
        raise ValueError(f"{argument} must be a list of widths of 1 or more; received {widths!r}.")
    return widths
