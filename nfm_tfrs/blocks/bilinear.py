"""Products of pairs of field embeddings, one of them taken through a matrix, of plain and of reweighted fields."""

from typing import Any, Literal, get_args

from nfm_tfrs import arguments
from nfm_tfrs.blocks.base import InteractionBlock, field_pairs, present
from nfm_tfrs.keras_compat import keras, tf

Kind = Literal["all", "each", "interaction"]


@keras.utils.register_keras_serializable(package="nfm_tfrs")
class Bilinear(InteractionBlock):
    """The bilinear interaction of FiBiNET, over the embeddings and over the embeddings that SENET has reweighted.

        p_ij = (v_i W) ⊙ v_j, i < j;  W one matrix ("all"), one a field i ("each") or one a pair ("interaction")
        SENET: u_i = A_i v_i,  A = ReLU(W_2 ReLU(W_1 z)),  z_i = mean of v_i

    Fields whose mask is False count as zero vectors.

    Args:
        kind: Variant of the matrices, by its line above.
        senet: Whether to add the pairs of the reweighted fields, which have matrices of their own.
        reduction_ratio: Number of fields divided by the width of SENET's hidden layer.

    Returns:
        `[batch, pairs · dim]` in the compute dtype; with `senet` twice as much, the reweighted pairs first.

    Raises:
        ValueError: An argument out of range; at build, an unknown number of fields or less than two.

    Example:
        >>> Bilinear(kind="each")(tf.ones([8, 3, 5])).shape
        TensorShape([8, 30])

    Reference:
        Huang et al., FiBiNET: Combining Feature Importance and Bilinear Feature Interaction for Click-Through Rate
        Prediction, RecSys 2019, sections 3.2 (SENET) and 3.3 (bilinear interaction).
    """

    def __init__(
        self, kind: Kind = "interaction", *, senet: bool = True, reduction_ratio: int = 3, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.kind = arguments.choice("kind", kind, get_args(Kind))
        self.senet = arguments.switch("senet", senet)
        self.reduction_ratio = arguments.count("reduction_ratio", reduction_ratio)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        fields, dim = input_shape[1], input_shape[2]
        number = {"all": 1, "each": fields - 1, "interaction": len(field_pairs(fields))}[self.kind]
        self._matrices = [self.add_weight("matrices", [number, dim, dim], initializer=_glorot_each)]
        if self.senet:
            self._matrices.append(self.add_weight("senet_matrices", [number, dim, dim], initializer=_glorot_each))
            hidden = max(1, fields // self.reduction_ratio)
            # float32: the weights of whole fields.
            self._squeeze = keras.layers.Dense(hidden, "relu", use_bias=False, dtype="float32", name="squeeze")
            self._excite = keras.layers.Dense(fields, "relu", use_bias=False, dtype="float32", name="excite")

    def call(self, embeddings: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        embeddings = present(embeddings, mask)
        parts = [self._products(embeddings, self._matrices[0])]
        if self.senet:
            weights = self._excite(self._squeeze(tf.reduce_mean(embeddings, axis=2)))  # [batch, fields]
            parts.insert(0, self._products(embeddings * weights[:, :, None], self._matrices[1]))
        return tf.concat(parts, axis=1)

    def _products(self, embeddings: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
        # A product a field or a pair: a single large one loses to the cost of taking its result apart.
        vectors = tf.unstack(tf.cast(embeddings, self.compute_dtype), axis=1)  # each [batch, dim]
        pairs, unstacked = field_pairs(len(vectors)), tf.unstack(matrices)
        if self.kind == "interaction":
            left = [tf.matmul(vectors[i], matrix) for (i, _), matrix in zip(pairs, unstacked, strict=True)]
        else:
            if self.kind == "all":
                unstacked *= len(vectors) - 1
            through = [tf.matmul(vector, matrix) for vector, matrix in zip(vectors[:-1], unstacked, strict=True)]
            left = [through[i] for i, _ in pairs]
        return tf.concat([vector * vectors[j] for vector, (_, j) in zip(left, pairs, strict=True)], axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "senet": self.senet,
            "reduction_ratio": self.reduction_ratio,
        }

    @classmethod
    def search_space(cls, hp: Any) -> dict[str, Any]:
        return {
            "kind": hp.Choice("kind", ["all", "each", "interaction"], default="interaction"),
            "senet": hp.Boolean("senet", default=True),
        }


def _glorot_each(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
    """Glorot's uniform for each matrix of `[number, rows, columns]`."""
    limit = (6 / (shape[1] + shape[2])) ** 0.5
    return tf.random.uniform(shape, -limit, limit, dtype)
