"""TensorFlow has kernels for GPUs for what a training step does: else a batch's rows would go through the host."""

from functools import cache
from itertools import chain

import pytest
from tensorflow.python.framework import kernels

from nfm_tfrs.features.encoder import encoded_signature
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.optimizers import LazyAdam
from tfrs_registry import blocks

pytestmark = pytest.mark.skipif(not tf.test.is_built_with_cuda(), reason="this TensorFlow knows no GPU")

SINGLE = [CategoricalFeature(name, vocabulary_size=9) for name in "ab"]
NUMBERS = [NumericFeature("x"), NumericFeature("y")]
BAGS = [
    *(MultiCategoricalFeature(combiner, vocabulary_size=9, combiner=combiner) for combiner in ("mean", "sum", "max")),
    MultiCategoricalFeature("positions", vocabulary_size=9, combiner=None, max_length=3),
]
WHAT_IS_WRONG = "PyFunc"  # looked for where a batch is refused alone
# Of bags, whose values are few beside the embeddings; but for the positions of one that is not pooled.
THROUGH_THE_HOST = ["RaggedTensorToTensor", "UnsortedSegmentSum"]
OURS = [name for name in blocks.names() if blocks.provider(name).startswith("nfm-tfrs ")]


def without_gpu_kernel(model):
    """The ops of a step, by name and dtypes, that TensorFlow cannot run on a GPU."""
    signature = (encoded_signature(model.features), tf.TensorSpec([None], tf.float32))
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(signature).graph.as_graph_def()
    nodes = chain(graph.node, *(function.node_def for function in graph.library.function))
    return sorted(
        {f"{node.op} {dtypes(node)}" for node in nodes if node.op != WHAT_IS_WRONG and not has_gpu_kernel(node)}
    )


@cache
def registered(op):
    return list(kernels.get_registered_kernels_for_op(op).kernel)


def has_gpu_kernel(node):
    found = registered(node.op)
    return any(
        kernel.device_type in ("GPU", "DEFAULT")
        and all(
            node.attr[one.name].type in one.allowed_values.list.type or one.allowed_values.list.s
            for one in kernel.constraint
        )
        for kernel in found
    )


def dtypes(node):
    return [tf.as_dtype(value.type).name for value in node.attr.values() if value.type]


@pytest.mark.parametrize("features", [SINGLE, [*SINGLE, *NUMBERS], [*SINGLE, *NUMBERS, *BAGS]], ids=len)
@pytest.mark.parametrize("optimizer", [LazyAdam, keras.optimizers.Adagrad])
def test_every_op_of_a_step_but_two_of_bags_runs_on_a_gpu(optimizer, features):
    for interaction, dtype in (("bi_interaction", "mixed_float16"), ("concat", "mixed_bfloat16")):
        model = RankingModel(FeatureSpec(tuple(features)), interaction=interaction, dtype=dtype)
        model.compile(optimizer(0.1))
        found = {op.split()[0] for op in without_gpu_kernel(model)}
        assert sorted(found) == (THROUGH_THE_HOST if model.features.bags else [])


def test_every_op_of_every_block_runs_on_a_gpu():
    model = RankingModel(SINGLE, interaction=OURS, dtype="mixed_float16")
    model.compile(LazyAdam(0.1))
    assert without_gpu_kernel(model) == []
