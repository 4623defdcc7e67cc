"""Rates rise and fall as their equation says, and are the same where a training is cut."""

import math

import numpy as np
import pytest

from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.optimizers import named_optimizer
from nfm_tfrs.training.schedules import Cosine, Plateau, schedule_of

PEAK = 0.3


def rates(steps, warm_up, floor):
    """The rates in float64, step by step, and a few steps behind the end."""
    rising = math.floor(warm_up * steps)
    found = []
    for step in range(steps + 3):
        if step < rising:
            found.append(PEAK * step / rising)
        else:
            done = min((step - rising) / (steps - rising), 1.0)
            found.append(PEAK * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2))
    return found


@pytest.mark.parametrize(
    ("name", "given", "warm_up", "floor"),
    [
        ("cosine", {}, 0.0, 0.0),
        ("cosine", {"warm_up": 0.1, "floor": 0.2}, 0.1, 0.2),
        ("one_cycle", {}, 0.2, 0.0),
        ("one_cycle", {"warm_up": 0.35, "floor": 0.01}, 0.35, 0.01),
        ("one_cycle", {"warm_up": 0.99}, 0.99, 0.0),
        ("one_cycle", {"warm_up": 0}, 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_rates_are_those_of_the_equation(name, given, warm_up, floor, steps):
    rate = schedule_of(name, given).over(PEAK, steps=steps)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    for one in (rate, again):
        found = [float(one(tf.constant(step, tf.int64))) for step in range(steps + 3)]
        np.testing.assert_allclose(found, rates(steps, warm_up, floor), rtol=1e-5, atol=PEAK * 1e-6)


@pytest.mark.parametrize("name", ["lazyadagrad", "adam"])
def test_a_training_in_slices_has_the_rates_of_one_in_one_go(name):
    """Each slice has a new optimizer, which is told of the whole training, and the variables of the one before."""
    steps, expected = 10, rates(10, 0.2, 0.1)
    state, found = None, []
    for slice_steps in (3, 1, 6):
        optimizer = named_optimizer(name, Cosine(warm_up=0.2, floor=0.1).over(PEAK, steps=steps))
        weight = tf.Variable([1.0, 2.0])
        optimizer.build([weight])
        if state is not None:
            for variable, value in zip(optimizer.variables, state, strict=True):
                variable.assign(value)
        for _ in range(slice_steps):
            optimizer.apply_gradients([(tf.ones([2]), weight)])
            found.append(float(optimizer.learning_rate))  # of the step that was taken
        state = [variable.numpy() for variable in optimizer.variables]
    np.testing.assert_allclose(found, expected[:10], rtol=1e-5, atol=1e-7)


def test_a_constant_rate_is_no_schedule():
    assert schedule_of("constant", {}) is None
    assert (schedule_of("cosine", {}), schedule_of("one_cycle", {})) == (Cosine(), Cosine(warm_up=0.2))
    assert schedule_of("plateau", {"looks": 3}) == Plateau(looks=3)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("cosine", {"warm_up": 1}, "warm_up must be at least 0 and below 1; received 1."),
        ("one_cycle", {"floor": -0.1}, "floor must be at least 0 and below 1; received -0.1."),
        ("one_cycle", {"factor": 2}, "There is no argument of one_cycle 'factor'. There are warm_up, floor."),
        ("plateau", {"look": 2}, "There is no argument of plateau 'look'; did you mean 'looks'? There are factor, "),
        ("plateau", {"factor": 1}, "factor must be a number above 1; received 1."),
        *(
            ("plateau", {"factor": factor}, f"factor must be a number above 1; received {factor!r}.")
            for factor in (0, 0.5, -1, math.nan, math.inf, "ten", True)
        ),
        ("plateau", {"looks": 0}, "looks must be a whole number of 1 or more; received 0."),
        ("plateau", {"drops": 1.5}, "drops must be a whole number of 1 or more; received 1.5."),
        (
            "constant",
            {"floor": 0.1},
            "A constant rate takes no schedule_arguments; received floor. Give schedule=",
        ),
    ],
)
def test_arguments_that_there_are_not_are_refused_in_one_line(name, given, message):
    with pytest.raises(ValueError, match=r".") as caught:
        schedule_of(name, given)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
