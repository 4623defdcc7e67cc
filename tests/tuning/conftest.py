"""What tests of searches share."""

import gc
from collections.abc import Callable

import pytest

from nfm_tfrs.keras_compat import keras, tf


@pytest.fixture
def num_graphs() -> Callable[[], int]:
    """Counts what was traced and is still held by anything."""

    def count() -> int:
        keras.backend.clear_session()
        gc.collect()
        return sum(isinstance(thing, tf.Graph) for thing in gc.get_objects())

    return count
