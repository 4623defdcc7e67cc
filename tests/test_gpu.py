"""On a GPU: the same numbers as on the CPU, as far as the precision goes; the same rows; no compile per step.

`pytest -m gpu`, or `pytest tests/test_gpu.py` where the package lies beside TensorFlow, tf-keras and TFRS alone.
"""

from contextlib import nullcontext

import numpy as np
import pytest

from nfm_tfrs import specs
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.embedding.table import FieldEmbeddings, FieldSums, FusedEmbedding
from nfm_tfrs.features.encoder import IDS, FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature, NumericFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.models.task_model import TaskModel
from nfm_tfrs.optimizers import LazyAdagrad, LazyAdam
from nfm_tfrs.testing.kit import BOUNDS

DEVICE = "GPU:0"
GPUS = tf.config.list_physical_devices("GPU")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs a GPU")]

# TF32 keeps as many bits as float16.
PRECISIONS = {"float32": 1e-4, "tf32": BOUNDS["mixed_float16"], **BOUNDS}
OURS = {spec.name: spec for name, spec in vars(specs).items() if name.endswith("_BLOCK")}
FEATURES = [
    CategoricalFeature("user", vocabulary_size=50),
    CategoricalFeature("city", vocabulary=["Rome", "Oslo", "Bern"]),
    CategoricalFeature("shop", num_hash_buckets=20),
    NumericFeature("price", mean=1.0, std=2.0),
    NumericFeature("age"),
    MultiCategoricalFeature("tags", vocabulary_size=9),
]
BATCH = 64


@pytest.fixture(scope="module", autouse=True)
def _growth():
    for gpu in GPUS:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # started by what another test module does when it is imported
            assert tf.config.experimental.get_memory_growth(gpu), "Set TF_FORCE_GPU_ALLOW_GROWTH=true."


@pytest.fixture(autouse=True)
def let_tf32():
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    yield tf.config.experimental.enable_tensor_float_32_execution
    tf.config.experimental.enable_tensor_float_32_execution(before)


@pytest.fixture
def strict(let_tf32):
    """float32 is float32."""
    let_tf32(False)


def raw(count=BATCH, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 4, count)
    columns = {
        "user": rng.integers(-1, 60, count),
        "city": rng.choice(["Rome", "Oslo", "Bern", "Ulm", ""], count),
        "shop": rng.choice(["a", "b", "c", "d", "e"], count),
        "price": np.where(rng.random(count) < 0.2, np.nan, rng.normal(1, 2, count)).astype(np.float32),
        "age": rng.normal(size=count).astype(np.float32),
        "tags": tf.RaggedTensor.from_row_lengths(rng.integers(0, 9, lengths.sum()), lengths),
    }
    return columns, (columns["user"] % 2 == 0).astype(np.float32)


def batches(count, seed=0):
    return tf.data.Dataset.from_tensor_slices(raw(count, seed)).batch(BATCH, drop_remainder=True)


def placed(device):
    """Where TensorFlow itself places things, on the GPU and strings beside it, or all on the CPU."""
    return nullcontext() if device == DEVICE else tf.device(device)


def on(device, **arguments):
    """The same model, its weights on a device."""
    keras.utils.set_random_seed(0)
    with placed(device):
        return RankingModel(FEATURES, embedding_dim=8, hidden_units=(16,), embedding_stddev=0.3, **arguments)


def error(output, expected):
    """‖output − expected‖ ÷ ‖expected‖"""
    output, expected = (np.asarray(tf.cast(one, tf.float64)) for one in (output, expected))
    return np.linalg.norm(output - expected) / np.linalg.norm(expected)


# --- numerics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", OURS)
def test_a_block_gives_what_it_gives_in_float32_on_the_cpu(name, precision, let_tf32):
    let_tf32(precision != "float32")
    policy = precision if precision in BOUNDS else "float32"
    shape = [256, 5, 8]
    keras.utils.set_random_seed(0)
    with tf.device("CPU:0"):
        reference = OURS[name].load()(dtype="float32")
        reference(tf.zeros(shape))
    with tf.device(DEVICE):
        block = OURS[name].load()(dtype=policy)
        block(tf.zeros(shape, block.compute_dtype))
    block.set_weights(reference.get_weights())
    for stddev in block.numeric_range:
        values = np.random.default_rng(0).normal(0.0, stddev, shape).astype(np.float32)
        with tf.device("CPU:0"):
            rounded = tf.cast(values, block.compute_dtype)
            expected = reference(tf.cast(rounded, tf.float32))
        with tf.device(DEVICE):
            output = block(tf.identity(rounded))
        assert output.device.endswith(DEVICE)
        assert error(output, expected) <= PRECISIONS[precision]


def test_bi_interaction_of_one_number_alone_is_0_where_products_may_round_to_tf32(let_tf32):
    let_tf32(True)
    spec = FeatureSpec((NumericFeature("x"), NumericFeature("y")))
    with tf.device(DEVICE):
        layer = FusedEmbedding(spec, 16, stddev=1.0)
        layer.build(None)
        layer.set_weights([np.random.default_rng(0).normal(size=layer.table.shape)])
        x = np.random.default_rng(1).normal(0.0, 3.0, 256).astype(np.float32)
        encoded = FeatureEncoder(spec)({"x": x, "y": np.zeros(256, np.float32)})
        sums = layer(encoded, sums=True)
        pooled = BiInteraction().from_sums(sums.total, sums.squares)
        apart = BiInteraction()(layer(encoded).embeddings)
    largest = np.abs(sums.squares).max()
    assert largest > 1
    assert np.abs(pooled).max() <= 1e-6 * largest
    assert np.abs(apart).max() <= 1e-6 * largest


@pytest.mark.parametrize("ways", [{"distinct": True}, {"sums": True}, {"distinct": True, "sums": True}], ids=str)
def test_every_way_to_look_up_gives_the_cpus_sums_and_gradient(ways, strict):
    spec = FeatureSpec(tuple(FEATURES))
    columns, _ = raw()

    def looked_up(device, **arguments):
        with placed(device):
            layer = FusedEmbedding(spec, 8)
            layer.build(None)
            layer.set_weights([np.random.default_rng(1).normal(size=layer.table.shape)])
            encoded = FeatureEncoder(spec)(columns)
            with tf.GradientTape() as tape:
                fields = layer(encoded, **arguments)
                if isinstance(fields, FieldEmbeddings):
                    vectors = fields.embeddings
                    sums = tf.reduce_sum(vectors, 1), tf.reduce_sum(vectors**2, 1)
                    fields = FieldSums(*sums, fields.first_order)
                scales = [np.random.default_rng(2).normal(size=part.shape).astype(np.float32) for part in fields]
                total = tf.add_n([tf.reduce_sum(part * scale) for part, scale in zip(fields, scales, strict=True)])
            return [*fields, tf.convert_to_tensor(tape.gradient(total, layer.table))]

    for one, other in zip(looked_up(DEVICE, **ways), looked_up("CPU:0"), strict=True):
        assert error(one, other) < 1e-5


def test_ids_out_of_range_and_unknown_values_read_row_0_as_on_the_cpu(strict):
    columns = {
        "user": np.array([0, 49, 50, 10**12, -1]),
        "city": np.array(["Rome", "Bern", "Ulm", "", "Oslo"]),
        "shop": np.array(["a", "b", "", "c", "d"]),
        "price": np.array([1.0, np.nan, 70_000.0, -3.0, 0.0], np.float32),
        "age": np.zeros(5, np.float32),
        "tags": tf.ragged.constant([[0, 8], [9], [10**12], [], [-1, 3]], tf.int64),
    }
    encoded, scores = [], []
    weights = [weight + 0.1 for weight in on("CPU:0").get_weights()]  # unknown values start at zero
    for device in (DEVICE, "CPU:0"):
        model = on(device)
        model.set_weights(weights)
        with placed(device):
            encoded.append(model.encoder(columns))
            scores.append(model(columns).numpy())
    for one, other in zip(*(tf.nest.flatten(batch, expand_composites=True) for batch in encoded), strict=True):
        np.testing.assert_array_equal(one, other)
    offset = FeatureSpec(tuple(FEATURES)).offsets["user"]
    assert encoded[0][IDS][:, 0].numpy().tolist() == [offset + 1, offset + 50, offset, offset, offset]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5, atol=1e-5)


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("policy", ["float32", *BOUNDS])
def test_a_model_trains_on_the_device_nearly_as_on_the_cpu(policy, xla):
    losses = []
    for device, dtype in ((DEVICE, policy), ("CPU:0", "float32")):
        model = on(device, dtype=dtype, interaction=["bi_interaction", "cross"])
        with placed(device):
            model.compile(LazyAdam(0.01), jit_compile=xla and device == DEVICE)
            losses.append(model.fit(batches(10 * BATCH), epochs=3, verbose=0).history["loss"])
        assert model.embedding.table.device.endswith(device)
    assert losses[1][-1] < 0.9 * losses[1][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize(
    "make", [LazyAdam, LazyAdagrad, keras.optimizers.Adagrad, keras.optimizers.Adam, keras.optimizers.SGD]
)
def test_the_number_of_distinct_ids_compiles_nothing_anew(make, clip):
    model = on(DEVICE)
    model.compile(make(0.01, global_clipnorm=clip))
    step = tf.function(model.train_step, autograph=False)
    columns, labels = raw()
    traces = []
    for distinct in (1, 3, 40):
        same = dict(columns, user=np.arange(BATCH) % distinct)
        step((model.encoder(same), tf.constant(labels)))
        traces.append(step.experimental_get_tracing_count())
    assert len(set(traces)) == 1
    graph = step.get_concrete_function((model.encoder(columns), tf.constant(labels))).graph.as_graph_def()
    compiled = [found.signature.name for found in graph.library.function if found.attr["_XlaMustCompile"].b]
    assert compiled == []


def test_with_xla_a_step_compiles_the_dense_part_and_once_for_all_numbers_of_ids(monkeypatch):
    traced, scored = [], RankingModel._scored
    monkeypatch.setattr(RankingModel, "_scored", lambda *arguments: traced.append(1) or scored(*arguments))
    model = on(DEVICE)
    model.compile(LazyAdam(0.01), jit_compile=True)
    built = len(traced)
    for distinct in (1, 3, 40):
        columns, labels = raw()
        data = tf.data.Dataset.from_tensors((dict(columns, user=np.arange(BATCH) % distinct), labels))
        model.fit(data, verbose=0)
    assert len(traced) - built == 1


@pytest.mark.parametrize("make", [LazyAdam, keras.optimizers.Adagrad])
def test_steps_that_overflow_in_float16_are_skipped_and_counted(make):
    model = on(DEVICE, dtype="mixed_float16")
    model.compile(keras.mixed_precision.LossScaleOptimizer(make(0.01), initial_scale=2.0**30))
    history = model.fit(batches(20 * BATCH), epochs=2, verbose=0).history
    skipped = sum(history["skipped_steps"])
    assert 1 <= skipped <= 20
    assert int(model.optimizer.iterations) == 40 - skipped
    assert float(model.optimizer.loss_scale) == 2.0 ** (30 - skipped)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_mirrored_strategy_on_one_gpu_trains():
    strategy = tf.distribute.MirroredStrategy([DEVICE])
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = RankingModel(FEATURES, embedding_dim=8, hidden_units=(16,), embedding_stddev=0.3)
        model.compile(LazyAdam(0.01))
    losses = model.fit(batches(10 * BATCH), epochs=3, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert TaskModel._most_steps.fget(model) == 8  # one replica


# --- beside others ---------------------------------------------------------------------------------------------------

SHARE = """
import numpy as np
from nfm_tfrs import CategoricalFeature, RankingModel
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.precision import policy
chosen = policy("auto").name
for gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(gpu, True)
model = RankingModel([CategoricalFeature(name, vocabulary_size=99) for name in "ab"], dtype=chosen)
model.compile()
rng = np.random.default_rng(0)
columns = {name: rng.integers(0, 99, 256) for name in "ab"}
model.fit(columns, rng.integers(0, 2, 256).astype(np.float32), verbose=0)
print(chosen, model.embedding.table.device, tf.config.experimental.get_memory_info("GPU:0")["peak"])
"""


def test_memory_may_be_made_to_grow_after_auto_was_asked_and_two_processes_share_the_card(run_python):
    on(DEVICE)(raw()[0])  # this process holds the card
    capability = tf.config.experimental.get_device_details(GPUS[0])["compute_capability"]
    chosen, device, peak = run_python(SHARE).stdout.split()
    assert chosen == (
        "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    )
    assert device.endswith(DEVICE)
    assert int(peak) < 2**30


LOAD = """
import numpy as np
from nfm_tfrs import load_model
from nfm_tfrs.keras_compat import tf
assert not tf.config.list_physical_devices("GPU")
model = load_model("model.keras")
found = np.load("columns.npz")
columns = {name: found[name] for name in found.files if not name.startswith("tags")}
columns["tags"] = tf.RaggedTensor.from_row_splits(found["tags_values"], found["tags_splits"])
np.save("scores.npy", model(columns).numpy())
"""


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_model_saved_on_the_gpu_scores_the_same_on_a_cpu(policy, run_python, tmp_path, strict):
    model = on(DEVICE, dtype=policy)
    model.compile(LazyAdam(0.01))
    model.fit(batches(10 * BATCH), verbose=0)
    columns, _ = raw(seed=1)
    model.save(tmp_path / "model.keras")
    tags = columns.pop("tags")
    np.savez(tmp_path / "columns.npz", **columns, tags_values=tags.values.numpy(), tags_splits=tags.row_splits.numpy())
    run_python(LOAD, folder=tmp_path, CUDA_VISIBLE_DEVICES="")
    scores, expected = np.load(tmp_path / "scores.npy"), model({**columns, "tags": tags}).numpy()
    if policy == "float32":
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    else:
        assert error(scores, expected) <= BOUNDS[policy]
