"""FarmHash's Fingerprint64, by which TensorFlow hashes strings, without TensorFlow."""

import numpy as np

from nfm_tfrs.features.bag import UINT64_MISSING

_MASK = 2**64 - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def bucket_numbers(values: np.ndarray, num_hash_buckets: int) -> np.ndarray:
    """Returns the bucket of each value, from 0 on, and -1 of missing ones; int64, shaped as `values`.

    Each distinct value is hashed once.

    Args:
        values: Strings, bytes or integers, of any shape; `""` and negative integers are missing.
        num_hash_buckets: Number of buckets.
    """
    flat = values.reshape(-1)
    if flat.dtype == object:
        flat = np.array([value.encode() if isinstance(value, str) else value for value in flat.tolist()], object)
        distinct, positions = _distinct(flat)
    else:
        distinct, positions = np.unique(flat, return_inverse=True)
    found = [_bucket(value, num_hash_buckets) for value in distinct.tolist()]
    return np.array(found, np.int64)[positions].reshape(values.shape) if found else np.zeros(values.shape, np.int64)


def fingerprint64(text: bytes) -> int:
    """Returns FarmHash's Fingerprint64 of some bytes, from 0 to 2⁶⁴ - 1.

    Example:
        >>> fingerprint64(b"Rome") % 100
        49

    Reference:
        Google's FarmHash, `farmhashna::Hash64`, whose values are fixed for good.
    """
    size = len(text)
    if size <= 16:
        return _to_16(text, size)
    if size <= 32:
        return _to_32(text, size)
    if size <= 64:
        return _to_64(text, size)
    return _longer(text, size)


def _distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places: dict[bytes, int] = {}
    positions = np.array([places.setdefault(value, len(places)) for value in values.tolist()], np.int64)
    distinct: np.ndarray = np.empty(len(places), object)
    distinct[:] = list(places)
    return distinct, positions


def _bucket(value: bytes | int, num_hash_buckets: int) -> int:
    if isinstance(value, int):
        if value < 0 or value == UINT64_MISSING:
            return -1
        value = str(value).encode()
    return fingerprint64(value) % num_hash_buckets if value else -1


def _word(text: bytes, at: int) -> int:
    return int.from_bytes(text[at : at + 8], "little")


def _half(text: bytes, at: int) -> int:
    return int.from_bytes(text[at : at + 4], "little")


def _rotated(value: int, by: int) -> int:
    return ((value >> by) | (value << (64 - by))) & _MASK


def _mixed(value: int) -> int:
    return value ^ (value >> 47)


def _joined(low: int, high: int, times: int) -> int:
    first = _mixed(((low ^ high) * times) & _MASK)
    return (_mixed(((high ^ first) * times) & _MASK) * times) & _MASK


def _to_16(text: bytes, size: int) -> int:
    if size >= 8:
        times = _K2 + size * 2
        low, high = (_word(text, 0) + _K2) & _MASK, _word(text, size - 8)
        third = (_rotated(high, 37) * times + low) & _MASK
        fourth = ((_rotated(low, 25) + high) * times) & _MASK
        return _joined(third, fourth, times)
    if size >= 4:
        return _joined((size + (_half(text, 0) << 3)) & _MASK, _half(text, size - 4), _K2 + size * 2)
    if size > 0:
        low = text[0] + (text[size >> 1] << 8)
        high = size + (text[size - 1] << 2)
        return (_mixed((low * _K2 ^ high * _K0) & _MASK) * _K2) & _MASK
    return _K2


def _to_32(text: bytes, size: int) -> int:
    times = _K2 + size * 2
    one, two = (_word(text, 0) * _K1) & _MASK, _word(text, 8)
    three, four = (_word(text, size - 8) * times) & _MASK, (_word(text, size - 16) * _K2) & _MASK
    low = (_rotated((one + two) & _MASK, 43) + _rotated(three, 30) + four) & _MASK
    high = (one + _rotated((two + _K2) & _MASK, 18) + three) & _MASK
    return _joined(low, high, times)


def _to_64(text: bytes, size: int) -> int:
    times = _K2 + size * 2
    one, two = (_word(text, 0) * _K2) & _MASK, _word(text, 8)
    three, four = (_word(text, size - 8) * times) & _MASK, (_word(text, size - 16) * _K2) & _MASK
    low = (_rotated((one + two) & _MASK, 43) + _rotated(three, 30) + four) & _MASK
    high = _joined(low, (one + _rotated((two + _K2) & _MASK, 18) + three) & _MASK, times)
    five, six = (_word(text, 16) * times) & _MASK, _word(text, 24)
    seven, eight = ((low + _word(text, size - 32)) * times) & _MASK, ((high + _word(text, size - 24)) * times) & _MASK
    return _joined(
        (_rotated((five + six) & _MASK, 43) + _rotated(seven, 30) + eight) & _MASK,
        (five + _rotated((six + one) & _MASK, 18) + seven) & _MASK,
        times,
    )


def _weak(text: bytes, at: int, low: int, high: int) -> tuple[int, int]:
    """The hash of 32 bytes, with two seeds."""
    first, second, third, fourth = (_word(text, at + 8 * word) for word in range(4))
    low = (low + first) & _MASK
    high = _rotated((high + low + fourth) & _MASK, 21)
    before = low
    low = (low + second + third) & _MASK
    high = (high + _rotated(low, 44)) & _MASK
    return (low + fourth) & _MASK, (high + before) & _MASK


def _longer(text: bytes, size: int) -> int:
    """FarmHash's loop over blocks of 64 bytes, the last of which overlaps the one before it."""
    x = 81
    y = (81 * _K1 + 113) & _MASK
    z = (_mixed((y * _K2 + 113) & _MASK) * _K2) & _MASK
    v, w = (0, 0), (0, 0)
    x = (x * _K2 + _word(text, 0)) & _MASK
    end = (size - 1) // 64 * 64
    for at in range(0, end, 64):
        x = (_rotated((x + y + v[0] + _word(text, at + 8)) & _MASK, 37) * _K1) & _MASK
        y = (_rotated((y + v[1] + _word(text, at + 48)) & _MASK, 42) * _K1) & _MASK
        x ^= w[1]
        y = (y + v[0] + _word(text, at + 40)) & _MASK
        z = (_rotated((z + w[0]) & _MASK, 33) * _K1) & _MASK
        v = _weak(text, at, (v[1] * _K1) & _MASK, (x + w[0]) & _MASK)
        w = _weak(text, at + 32, (z + w[1]) & _MASK, (y + _word(text, at + 16)) & _MASK)
        z, x = x, z
    times = _K1 + ((z & 0xFF) << 1)
    at = size - 64
    w = ((w[0] + ((size - 1) & 63)) & _MASK, w[1])
    v = ((v[0] + w[0]) & _MASK, v[1])
    w = ((w[0] + v[0]) & _MASK, w[1])
    x = (_rotated((x + y + v[0] + _word(text, at + 8)) & _MASK, 37) * times) & _MASK
    y = (_rotated((y + v[1] + _word(text, at + 48)) & _MASK, 42) * times) & _MASK
    x ^= (w[1] * 9) & _MASK
    y = (y + v[0] * 9 + _word(text, at + 40)) & _MASK
    z = (_rotated((z + w[0]) & _MASK, 33) * times) & _MASK
    v = _weak(text, at, (v[1] * times) & _MASK, (x + w[0]) & _MASK)
    w = _weak(text, at + 32, (z + w[1]) & _MASK, (y + _word(text, at + 16)) & _MASK)
    z, x = x, z
    return _joined(
        (_joined(v[0], w[0], times) + (_mixed(y) * _K0 & _MASK) + z) & _MASK,
        (_joined(v[1], w[1], times) + x) & _MASK,
        times,
    )
