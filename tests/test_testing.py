"""A test of the tests: each check of the conformance suite refuses a component that breaks just what it is for."""

from functools import partial

import numpy as np
import pytest

from nfm_tfrs import testing
from nfm_tfrs.blocks.base import InteractionBlock
from nfm_tfrs.blocks.bi_interaction import BiInteraction
from nfm_tfrs.blocks.cross import Cross
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.ranking import RankingModel
from nfm_tfrs.testing import blocks as block_suite
from nfm_tfrs.testing import models as model_suite
from nfm_tfrs.testing.kit import name_of


class Sum(InteractionBlock):
    """A block that keeps the contract: the sum of the fields that are there, times a weight."""

    dynamic_fields = True

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, input_shape):
        super().build(input_shape)
        self.kernel = self.add_float32_weight("kernel", [input_shape[-1]])

    def call(self, embeddings, mask=None):
        return self.total(embeddings, mask) * self.kernel * self.scale

    def total(self, embeddings, mask):
        embeddings = tf.cast(embeddings, tf.float32)
        if mask is not None:
            embeddings = tf.where(mask[:, :, None], embeddings, 0.0)
        return tf.reduce_sum(embeddings, axis=1)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


# --- blocks that each break one thing


class LosesTheBatchOfOne(Sum):
    def call(self, embeddings, mask=None):
        return tf.squeeze(super().call(embeddings, mask))


class HidesItsUnits(Sum):
    def call(self, embeddings, mask=None):
        output = super().call(embeddings, mask)
        return tf.boolean_mask(output, tf.ones_like(output[0], tf.bool), axis=1)


class FixesTheBatch(Sum):
    def call(self, embeddings, mask=None):
        return tf.reshape(super().call(embeddings, mask), [-1 if tf.executing_eagerly() else 4, 4])


class TakesNoMask(Sum):
    def call(self, embeddings):
        return super().call(embeddings)


class ReturnsTwo(Sum):
    def call(self, embeddings, mask=None):
        return super().call(embeddings, mask), 1.0


class NamesTwoWeightsAlike(Sum):
    def build(self, input_shape):
        super().build(input_shape)
        self.other = self.add_float32_weight("kernel", [input_shape[-1]])

    def call(self, embeddings, mask=None):
        return super().call(embeddings, mask) * self.other


class SearchesNothing(Sum):
    @classmethod
    def search_space(cls, hp):
        return None


class ReturnsIntegers(Sum):
    def call(self, embeddings, mask=None):
        return tf.cast(super().call(embeddings, mask), tf.int32)


class SaysLogit(Sum):
    returns_logit = True


class ForgetsItsArgument(Sum):
    def get_config(self):
        return InteractionBlock.get_config(self)


class IsNotJson(Sum):
    def get_config(self):
        return {**super().get_config(), "scale": np.float32(self.scale)}


class ChangesItsConfig(Sum):
    def get_config(self):
        return {**super().get_config(), "scale": self.scale + 1}


class HasAHiddenArgument(Sum):
    made = 0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        HasAHiddenArgument.made += 1
        self.scale = float(HasAHiddenArgument.made)

    def get_config(self):
        return InteractionBlock.get_config(self)


class HidesItsLayers(Sum):
    """Keras saves no layer that is two lists deep."""

    def build(self, input_shape):
        super().build(input_shape)
        self.layers = [[keras.layers.Dense(4)]]

    def call(self, embeddings, mask=None):
        return self.layers[0][0](super().call(embeddings, mask))


class PoolsInHalf(Sum):
    """The formula of Bi-Interaction in the compute dtype: embeddings of 300 overflow float16."""

    numeric_range = (1e-2, 300.0)

    def call(self, embeddings, mask=None):
        return 0.5 * (tf.square(tf.reduce_sum(embeddings, axis=1)) - tf.reduce_sum(tf.square(embeddings), axis=1))


class WeighsInHalf(Sum):
    def build(self, input_shape):
        InteractionBlock.build(self, input_shape)
        self.kernel = self.add_weight("kernel", [input_shape[-1]], self.compute_dtype)

    def call(self, embeddings, mask=None):
        return self.total(embeddings, mask) * tf.cast(self.kernel, tf.float32)


class OverflowsPureHalf(Sum):
    def call(self, embeddings, mask=None):
        large = tf.constant(1e6, self.variable_dtype)  # infinite where variables are float16
        return super().call(embeddings, mask) * tf.cast(large, tf.float32) * 1e-6


class HasAnIdleWeight(Sum):
    def build(self, input_shape):
        super().build(input_shape)
        self.idle = self.add_weight("idle", [3])


class StopsTheGradient(Sum):
    def call(self, embeddings, mask=None):
        return tf.stop_gradient(super().total(embeddings, mask)) * self.kernel


class HasADeadWeight(Sum):
    def build(self, input_shape):
        super().build(input_shape)
        self.dead = self.add_weight("dead", [1], initializer="ones")

    def call(self, embeddings, mask=None):
        return super().call(embeddings, mask) + 0.0 * self.dead


class HasAnInfiniteGradient(Sum):
    def call(self, embeddings, mask=None):
        return super().call(embeddings, mask) + tf.sqrt(tf.nn.relu(self.total(embeddings, mask)))


class DiffersInGraphs(Sum):
    def call(self, embeddings, mask=None):
        return super().call(embeddings, mask) * (1.0 if tf.executing_eagerly() else 2.0)


class CallsPython(Sum):
    def call(self, embeddings, mask=None):
        output = super().call(embeddings, mask)
        return tf.ensure_shape(tf.numpy_function(lambda x: x, [output], output.dtype), output.shape)


class DiffersCompiled(Sum):
    """Twice as much in a graph of a known batch, which check_xla compiles, and only there."""

    def call(self, embeddings, mask=None):
        output = super().call(embeddings, mask)
        return output * (1.0 if tf.executing_eagerly() or embeddings.shape[0] is None else 2.0)


class SearchesWhatItDoesNotTake(Sum):
    @classmethod
    def search_space(cls, hp):
        return {"width": hp.Int("width", 1, 3)}


class FailsOnItsLastValue(Sum):
    def __init__(self, scale=1.0, **kwargs):
        super().__init__(scale, **kwargs)
        if scale > 2:
            raise ValueError("scale must be 2 or less")

    @classmethod
    def search_space(cls, hp):
        return {"scale": hp.Float("scale", 1.0, 3.0)}


class SearchesAnInactiveScope(Sum):
    @classmethod
    def search_space(cls, hp):
        hp.Choice("kind", ["a", "b"], default="b")
        with hp.conditional_scope("kind", ["a"]):
            return {"scale": hp.Float("scale", 1.0, 2.0)}


class IsInfiniteWhenSearched(Sum):
    @classmethod
    def search_space(cls, hp):
        return {"scale": hp.Choice("scale", [1.0, float("inf")])}


class IgnoresTheSeed(Sum):
    def build(self, input_shape):
        super().build(input_shape)
        self.kernel.assign(np.random.default_rng().normal(size=self.kernel.shape))


class IsRandom(Sum):
    def call(self, embeddings, mask=None):
        return super().call(embeddings, mask) * tf.random.uniform([])


class CountsItsCalls(Sum):
    def build(self, input_shape):
        super().build(input_shape)
        self.calls = self.add_weight("calls", [], initializer="zeros", trainable=False)

    def call(self, embeddings, mask=None):
        self.calls.assign_add(1.0)
        return super().call(embeddings, mask)


class NormalisesByTheBatch(Sum):
    def call(self, embeddings, mask=None):
        output = super().call(embeddings, mask)
        return output - tf.reduce_mean(output, axis=0)


class PassesTheMaskOn(Sum):
    def __init__(self, scale=1.0, **kwargs):
        super().__init__(scale, **kwargs)
        self.supports_masking = True


class IgnoresTheMask(Sum):
    def call(self, embeddings, mask=None):
        return super().call(embeddings)


class MultipliesByTheMask(Sum):
    """0 × NaN is NaN."""

    def call(self, embeddings, mask=None):
        mask = tf.ones(tf.shape(embeddings)[:2], tf.bool) if mask is None else mask
        return super().call(embeddings * tf.cast(mask, embeddings.dtype)[:, :, None])


class AveragesWhatIsThere(Sum):
    """0 / 0 where nothing is."""

    def call(self, embeddings, mask=None):
        mask = tf.ones(tf.shape(embeddings)[:2], tf.bool) if mask is None else mask
        return super().call(embeddings, mask) / tf.reduce_sum(tf.cast(mask, tf.float32), axis=1, keepdims=True)


class AveragesAbsentFieldsIn(Sum):
    def call(self, embeddings, mask=None):
        return super().call(embeddings, mask) / tf.cast(tf.shape(embeddings)[1], tf.float32)


class TreatsATrueMaskAsNone(Sum):
    def call(self, embeddings, mask=None):
        return super().call(embeddings, mask) * (1.0 if mask is None else 2.0)


class SkipsTheShape(Sum):
    def build(self, input_shape):
        self.kernel = self.add_float32_weight("kernel", [input_shape[-1]])
        self.built = True


class RaisesSomethingElse(Sum):
    def build(self, input_shape):
        assert len(input_shape) == 3


class SaysLittle(Sum):
    def build(self, input_shape):
        try:
            super().build(input_shape)
        except ValueError as error:
            raise ValueError("wrong shape") from error


BAD_BLOCKS = [
    ("check_output_shape", TakesNoMask, "its call must take mask=None; it takes; received .'embeddings'"),
    ("check_output_shape", ReturnsTwo, "must return one tensor; received tuple"),
    ("check_output_shape", LosesTheBatchOfOne, r"must map .1, fields, dim. to .1, units.; received \(4,\)"),
    ("check_save_and_load", NamesTwoWeightsAlike, "weights must have names of their own"),
    ("check_search_space", SearchesNothing, "search_space must return a dict; received NoneType"),
    ("check_output_shape", HidesItsUnits, "must know units; received"),
    ("check_output_shape", FixesTheBatch, "must leave the batch unknown"),
    ("check_output_shape", ReturnsIntegers, "must return floats; received int32"),
    ("check_output_shape", SaysLogit, "returns_logit says .batch, 1.; received"),
    ("check_config", ForgetsItsArgument, "get_config must return scale; it returned"),
    ("check_config", IsNotJson, "must be JSON that from_config takes; Object of type float32"),
    ("check_config", ChangesItsConfig, "changes its config from .* to"),
    ("check_config", HasAHiddenArgument, "made from its config returns something else"),
    ("check_save_and_load", HidesItsLayers, "a loaded model says something else"),
    ("check_dtype_policies", PoolsInHalf, "under mixed_float16, embeddings of sd 300: must err .*; sum in float32"),
    ("check_dtype_policies", WeighsInHalf, "under mixed_bfloat16 weights must be float32; received .'bfloat16'"),
    ("check_dtype_policies", OverflowsPureHalf, "must be finite under float16"),
    ("check_gradients", HasAnIdleWeight, "no gradient reaches .*idle.*; compute with it, or do not train it"),
    ("check_gradients", StopsTheGradient, "no gradient reaches the embeddings"),
    ("check_gradients", HasADeadWeight, "must not be zero everywhere; zero; received .*dead"),
    ("check_gradients", HasAnInfiniteGradient, "the gradient of the embeddings must be finite"),
    ("check_graph_equals_eager", DiffersInGraphs, "must return the same in a graph"),
    ("check_xla", CallsPython, "does not compile with XLA"),
    ("check_xla", DiffersCompiled, "must return the same compiled by XLA"),
    ("check_search_space", SearchesWhatItDoesNotTake, "must return constructor arguments; it returned.*width"),
    ("check_search_space", FailsOnItsLastValue, "drew {'scale': 3.0}, which fails: scale must be 2 or less"),
    ("check_search_space", SearchesAnInactiveScope, "drew {'scale': None}, which fails"),
    ("check_search_space", IsInfiniteWhenSearched, "with {'scale': inf} must be finite"),
    ("check_determinism", IgnoresTheSeed, "the same seed must give the same weights"),
    ("check_determinism", IsRandom, "must return the same for the same embeddings"),
    ("check_determinism", CountsItsCalls, "inference must change no weight"),
    ("check_rows_are_independent", NormalisesByTheBatch, "an example must get the same alone"),
    ("check_mask", PassesTheMaskOn, "must not set supports_masking"),
    ("check_mask", TreatsATrueMaskAsNone, "a mask of True must be as none"),
    ("check_mask", IgnoresTheMask, "must use the mask"),
    ("check_mask", MultipliesByTheMask, "an absent field that holds inf must not matter"),
    ("check_mask", AveragesWhatIsThere, "must be finite where every field is absent"),
    ("check_mask", AveragesAbsentFieldsIn, "an absent field more must not matter"),
    ("check_wrong_shape", SkipsTheShape, "must refuse .* when it is built: call super.*build first"),
    ("check_wrong_shape", RaisesSomethingElse, "must raise ValueError; raised AssertionError"),
    ("check_wrong_shape", SaysLittle, "refuses .* unclearly; received wrong shape"),
]


@pytest.mark.parametrize(("check", "block", "message"), BAD_BLOCKS, ids=[b.__name__ for _, b, _ in BAD_BLOCKS])
def test_a_check_of_blocks_refuses_what_breaks_it(check, block, message):
    with pytest.raises(AssertionError, match=rf"^{block.__name__}: .*{message}") as caught:
        getattr(block_suite, check)(block)
    assert "\n" not in str(caught.value)


def test_a_block_that_keeps_the_contract_passes_every_check():
    testing.check_block(Sum)
    testing.check_block(partial(Sum, scale=2.0))


@pytest.mark.parametrize("given", [Sum(), "fm", None], ids=["block", "name", "None"])
def test_what_makes_no_block_is_refused(given):
    with pytest.raises(AssertionError, match=r"^Give a class, or a functools\.partial of one; received"):
        testing.check_block(given)


def test_a_constructor_with_other_arguments_needs_a_partial():
    class NeedsUnits(Sum):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)

    message = "NeedsUnits: must be made from keyword arguments, none here; .*'units'. Give a functools.partial"
    with pytest.raises(AssertionError, match=message):
        testing.check_block(NeedsUnits)


def test_what_a_constructor_raises_itself_comes_through():
    class Fails(Sum):
        def __init__(self, **kwargs):
            raise TypeError("a fault of its own")

    with pytest.raises(TypeError, match=r"^a fault of its own$"):
        testing.check_block(Fails)


def test_check_block_stops_at_the_first_check_that_does_not_hold():
    with pytest.raises(AssertionError, match="HasAnIdleWeight: no gradient reaches"):
        testing.check_block(HasAnIdleWeight)


# --- models that each break one thing


class ReturnsAVector(RankingModel):
    def call(self, columns, training=None):
        return super().call(columns, training)[:, 0]


class CentresTheBatch(RankingModel):
    def call(self, columns, training=None):
        logits = super().call(columns, training) * 1e3
        return logits - tf.reduce_mean(logits)


class KnowsTheGraph(RankingModel):
    def call(self, columns, training=None):
        return super().call(columns, training) + (0.0 if tf.executing_eagerly() else 1.0)


class HasAnIdleLayer(RankingModel):
    def _set_features(self, features):
        super()._set_features(features)
        self.idle = keras.layers.Dense(1)
        self.idle.build([None, 3])


class ForgetsWhatItLearns(RankingModel):
    def train_step(self, inputs):
        for weight in self.trainable_weights:
            weight.assign(weight + 0.1)
        return super().test_step(inputs)


class LosesASwitch(RankingModel):
    def get_config(self):
        return {**super().get_config(), "linear": True}


class LearnsOutsideItsWeights(RankingModel):
    learnt = 0.0

    def fit(self, *args, **kwargs):
        self.learnt = 1.0
        return super().fit(*args, **kwargs)

    def call(self, columns, training=None):
        return super().call(columns, training) + self.learnt


class ScoresInHalf(RankingModel):
    def call(self, columns, training=None):
        return tf.cast(super().call(columns, training), self.compute_dtype)


class SetsThePolicy(RankingModel):
    def call(self, columns, training=None):
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
        return super().call(columns, training)


BAD_MODELS = [
    ("check_model_output", ReturnsAVector, "must return float32 .8, 1.; received"),
    ("check_model_output", CentresTheBatch, "an example must get the same alone"),
    ("check_model_output", KnowsTheGraph, "must return the same in a graph"),
    ("check_model_learns", HasAnIdleLayer, "a gradient must reach every weight that is trained; unreached; received"),
    ("check_model_learns", ForgetsWhatItLearns, "30 steps must lower the loss; received"),
    ("check_model_config", partial(LosesASwitch, linear=False), "made from its config must have weights of"),
    ("check_model_save_and_load", LearnsOutsideItsWeights, "a loaded model says something else"),
    ("check_model_dtype_policies", ScoresInHalf, "under mixed_bfloat16 logits must be float32; received bfloat16"),
    ("check_model_dtype_policies", SetsThePolicy, "must not set the global policy; it is; received mixed_bfloat16"),
]


@pytest.fixture
def global_policy():
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.slow
@pytest.mark.usefixtures("global_policy")
@pytest.mark.parametrize(("check", "model", "message"), BAD_MODELS, ids=[name_of(m) for _, m, _ in BAD_MODELS])
def test_a_check_of_models_refuses_what_breaks_it(check, model, message):
    with pytest.raises(AssertionError, match=f"{message}") as caught:
        getattr(model_suite, check)(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("checks", "bad"), [(testing.BLOCK_CHECKS, BAD_BLOCKS), (testing.MODEL_CHECKS, BAD_MODELS)])
def test_each_check_has_something_that_it_refuses(checks, bad):
    assert {check.__name__ for check in checks} == {name for name, _, _ in bad}


# --- the rest of the kit


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (BiInteraction, "BiInteraction"),
        (partial(Cross, kind="vector"), "Cross(kind=vector)"),
        (partial(Cross, 2, kind="vector"), "Cross(2, kind=vector)"),
    ],
)
def test_components_have_readable_names(make, name):
    assert name_of(make) == name


def test_the_decorator_gives_each_pair():
    pairs = testing.parametrize_with_checks([BiInteraction, Sum], [block_suite.check_mask]).args[1]
    assert [pair.values for pair in pairs] == [(BiInteraction, block_suite.check_mask), (Sum, block_suite.check_mask)]


def test_the_decorator_runs_every_check_of_blocks_by_default():
    pairs = testing.parametrize_with_checks([Sum]).args[1]
    assert [pair.values for pair in pairs] == [(Sum, check) for check in testing.BLOCK_CHECKS]
    assert pairs[0].id == "Sum-check_output_shape"


def test_an_inactive_scope_draws_nothing_as_in_kerastuner():
    from nfm_tfrs.tuning import keras_tuner

    def draw(hp):
        hp.Choice("kind", ["a", "b"], default="b")
        with hp.conditional_scope("kind", ["a"]):
            return hp.Int("units", 1, 3, default=2)

    assert draw(keras_tuner.HyperParameters()) is None
    assert draw(block_suite.Hyperparameters("default")) is None
    assert draw(block_suite.Hyperparameters("first")) == 1
