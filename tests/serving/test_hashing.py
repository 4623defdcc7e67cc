"""Hashes without TensorFlow are TensorFlow's."""

import numpy as np
import pytest

from nfm_tfrs.keras_compat import tf
from nfm_tfrs.serving.hashing import bucket_numbers, fingerprint64

LENGTHS = [*range(70), 127, 128, 129, 191, 192, 193, 500]


@pytest.mark.parametrize("length", LENGTHS)
def test_texts_of_any_length_have_tensorflows_bucket(length):
    rng = np.random.default_rng(length)
    texts = [bytes(rng.integers(1, 256, length).astype(np.uint8)) for _ in range(20)]

    found = [fingerprint64(text) % (2**62 - 57) for text in texts]

    assert found == tf.strings.to_hash_bucket_fast(texts, 2**62 - 57).numpy().tolist()


def test_buckets_of_strings_bytes_and_integers_keep_the_shape_and_missing_ones_are_minus_one():
    texts = np.array([["Rome", b"Rome"], ["", "Ås"]], object)
    expected = tf.strings.to_hash_bucket_fast(["Rome", "Rome", "Ås", "12"], 1000).numpy()

    assert bucket_numbers(texts, 1000).tolist() == [[expected[0], expected[1]], [-1, expected[2]]]
    assert bucket_numbers(np.array([12, -4]), 1000).tolist() == [expected[3], -1]
    assert bucket_numbers(np.array([2**64 - 1, 12], np.uint64), 1000).tolist() == [-1, expected[3]]
    assert bucket_numbers(np.array([], object), 10).shape == (0,)
