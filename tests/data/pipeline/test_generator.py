"""Datasets of Python generators: one generator an iterator, closed with it, and malloc left alone."""

import gc
import subprocess
import sys

import numpy as np
import pytest

from nfm_tfrs.data.pipeline.generator import dataset_of
from nfm_tfrs.keras_compat import tf

SIGNATURE = [tf.TensorSpec([None, 2], tf.float32), tf.TensorSpec([None], tf.string)]
SIZE = 5


class Recorded:
    """Generators that say which of them were closed."""

    def __init__(self):
        self.closed = []

    def __call__(self, epoch):
        try:
            for element in range(SIZE):
                yield np.full([element, 2], epoch, np.float32), np.full(element, b"%d" % element, object)
        finally:
            self.closed.append(epoch)


def make(generate, **arguments):
    return dataset_of(generate, SIGNATURE, **{"size": SIZE, "ahead": 1, **arguments})


def freed():
    """Lets go of what nobody holds any more; TensorFlow frees arrays at its next operation."""
    gc.collect()
    tf.constant(0)


def test_elements_come_in_order_with_the_types_declared():
    dataset = make(Recorded())
    assert dataset.element_spec == tuple(SIGNATURE)
    assert len(dataset) == SIZE
    for element, (numbers, texts) in enumerate(dataset):
        assert numbers.numpy().shape == (element, 2)
        assert texts.numpy().tolist() == [b"%d" % element] * element


def test_each_iterator_has_a_generator_of_its_own():
    dataset = make(Recorded())
    pairs = [
        (int(one[0][0, 0]), int(other[0][0, 0])) for one, other in zip(dataset, dataset, strict=True) if len(one[0])
    ]
    assert pairs == [(0, 1)] * (SIZE - 1)
    assert [int(numbers[0, 0]) for numbers, _ in dataset.skip(1)] == [2] * (SIZE - 1)


def test_a_generator_is_closed_when_its_iterator_is_left_and_not_before():
    recorded = Recorded()
    dataset = make(recorded)
    left, other = iter(dataset), iter(dataset)
    next(left), next(other)
    freed()
    assert recorded.closed == []
    del left
    freed()
    assert recorded.closed == [0]
    assert len(list(other)) == SIZE - 1
    assert recorded.closed == [0, 1]


def test_a_generator_left_by_a_loop_or_an_error_is_closed():
    recorded = Recorded()
    for _ in make(recorded):
        break
    failing = make(recorded).map(lambda numbers, _: tf.ensure_shape(numbers, [0, 2]))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(failing)
    del failing
    freed()
    assert recorded.closed == [0, 0]


def test_elements_are_generated_ahead_but_not_all():
    generated = []

    def generate(_):
        for element in range(1000):
            generated.append(element)
            yield np.zeros([1, 2], np.float32), np.array([b"x"], object)

    iterator = iter(make(generate, size=1000, ahead=3))
    next(iterator)
    assert len(generated) < 100  # TensorFlow adds a few of its own


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"is not compatible with expected shape \[\?,2\]"):
        list(make(lambda epoch: (part for part in [(np.zeros([1, 3], np.float32), np.array([b"x"], object))])))


FAULTS = """
import resource
import numpy as np
from nfm_tfrs.data.pipeline.generator import dataset_of
from nfm_tfrs.keras_compat import tf

if %r:
    dataset = tf.data.Dataset.from_generator(lambda: iter([1]), output_signature=tf.TensorSpec([], tf.int64))
else:
    dataset = dataset_of(lambda epoch: (one for one in [[np.array(1)]]), [tf.TensorSpec([], tf.int64)], size=1, ahead=1)
list(dataset)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 19, np.float32)  # 512 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_memory_is_not_taken_from_the_system_anew_for_each_operation():
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS % kernel], capture_output=True, check=True, text=True).stdout)
        for kernel in (False, True)
    ]
    assert faults[0] < 3000 < 10_000 < faults[1]
