"""The one model class: encoder, fused table, interaction blocks, tower."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, get_args

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import by_sums, flat
from nfm_tfrs.blocks.batch_norm import BatchNormalization
from nfm_tfrs.blocks.dropout import Dropout
from nfm_tfrs.embedding.table import FieldSums, FusedEmbedding, PenaltyBy
from nfm_tfrs.features.encoder import FeatureEncoder, encoded_signature
from nfm_tfrs.features.feature import COMBINERS, Combiner, Feature
from nfm_tfrs.features.keys import NUMBERS
from nfm_tfrs.features.number_encoders import NUMBER_ENCODERS
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Statistics, are_counted
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.private import clear_losses, has_losses, untracked
from nfm_tfrs.models import description
from nfm_tfrs.models.feature_model import FeatureModel
from nfm_tfrs.models.interaction import Interaction, interaction_blocks, interaction_config
from nfm_tfrs.models.losses import check_draws, runs_twice, twice
from nfm_tfrs.models.members import MemberDense, copies, flat_of_members, joined
from nfm_tfrs.models.number_weights import NumberWeights
from nfm_tfrs.models.tower import Tower
from nfm_tfrs.platform_calls import memory_bytes
from nfm_tfrs.precision import policy

if TYPE_CHECKING:
    from typing_extensions import Self

Structure = Literal["stacked", "parallel", "concat"]
Numeric = Literal["field", "concat", "bottom_mlp"]

# The model whose call returns its members apart: an argument of `call` would be part of what is saved.
_APART: ContextVar[Any] = ContextVar("apart", default=None)

_MOST_PARTS = 256  # blocks and layers of all members: each takes up to a tenth of a second to make


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class RankingModel(FeatureModel):
    """A ranking model around any interaction blocks.

        stacked:   logit = w_0 + Σ_i w_i x_i + hᵀ tower(z)
        concat:    logit = w_0 + Σ_i w_i x_i + hᵀ tower([z, v_1, …, v_n])
        parallel:  logit = w_0 + Σ_i w_i x_i + hᵀ [z, tower([v_1, …, v_n])]
        with       z = dropout(BatchNorm([block(v_1, …, v_n), …]))

    Of several members m each has embeddings v_m (its columns of one table, read once), blocks, tower and h of its own:

        logit = 1/k Σ_m z_m,  z_m = w_0 + Σ_i w_i x_i + h_mᵀ tower_m(…),  loss = Σ_m ℓ(z_m, y)

    The members' losses are added up: a mean would divide each member's gradients by k.

    A block that returns a logit of its own (FM, for instance) is added without a weight in h, behind the same BatchNorm
    and dropout, where no tower follows it.

    Trains on batches of `(columns, label[, weight])`, or of one dict with the label inside (`label=`); columns are raw
    (Tensor, RaggedTensor or SparseTensor) or encoded by a `FeatureEncoder` of the same features.

    Args:
        features: A `FeatureSpec` or a list of features. Left out, they are inferred from the first data given to
            `fit` or `adapt`, and the model is built then.
        embedding_dim: Length of a field's embedding.
        members: Number k of members. 256 blocks and tower layers of all of them together are the most.
        member_dim: Length of a field's embedding in each member; `embedding_dim` if not given.
        interaction: A block's registered name, `{"name": …, "config": {…}}`, or an `InteractionBlock`; or a list of
            these, whose outputs stand side by side. An `InteractionBlock` given to two models is one block of both; of
            several members the first has it, and the others new ones of its config.
        structure: Where the tower stands: behind the blocks; behind the blocks and the embeddings side by side; or
            beside the blocks, on the embeddings alone.
        hidden_units: Widths of the tower's layers; with none its input goes to the head.
        activation: The tower's activation, by its Keras name.
        linear: Whether to add the first-order term.
        batch_norm: Whether to normalise before each activation of the tower.
        interaction_batch_norm: Whether to normalise what the blocks return, in float32.
        batch_norm_momentum: Momentum of the moving averages of both, to which they warm up.
        dropout: Share of each tower layer's outputs dropped in training.
        interaction_dropout: Share of the blocks' outputs dropped in training.
        numeric: Where numbers go: `"field"`, value × vector inside the interaction; `"concat"`, to the tower, beside
            the rest of its input; `"bottom_mlp"`, through a network of their own, whose output is one more field and
            goes to the tower as well (DLRM).
        bottom_units: Widths of that network's layers before the last, which has `embedding_dim`. Members share
            them, and have a last layer each.
        history_combiner: How every bag that has a target is pooled: `"attention"`, `"mean"`, …; as each feature says if
            not given.
        number_encoder: How numbers that are fields are embedded where their feature leaves them linear: `"linear"`,
            `"buckets"`, `"piecewise"`, `"periodic"` or `"autodis"`, see `NumericFeature`; as each feature says if None.
        embedding_stddev: Standard deviation of the initial embeddings.
        embedding_l2: Weight of (1/batch) Σ ‖v‖² over the distinct embeddings v of a batch.
        embedding_l2_by: What that sum is divided by: `"batch"`, or `"frequency"`, Σ ‖v‖² / n_v with n_v how often the
            training rows read v, so that rare values are held back most (DIN's mini-batch aware regularisation); both
            are the same for what is read as often as the batch has rows. The statistics of the training rows say how
            often, which `Recipe.fit`, the search and the command line count; see `nfm_tfrs.training.adapt_statistics`.
        field_dropout: Share of an example's fields dropped in training, each as a whole: zero, and absent for blocks;
            the others are divided by the share that is kept, so that sums of embeddings, and of products of two, are on
            average what they are without. The first-order term keeps all fields, and so does what numbers give the
            tower directly. Blocks that take sums are given embeddings in training, which is slower.
        label_smoothing: Share ε of a binary label that training gives to both classes alike: it learns from
            (1 - ε) y + ε / 2. What is reported stays the loss of the labels as they are.
        self_ensemble: Weight λ of a second term of the loss in training: each of two draws of dropout learns from the
            mean of both, as `Losses` says; λ = 1 weighs that mean as much as the label. Rows are looked up once, and
            all behind that runs on a batch of twice the rows, whose norms have the statistics of both. What is reported
            stays the loss of the labels alone, of both draws.
        task: `"binary"`, `"regression"`, or a `tfrs.tasks.Ranking` on logits with reduction NONE.
        label: The column that is the label, where batches are one dict.
        dtype: What the dense part computes in: `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`, a policy, or
            `"auto"` (`nfm_tfrs.precision.policy` says which); nothing global is set. A block given by name follows it.

    Returns:
        The logit (binary) or prediction (regression), float32 `[batch, 1]`.

    Raises:
        TypeError: An argument that the model does not take.
        ValueError: An argument out of range, a task on probabilities, or a block that does not fit the features.
        LookupError: No block of that name is installed.

    Example:
        >>> from nfm_tfrs import CategoricalFeature, NumericFeature
        >>> model = RankingModel([CategoricalFeature("user", vocabulary_size=9), NumericFeature("price")])
        >>> model({"user": tf.constant([3]), "price": tf.constant([0.5])}).shape
        TensorShape([1, 1])

    Reference:
        Members: Gorishniy et al., TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling, ICLR 2025
        (the mean of the members' losses there); Guo et al., On the Embedding Collapse when Scaling up Recommendation
        Models, ICML 2024 (multi-embedding).
        embedding_l2_by: Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, eq. 6. The
        losses: see `Losses`.
    """

    if TYPE_CHECKING:  # stubs of TensorFlow, which pyright brings, say that any class makes a plain Keras model

        def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...

    def __init__(
        self,
        features: FeatureSpec | Sequence[Feature] | dict[str, Any] | None = None,
        *,
        embedding_dim: int = 16,
        members: int = 1,
        member_dim: int | None = None,
        interaction: Interaction | Sequence[Interaction] = "bi_interaction",
        structure: Structure = "stacked",
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
        history_combiner: Combiner | None = None,
        number_encoder: str | None = None,
        embedding_stddev: float = 0.01,
        embedding_l2: float = 0.0,
        embedding_l2_by: PenaltyBy = "batch",
        field_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        self_ensemble: float = 0.0,
        task: Any = "binary",
        label: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        hidden_units = arguments.widths("hidden_units", hidden_units)
        super().__init__(
            task=task,
            label=label,
            dtype=policy(dtype, hidden_units),
            label_smoothing=label_smoothing,
            self_ensemble=self_ensemble,
            **kwargs,
        )
        self.embedding_dim = arguments.count("embedding_dim", embedding_dim)
        self.members = arguments.count("members", members)
        self.member_dim = None if member_dim is None else arguments.count("member_dim", member_dim)
        self.hidden_units = hidden_units
        self.structure = arguments.choice("structure", structure, get_args(Structure))
        self.activation = arguments.activation("activation", activation)
        self.linear = arguments.switch("linear", linear)
        self.batch_norm = arguments.switch("batch_norm", batch_norm)
        self.interaction_batch_norm = arguments.switch("interaction_batch_norm", interaction_batch_norm)
        self.batch_norm_momentum = arguments.share("batch_norm_momentum", batch_norm_momentum)
        self.dropout = arguments.share("dropout", dropout)
        self.interaction_dropout = arguments.share("interaction_dropout", interaction_dropout)
        self.numeric = arguments.choice("numeric", numeric, get_args(Numeric))
        self.bottom_units = arguments.widths("bottom_units", bottom_units)
        if history_combiner is not None:
            arguments.choice("history_combiner", history_combiner, COMBINERS)
        self.history_combiner = history_combiner
        if number_encoder is not None:
            arguments.choice("number_encoder", number_encoder, NUMBER_ENCODERS)
        self.number_encoder = number_encoder
        self.embedding_stddev = arguments.not_negative("embedding_stddev", embedding_stddev)
        self.embedding_l2 = arguments.not_negative("embedding_l2", embedding_l2)
        self.embedding_l2_by = arguments.choice("embedding_l2_by", embedding_l2_by, get_args(PenaltyBy))
        self.field_dropout = arguments.share("field_dropout", field_dropout)
        blocks = interaction_blocks(interaction, self.dtype_policy.name)
        self.interaction = blocks if isinstance(interaction, list | tuple) else blocks[0]
        self._check_parts(len(blocks))
        # Logits that no tower follows are added as they are; these blocks come first.
        tower_follows = structure != "parallel" and bool(self.hidden_units)
        logits = [] if tower_follows else [block for block in blocks if getattr(block, "returns_logit", False)]
        self._num_logits = len(logits)
        self._blocks = logits + [block for block in blocks if block not in logits]
        self.features: FeatureSpec | None = None
        self._set_xla(False)
        if features is not None:
            self._set_features(features)

    # --- structure

    def _check_parts(self, blocks: int) -> None:
        """Refuses so many blocks and layers of members that they take minutes to make, whatever their weights."""
        each = blocks + len(self.hidden_units)
        if self.members > 1 and self.members * each > _MOST_PARTS:
            raise ValueError(
                f"members={self.members} of {each} blocks and layers each make {self.members * each:,}, and "
                f"{_MOST_PARTS} are the most. Lower members, or leave out hidden_units or blocks."
            )

    def _set_features(self, features: FeatureSpec | Sequence[Feature] | dict[str, Any]) -> None:
        if isinstance(features, dict):
            features = FeatureSpec.from_dict(features)
        spec = features if isinstance(features, FeatureSpec) else FeatureSpec(tuple(features))
        spec = spec.with_history_combiner(self.history_combiner)
        spec = spec.with_number_encoder(self.number_encoder)
        self._check_number_encoders(spec)
        self.encoder = FeatureEncoder(spec)
        self.embedding = FusedEmbedding(
            spec,
            self.members * self._dim,
            linear=self.linear,
            numbers=self.numeric == "field",
            stddev=self.embedding_stddev,
            l2=self.embedding_l2,
            l2_by=self.embedding_l2_by,
            dtype=self.dtype_policy,
        )
        if self.embedding.num_fields == 0:
            raise ValueError(
                f'numeric="{self.numeric}" leaves no field to interact; received numbers alone. '
                'Add a feature of another kind, or set numeric="field".'
            )
        if self.structure != "stacked" and self.embedding.num_fields is None:
            raise ValueError(
                f'structure="{self.structure}" needs the same number of fields in each batch; received features with '
                "combiner=None and no max_length. Give them a max_length."
            )
        self._check_memory()
        self.features = spec
        self._make_layers(spec)
        try:
            # Traced, not run, and past Keras' record of the first inputs: variables exist from here on, for any data.
            tf.function(self._traced_call, autograph=False).get_concrete_function(encoded_signature(spec))
        except tf.errors.ResourceExhaustedError as error:
            raise _too_large("The model's weights do not fit into the memory that is left") from error
        clear_losses(self)  # of the trace: a tensor of its graph
        self._check_fields(self._scored_by_xla is not None)
        if self._field_dropout is not None:  # behind all that draws initial weights, and left out of inference
            self._field_dropout.build(None)
        if self.self_ensemble:
            check_draws(self)
        self.built = True

    def _check_number_encoders(self, spec: FeatureSpec) -> None:
        encoded = [number.name for number in spec.numbers if number.encoding is not None]
        if encoded and self.numeric != "field":
            raise ValueError(
                f'numeric="{self.numeric}" takes numbers as they are; received an encoder for '
                f'{", ".join(encoded):.200}. Leave it out, or set numeric="field".'
            )

    def _check_memory(self) -> None:
        """Refuses a table that no memory of this machine can hold: Linux would give it, and end the process later."""
        layouts = self.embedding.layouts
        numbers = sum(layout.num_rows * layout.width(linear=self.linear) for layout in layouts)
        needed, memory = 4 * numbers, memory_bytes()
        if memory is not None and needed > memory and not tf.distribute.has_strategy():  # which may spread it
            rows = sum(layout.num_rows for layout in layouts)
            dim = f"embedding_dim={self.embedding.embedding_dim}"
            if self.members > 1 or self.member_dim:
                dim = f"members={self.members} of {'member_dim' if self.member_dim else 'embedding_dim'}={self._dim}"
            raise _too_large(
                f"A table of {rows:,} rows and {dim} takes "
                f"{needed / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f}"
            )

    def _make_layers(self, spec: FeatureSpec) -> None:
        """Makes all that stands behind the embeddings, in the order in which weights are listed."""
        beside = bool(spec.numbers) and self.numeric != "field"
        self._number_weights = (
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype="float32", name="number_weights")
            if beside and self.linear
            else None
        )
        self._bottom = (
            Tower(
                (*self.bottom_units, self.members * self._dim),
                self.activation,
                dtype=self.dtype_policy,
                name="bottom",
            )
            if beside and self.numeric == "bottom_mlp"
            else None
        )
        # Blocks of sums never see the embeddings, which took two fifths of a step and more of an inference.
        self.takes_sums = self.structure == "stacked" and all(by_sums(block) for block in self._blocks)
        self._build_of_sums(self._blocks)
        self._make_copies()
        self._interaction_batch_norm = (
            BatchNormalization(momentum=self.batch_norm_momentum, dtype="float32", name="interaction_batch_norm")
            if self.interaction_batch_norm
            else None
        )
        self._interaction_dropout = (
            Dropout(self.interaction_dropout, dtype="float32", name="interaction_dropout")
            if self.interaction_dropout
            else None
        )
        self._field_dropout = (
            Dropout(self.field_dropout, dtype="float32", name="field_dropout") if self.field_dropout else None
        )
        self._tower = Tower(
            self.hidden_units,
            self.activation,
            batch_norm=self.batch_norm,
            batch_norm_momentum=self.batch_norm_momentum,
            dropout=self.dropout,
            members=self.members,
            dtype=self.dtype_policy,
            name="tower",
        )
        logits_only = self._num_logits == len(self._blocks) and self.structure == "stacked" and not beside
        # float32: a logit in half precision has steps of 0.008 at 10.
        self._head = None if logits_only else self._made_head()
        self._bias = self.add_weight("bias", [1], tf.float32, initializer="zeros", experimental_autocast=False)
        still: Any = {"trainable": False, "experimental_autocast": False}
        self.label_mean = self.add_weight("label_mean", [], tf.float32, initializer="zeros", **still)
        self.label_scale = self.add_weight("label_scale", [], tf.float32, initializer="ones", **still)

    def _made_head(self) -> Any:
        exact: Any = {"use_bias": False, "dtype": "float32", "name": "head"}
        return keras.layers.Dense(1, **exact) if self.members == 1 else MemberDense(1, self.members, **exact)

    def _build_of_sums(self, blocks: Sequence[Any]) -> None:
        """Builds blocks that are given sums, as Keras does before the first call."""
        fields = self.embedding.num_fields
        for block in blocks if self.takes_sums else ():
            if not block.built:
                with tf.name_scope(block.name):
                    block.build([None, fields and fields + (self._bottom is not None), self._dim])

    def _make_copies(self) -> None:
        """Makes blocks for the members behind the first, but where sums go to blocks without weights: one does it."""
        own: list[list[Any]] = [[] for _ in self._blocks]
        if self.members > 1:
            own = [
                copies(block, self.members) if block.weights or not self.takes_sums else [] for block in self._blocks
            ]
            self._copies = [copy for of_block in own for copy in of_block]  # a list of layers, as Keras saves them
            self._build_of_sums(self._copies)
        self._set_members_of([[block, *of_block] for block, of_block in zip(self._blocks, own, strict=True)])

    @untracked
    def _set_members_of(self, blocks: list[list[Any]]) -> None:
        self._members_of = blocks

    @property
    def _dim(self) -> int:
        """Length of a member's embedding."""
        return self.member_dim or self.embedding_dim

    @property
    def calls_directly(self) -> bool:
        return getattr(self.call, "__func__", None) is RankingModel.call

    def build(self, input_shape: Any) -> None:
        """Does nothing: a model is built as soon as it knows its features."""
        del input_shape
        self._known_features()

    # No layer here branches on a tensor, and AutoGraph's look for it took three fifths of the time to the first step.
    @tf.autograph.experimental.do_not_convert
    def call(self, columns: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        logits = self._logits(columns, training)
        return logits if _APART.get() is self else self._mean(logits)

    def _logits(self, columns: Mapping[str, Any], training: bool | None) -> tf.Tensor:
        """What each member says, float32 [batch, members]."""
        self._known_features()
        encoded = self.encoder(columns)
        # In training each row is read once, but on several replicas, which would pad gradients of different lengths to
        # join them.
        distinct = bool(training) and tf.distribute.get_strategy().num_replicas_in_sync == 1
        # Sums are of all fields, and whole fields are dropped behind the look-up.
        sums = self.takes_sums and not (training and self.field_dropout)
        fields = self.embedding(encoded, distinct=distinct, sums=sums, training=training)
        numbers = encoded[NUMBERS]
        if training and runs_twice(self):
            # One batch of twice the rows: its norms have the statistics of both passes, and move their averages once.
            fields, numbers = fields.twice(), twice(numbers)
        scored = self._scored if self._scored_by_xla is None else self._scored_by_xla
        return scored(fields, numbers, training)

    def _mean(self, logits: tf.Tensor) -> tf.Tensor:
        return logits if self.members == 1 else tf.reduce_mean(logits, axis=1, keepdims=True)

    def member_logits(self, columns: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        """Returns what each member says, float32 `[batch, members]`, first-order terms and bias included.

        Args:
            columns: A batch, as the model is called with.
            training: Whether it is one of training.

        Raises:
            ValueError: A subclass computes its output in its own way.
        """
        if not self.calls_directly:
            raise _not_apart(self)
        before = _APART.set(self)
        try:  # as Keras calls a model, past what was traced of it
            outputs: tf.Tensor = keras.Model.__call__(self, columns, training=training)
        finally:
            _APART.reset(before)
        return outputs

    def check_apart(self) -> None:
        if not self.calls_directly and type(self).member_logits is RankingModel.member_logits:
            raise _not_apart(self)

    def predictions_to_learn(self, columns: Any, training: bool) -> tf.Tensor:
        if self.members == 1 or not self.calls_directly:  # a call of a subclass takes no more than Keras gives
            return super().predictions_to_learn(columns, training)
        return self.member_logits(columns, training)

    def take_step(self, inputs: Any) -> tf.Tensor:
        if self.needs_statistics and self.statistics is None and not are_counted(self._known_features()):
            raise ValueError(
                'embedding_l2_by="frequency" needs to know how often the training rows read each value, which is not '
                'counted where tables are compressed from more than 50 million ids. Pass embedding_l2_by="batch".'
            )
        if self.needs_statistics and self.statistics is None:
            raise ValueError(
                'embedding_l2_by="frequency" needs to know how often the training rows read each value, and nobody has '
                "counted. Train with nfm-tfrs train or Recipe.fit, or call nfm_tfrs.training.adapt_statistics first; "
                'of rows whose rates are not known pass embedding_l2_by="batch".'
            )
        return super().take_step(inputs)

    @property
    def needs_statistics(self) -> bool:
        return bool(self.embedding_l2) and self.embedding_l2_by == "frequency"

    def _take_in(self, statistics: Statistics) -> None:
        self.embedding.know_frequencies(statistics)

    @property
    def looks_up_once(self) -> bool:
        return self.calls_directly

    def score(self, fields: Any, numbers: tf.Tensor) -> tf.Tensor:
        """Returns the logit (binary) or prediction, float32 `[batch, 1]`, of what was looked up, outside of training.

        Args:
            fields: `FieldEmbeddings`, or `FieldSums` where `takes_sums` says so.
            numbers: What the encoder returns of numbers, float32 `[batch, numbers]`.
        """
        return self._mean(self._scored(fields, numbers, False))

    def _scored_alone(self, fields: Any, numbers: tf.Tensor, training: bool | None) -> tf.Tensor:
        """`_scored`, for XLA, from which nothing else comes out."""
        logits = self._scored(fields, numbers, training)
        for block in (block for blocks in self._members_of for block in blocks):
            if has_losses(block):
                raise ValueError(f"{block.name} adds losses where XLA compiles it. Leave jit_compile=True out.")
        return logits

    def _scored(self, fields: Any, numbers: tf.Tensor, training: bool | None) -> tf.Tensor:
        """The dense part, all that XLA compiles where it does: from what was looked up to logits, [batch, members]."""
        fields, terms, beside = self._with_numbers(fields, numbers, training)
        if self._field_dropout is not None and training:
            there = tf.ones_like(fields.embeddings[:, :, 0], tf.float32)  # [batch, fields]
            fields = fields.weighed(self._field_dropout(there, training=training))
        logits, interactions = self._interactions(fields, training)
        if self.structure != "stacked":
            embeddings = fields.embeddings
            embeddings = flat(embeddings) if self.members == 1 else flat_of_members(embeddings, self.members)
            beside = [tf.cast(embeddings, tf.float32), *beside]
        if self.structure == "parallel":
            last = interactions + self._through_tower(beside, training)
        else:
            last = self._through_tower(interactions + beside, training)
        terms = terms + logits
        if self._head is not None:
            terms = [*terms, self._head(joined(last, self.members))]
        return self.label_mean + self.label_scale * sum(terms, start=self._bias)

    def _with_numbers(self, fields: Any, numbers: tf.Tensor, training: bool | None) -> tuple[Any, list[Any], list[Any]]:
        """`FieldEmbeddings` or `FieldSums`; the first-order terms, each [batch, 1]; and what goes to the tower."""
        terms = [] if fields.first_order is None else [fields.first_order]
        if self.numeric == "field" or not numbers.shape[1]:
            return fields, terms, []
        fill = [number.fill for number in self._known_features().numbers]
        numbers = tf.where(tf.math.is_nan(numbers), tf.constant(fill, tf.float32), numbers)
        if self._number_weights is not None:
            terms.append(self._number_weights(numbers))
        if self._bottom is None:
            return fields, terms, [numbers if self.members == 1 else tf.tile(numbers, [1, self.members])]
        field = tf.cast(self._bottom(numbers, training=training), tf.float32)
        # Once: it is among the embeddings where the tower takes them.
        return fields.with_field(field), terms, [field] if self.structure == "stacked" else []

    def _interactions(self, fields: Any, training: bool | None) -> tuple[list[Any], list[Any]]:
        """The logits that are added as they are, [batch, members], and the rest, [batch, members · units]; [] where
        there is none."""
        outputs = [tf.cast(self._interaction(blocks, fields), tf.float32) for blocks in self._members_of]
        hidden = joined(outputs, self.members)
        if self._interaction_batch_norm is not None:
            hidden = self._interaction_batch_norm(hidden, training=training)
        if self._interaction_dropout is not None:
            hidden = self._interaction_dropout(hidden, training=training)
        if not self._num_logits:
            return [], [hidden]
        if self.members == 1:
            logits, hidden = hidden[:, : self._num_logits], hidden[:, self._num_logits :]
            return [tf.reduce_sum(logits, axis=1, keepdims=True)], [hidden] if hidden.shape[1] else []
        units = hidden.shape[1] // self.members
        apart = tf.reshape(hidden, [-1, self.members, units])
        logits = tf.reduce_sum(apart[:, :, : self._num_logits], axis=2)
        if units == self._num_logits:
            return [logits], []
        return [logits], [tf.reshape(apart[:, :, self._num_logits :], [-1, self.members * (units - self._num_logits)])]

    def _interaction(self, blocks: list[Any], fields: Any) -> tf.Tensor:
        """What each member's block, or one block for all of them, returns, [batch, members · units]."""
        if self.members == 1:
            block = blocks[0]
            if isinstance(fields, FieldSums):
                return block.from_sums(fields.total, fields.squares)
            return block(fields.embeddings, mask=fields.mask)
        if isinstance(fields, FieldSums) and len(blocks) == 1:  # members are rows
            output = blocks[0].from_sums(*(tf.reshape(sums, [-1, self._dim]) for sums in fields[:2]))
            return tf.reshape(output, [-1, self.members * output.shape[1]])
        blocks = blocks * (self.members // len(blocks))
        if isinstance(fields, FieldSums):
            parts = zip(*(tf.split(sums, self.members, axis=1) for sums in fields[:2]), strict=True)
            outputs = [block.from_sums(*part) for block, part in zip(blocks, parts, strict=True)]
        else:
            parts = tf.split(fields.embeddings, self.members, axis=2)
            outputs = [block(part, mask=fields.mask) for block, part in zip(blocks, parts, strict=True)]
        return tf.concat(outputs, axis=1)

    def _through_tower(self, inputs: list[Any], training: bool | None) -> list[Any]:
        """The tower's output, float32 [batch, members · units], of inputs side by side; [] where there is none."""
        if not inputs:
            return []
        return [tf.cast(self._tower(joined(inputs, self.members), training=training), tf.float32)]

    def _traced_call(self, encoded: Mapping[str, Any]) -> tf.Tensor:
        return self.call(encoded, training=False)

    def number_weights(self) -> list[NumberWeights]:
        """Returns the weights that standardised numbers are multiplied by, wherever numbers go; all are linear."""
        numbers = self._known_features().numbers
        if not numbers:
            return []
        if self.embedding.has_number_fields:
            _, present = self.embedding.layouts[0].number_rows()
            return [NumberWeights(self.embedding.table, present, None)]
        found = []
        if self._number_weights is not None:
            found.append(NumberWeights(self._number_weights.kernel, range(len(numbers)), self._bias))
        if self._bottom is not None or self.hidden_units:
            kernel, bias = (self._bottom or self._tower).first_weights
        else:
            kernel, bias = self._head.kernel, self._bias  # type: ignore[union-attr]  # there is one beside numbers
        # The bottom network takes numbers alone, any other layer takes them behind the rest.
        return [*found, NumberWeights(kernel, range(kernel.shape[-2] - len(numbers), kernel.shape[-2]), bias)]

    # --- XLA

    def compile(
        self, optimizer: Any = None, *, jit_compile: bool | Literal["auto"] | None = "auto", **kwargs: Any
    ) -> None:
        """Compiles as `TaskModel.compile` does.

        Args:
            optimizer: A Keras optimizer or its name; LazyAdagrad(0.05) if not given (with XLA Keras' Adagrad).
            jit_compile: Whether XLA compiles the dense part, from the embeddings to the logit; look-ups, of any kind,
                and optimizers stay outside. It compiles once more for a last batch of another size. `"auto"` does not:
                on CPUs its matrix products are slower than TensorFlow's own.
            **kwargs: See `TaskModel.compile`.

        Raises:
            ValueError: See `TaskModel.compile`; or `jit_compile=True` for a number of fields that differs by batch.
        """
        self._check_fields(jit_compile is True)
        super().compile(optimizer, jit_compile=jit_compile if jit_compile is not True else False, **kwargs)
        self._set_xla(jit_compile is True)

    @untracked
    def _set_xla(self, jit_compile: bool) -> None:
        # Untracked: Keras would save it as a function of the model's.
        self._scored_by_xla = None
        if jit_compile:
            self._scored_by_xla = tf.function(self._scored_alone, jit_compile=True, autograph=False)

    @contextmanager
    def without_xla(self) -> Iterator[None]:
        """Computes the dense part plainly inside, however the model is compiled."""
        compiled = self._scored_by_xla
        self._set_xla(False)
        try:
            yield
        finally:
            self._set_xla(compiled is not None)

    def _check_fields(self, jit_compile: bool) -> None:
        if jit_compile and self.features is not None and self.embedding.num_fields is None and not self.takes_sums:
            raise ValueError(
                "jit_compile=True needs the same number of fields in each batch; received features with combiner=None "
                "and no max_length. Give them a max_length."
            )

    # --- what a person sees

    def __repr__(self) -> str:
        return description.describe(self)

    def _repr_html_(self) -> str:
        return description.describe_as_html(self)

    # --- saving

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainable": self.trainable,
            "features": self.features.to_dict() if self.features else None,
            "embedding_dim": self.embedding_dim,
            # Left out where they are as ever: subclasses of before take none.
            **({"members": self.members} if self.members > 1 else {}),
            **({} if self.member_dim is None else {"member_dim": self.member_dim}),
            "interaction": interaction_config(self.interaction, self.dtype_policy.name),
            "structure": self.structure,
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
            "history_combiner": self.history_combiner,
            "number_encoder": self.number_encoder,
            "embedding_stddev": self.embedding_stddev,
            "embedding_l2": self.embedding_l2,
            # Left out where they are as ever: subclasses of before take none.
            **({} if self.embedding_l2_by == "batch" else {"embedding_l2_by": self.embedding_l2_by}),
            **({"field_dropout": self.field_dropout} if self.field_dropout else {}),
            **({"label_smoothing": self.label_smoothing} if self.label_smoothing else {}),
            **({"self_ensemble": self.self_ensemble} if self.self_ensemble else {}),
            "task": self.written_task,
            "label": self.label,
            "dtype": self.dtype_policy.name,
        }

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        return {**config, "jit_compile": self._scored_by_xla is not None} if config else config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "RankingModel":
        del custom_objects
        return cls(**config)

    def get_build_config(self) -> None:
        """Returns None: the features in the config are all it takes to build."""


def _not_apart(model: RankingModel) -> ValueError:
    return ValueError(
        f"Members are apart in models that compute as RankingModel does; {type(model).__name__} has a call of its own. "
        "Let it write member_logits too."
    )


def _too_large(what: str) -> ValueError:
    return ValueError(
        f"{what}. Lower embedding_dim (of members member_dim), members, hidden_units, or the features' buckets."
    )
