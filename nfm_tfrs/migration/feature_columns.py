"""`tf.feature_column`s as features of ours.

| feature column | feature |
|---|---|
| embedding_column over sequence_categorical_column_with_* | MultiCategoricalFeature(combiner=None) |
| embedding_column over categorical_column_with_* | MultiCategoricalFeature(combiner=the column's) |
| embedding_column over weighted_categorical_column | the same, with weights= |
| numeric_column | NumericFeature |
| bucketized_column, or embedding_column over it | NumericFeature(boundaries=…) |

with `*` one of hash_bucket, identity, vocabulary_list and vocabulary_file. A value has the same id i here and there;
its embedding lies in row i of theirs and in row i + 1 of ours, whose row 0 is for unknown values. What differs:

- An unknown value, of a vocabulary or an identity column, is not counted there when a bag is averaged; here it counts
  as one more value, whose vector starts at zero. An identity column without default_value fails there.
- Every negative integer and every `""` is missing here; there only -1 and `""` are, and only in dense input.
- A weight of 0 or less drops its value there, unless the combiner is "sum"; here it weighs as it is.
- NaN in a bucketised number is missing here, and in the last bucket there.
- Embeddings start as the model says, not with a standard deviation of 1/√dimension.

shared_embeddings exist only outside eager execution; here features share their rows by their `embedding_name`.
"""

import math
from collections.abc import Iterable
from typing import Any

from nfm_tfrs.features.feature import Feature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.keras_compat.private import is_feature_column

_FUNCTIONS = {
    "BucketizedColumn": "bucketized_column",  # inside a weighted_categorical_column
    "CrossedColumn": "crossed_column",
    "HashedCategoricalColumn": "categorical_column_with_hash_bucket",
    "IdentityCategoricalColumn": "categorical_column_with_identity",
    "IndicatorColumn": "indicator_column",
    "SequenceCategoricalColumn": "sequence_categorical_column",
    "SequenceNumericColumn": "sequence_numeric_column",
    "SharedEmbeddingColumn": "shared_embedding",
    "VocabularyFileCategoricalColumn": "categorical_column_with_vocabulary_file",
    "VocabularyListCategoricalColumn": "categorical_column_with_vocabulary_list",
    "WeightedCategoricalColumn": "weighted_categorical_column",
}
_REMEDIES = {
    "BucketizedColumn": "Leave its weights out.",
    "CrossedColumn": "Give each of its inputs a column of its own; the interaction makes the pairs.",
    "IndicatorColumn": "Write embedding_column in its place.",
    "SharedEmbeddingColumn": "Write embedding_columns, and give their features one embedding_name.",
    "SequenceNumericColumn": "Give each position a numeric_column of its own.",
}


def features_from_columns(columns: Iterable[Any]) -> list[Feature]:
    """Returns the features that read what the feature columns read, in their order.

    A sequence without a max_length has as many fields as the longest row of a batch; give it one with
    `spec.replace(dataclasses.replace(spec["name"], max_length=…))`. A column that always has one value an example
    is a little cheaper as a `CategoricalFeature`, replaced in the same way.

    Args:
        columns: The list that `DenseFeatures` or `SequenceFeatures` would take.

    Raises:
        ValueError: Not a list of feature columns; a column of another kind, or with an argument that has no
            counterpart; unequal embedding dimensions; two columns on one input.

    Example:
        >>> seq = tf.feature_column.sequence_categorical_column_with_hash_bucket("seq", 10, tf.int64)
        >>> features_from_columns([tf.feature_column.embedding_column(seq, dimension=8)])[0].num_hash_buckets
        10
    """
    columns = listed(columns)
    _common_dimension(columns)
    features = [feature_from_column(column) for column in columns]
    readers: dict[str, Any] = {}
    for feature, column in zip(features, columns, strict=True):
        if feature.name in readers:
            both = f"{readers[feature.name].name!r} and {column.name!r}"
            raise ValueError(
                f"Feature columns {both} both read the input {feature.name!r}. "
                "Keep one, or give the other a copy of the input under another name."
            )
        readers[feature.name] = column
    return features


def embedding_dim(columns: Iterable[Any]) -> int:
    """Returns the dimension that all embeddings of the feature columns have: the model's `embedding_dim`.

    Raises:
        ValueError: Not a list of feature columns, unequal dimensions, or no embedding at all.

    Example:
        >>> seq = tf.feature_column.sequence_categorical_column_with_hash_bucket("seq", 10, tf.int64)
        >>> embedding_dim([tf.feature_column.embedding_column(seq, dimension=8)])
        8
    """
    dimension = _common_dimension(listed(columns))
    if dimension is None:
        raise ValueError("None of the feature columns is an embedding_column. Choose embedding_dim yourself.")
    return dimension


def listed(columns: Iterable[Any]) -> list[Any]:
    """Returns the columns as a list; a column is itself a tuple, so that a single one would pass as several."""
    if is_feature_column(columns):
        raise ValueError(f"A list of feature columns is needed; received the single {columns.name!r}. Write [column].")
    columns = list(columns)
    if not columns:
        raise ValueError("A list of feature columns is needed; received an empty one.")
    return columns


def _common_dimension(columns: list[Any]) -> int | None:
    embedded = [column for column in columns if _is_embedding(column)]
    for column in embedded:
        if column.dimension != embedded[0].dimension:
            raise ValueError(
                f"All embeddings need one dimension; {embedded[0].name!r} has {embedded[0].dimension} and "
                f"{column.name!r} {column.dimension}. Give both the same."
            )
    return embedded[0].dimension if embedded else None


def feature_from_column(column: Any) -> Feature:
    """Returns the feature of one column; see `features_from_columns`."""
    kind = type(column).__name__
    if _is_embedding(column):
        return _embedded(column)
    if kind == "BucketizedColumn":
        return _bucketized(column)
    if kind == "NumericColumn":
        return _number(column)
    if not is_feature_column(column):
        raise ValueError(f"A list of feature columns is needed; received a {kind} in it. Leave it out.")
    raise _refused(column)


def _embedded(column: Any) -> Feature:
    _check_options(column)
    categories, weights = column.categorical_column, None
    kind = type(categories).__name__
    if kind == "BucketizedColumn":
        return _bucketized(categories)
    if kind == "WeightedCategoricalColumn":
        categories, weights = categories.categorical_column, categories.weight_feature_key
    sequence = type(categories).__name__ == "SequenceCategoricalColumn"
    if sequence and weights:
        raise ValueError(
            f"Feature column {column.name!r} weights a sequence column, which TensorFlow cannot embed by position. "
            f"Write MultiCategoricalFeature({categories.name!r}, combiner=None, weights={weights!r}, …)."
        )
    if sequence:
        categories = categories.categorical_column
    return MultiCategoricalFeature(
        categories.name,
        combiner=None if sequence else column.combiner or "mean",  # TensorFlow's own default
        weights=weights,
        **_categories(categories),
    )


def _categories(column: Any) -> dict[str, Any]:
    """The arguments that give a value the id it has in a categorical column."""
    kind = type(column).__name__
    dtype = "string" if getattr(column, "dtype", None) == tf.string else "int64"
    if kind == "HashedCategoricalColumn":
        return {"num_hash_buckets": column.num_buckets, "dtype": dtype}
    if kind == "IdentityCategoricalColumn":
        _check_unknown(column, of_its_own=None)
        return {"vocabulary_size": column.num_buckets}
    if kind == "VocabularyListCategoricalColumn":
        _check_unknown(column, of_its_own=-1)
        vocabulary = column.vocabulary_list
        return {"vocabulary": [value.decode() if isinstance(value, bytes) else value for value in vocabulary]}
    if kind == "VocabularyFileCategoricalColumn":
        _check_unknown(column, of_its_own=-1)
        return {"vocabulary": _vocabulary_file(column, int if dtype == "int64" else str)}
    raise _refused(column)


def _vocabulary_file(column: Any, kind: type) -> list[Any]:
    where = f"{column.vocabulary_file} of feature column {column.name!r}"
    if column.file_format == "tfrecord_gzip":
        raise ValueError(f"The vocabulary file {where} is a TFRecord. Write it as text, one value a line.")
    try:
        with tf.io.gfile.GFile(column.vocabulary_file, "rb") as file:
            lines = file.read().decode().removesuffix("\n").split("\n")
        values = [kind(line.removesuffix("\r")) for line in lines[: column.vocabulary_size]]
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(
            f"The vocabulary file {where} cannot be read ({error}). Check the path, and the column's dtype."
        ) from error
    if len(values) < column.vocabulary_size:
        raise ValueError(
            f"The vocabulary file {where} has {len(values)} lines, not vocabulary_size={column.vocabulary_size}. "
            "Leave vocabulary_size out."
        )
    return values


def _bucketized(column: Any) -> NumericFeature:
    return NumericFeature(_number(column.source_column).name, boundaries=column.boundaries)


def _number(column: Any) -> NumericFeature:
    if tuple(column.shape) != (1,):
        raise ValueError(
            f"Feature column {column.name!r} has shape {tuple(column.shape)}, but a number is one value an example. "
            "Give each position a column of its own."
        )
    if column.normalizer_fn is not None:
        raise ValueError(
            f"Feature column {column.name!r} has a normalizer_fn, which a spec cannot keep. "
            f"Write NumericFeature({column.name!r}, mean=…, std=…, log=…), or normalise the input."
        )
    return NumericFeature(column.name)


def _check_unknown(column: Any, of_its_own: int | None) -> None:
    if getattr(column, "num_oov_buckets", 0):
        raise ValueError(
            f"Feature column {column.name!r} has num_oov_buckets={column.num_oov_buckets}, but all unknown values have "
            "one row here. Leave num_oov_buckets out."
        )
    if column.default_value != of_its_own:
        raise ValueError(
            f"Feature column {column.name!r} has default_value={column.default_value}, but unknown values have a row "
            "of their own here. Leave default_value out."
        )


def _check_options(column: Any) -> None:
    if column.max_norm is not None:
        raise ValueError(
            f"Feature column {column.name!r} has max_norm={column.max_norm}, but embeddings are not clipped here. "
            "Leave max_norm out; embedding_l2= of the model keeps embeddings small."
        )
    if not column.trainable:
        raise ValueError(
            f"Feature column {column.name!r} has trainable=False, but all embeddings are trained here. "
            "Leave trainable out."
        )
    if column.ckpt_to_load_from is not None:
        raise ValueError(
            f"Feature column {column.name!r} loads a checkpoint, {column.ckpt_to_load_from!r}. "
            "Leave ckpt_to_load_from out, and assign the weights once the model is built."
        )
    default = {"mean": 0.0, "stddev": 1 / math.sqrt(column.dimension), "seed": None}  # what leaving it out gives
    config = column.initializer.get_config() if type(column.initializer).__name__ == "TruncatedNormal" else {}
    if {key: config.get(key) for key in default} != default:
        raise ValueError(
            f"Feature column {column.name!r} has an initializer of its own. Leave it out, and give the model "
            "embedding_stddev=, or assign the weights once it is built."
        )


def _is_embedding(column: Any) -> bool:
    return type(column).__name__ == "EmbeddingColumn"


def _refused(column: Any) -> ValueError:
    kind = type(column).__name__
    remedy = _REMEDIES.get(kind, "Wrap it in tf.feature_column.embedding_column.")
    return ValueError(
        f"Feature column {column.name!r} is of kind {_FUNCTIONS.get(kind, kind)}, which has no feature. {remedy}"
    )
