"""Numbers as embeddings: the fields of numbers that are not linear, all of one encoder by one product."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nfm_tfrs.features.encoder import standardised_numbers
from nfm_tfrs.features.feature import FLOAT32_MAX, NumericFeature
from nfm_tfrs.features.number_encoders import AutoDis, Buckets, Encoding, Periodic, Piecewise
from nfm_tfrs.keras_compat import tf

AddWeight = Callable[..., Any]
_NARROWEST = 1e-6  # piece, in deviations: a slope of float32 ends at 3e38
_LEAK = 0.01
_VECTORS, _FREQUENCIES, _SCALES, _MIXING = "vectors", "frequencies", "scales", "mixing"


class NumberFields:
    """The fields of numbers, some of which have an encoder.

    All is float32, whatever the policy: phases and distances from limits lose their meaning in half precision.

    Args:
        numbers: The numbers, in the order of the features.
        embedding_dim: Length of an embedding.
        linear: Whether rows hold a first-order weight behind the embedding.
        stddev: Standard deviation of the initial vectors.
    """

    def __init__(self, numbers: Sequence[NumericFeature], embedding_dim: int, *, linear: bool, stddev: float) -> None:
        self.embedding_dim = embedding_dim
        groups: dict[tuple[Encoding | None, int], list[int]] = {}
        for place, number in enumerate(numbers):
            groups.setdefault((number.encoding, _magnitude(number)), []).append(place)
        self._count = len(numbers)
        self._groups: list[tuple[list[int], _Encoder | None]] = []
        for (encoding, _), places in groups.items():
            encoder = None
            if encoding is not None:
                of_group = [numbers[place] for place in places]
                encoder = _ENCODERS[type(encoding)](encoding, of_group, embedding_dim, linear=linear, stddev=stddev)
            self._groups.append((places, encoder))

    def build(self, add_weight: AddWeight) -> None:
        """Makes the weights, in the order of the numbers that are the first of their encoder.

        Args:
            add_weight: Makes a float32 variable of a name, a shape and an initializer.
        """
        names: set[str] = set()
        for _, encoder in self._groups:
            if encoder is not None:
                name = encoder.encoding.name
                name += f"_{1 + sum(one.startswith(name) for one in names)}" if name in names else ""
                names.add(name)
                encoder.build(add_weight, name)

    def shapes(self) -> Iterator[list[int]]:
        """Yields the shapes of the weights."""
        for _, encoder in self._groups:
            yield from () if encoder is None else encoder.shapes().values()

    def __call__(
        self, missing: tf.Tensor, present: tf.Tensor, rows: Sequence[tf.Tensor], places: Sequence[int] | None = None
    ) -> tf.Tensor:
        """Returns the fields, float32 `[numbers, batch, width]`.

        Args:
            missing: 1 where a number is missing and else 0, float32 `[batch, numbers]`.
            present: The standardised numbers, 0 where missing, float32 `[batch, numbers]`.
            rows: The rows of missing and of present numbers, each `[numbers, width]`.
            places: Which of the numbers these are, where they are not all.
        """
        places = range(self._count) if places is None else places
        missing, present = tf.transpose(missing)[:, :, None], tf.transpose(present)  # [numbers, batch]
        fields, order = [], []
        for of_group, encoder in self._groups:
            columns = [column for column, place in enumerate(places) if place in of_group]
            if not columns:
                continue
            order += columns
            numbers, bias = _taken(present, columns), _taken(rows[1], columns)[:, None, :]
            if encoder is None:
                there = numbers[:, :, None] * bias
            else:
                members = [of_group.index(places[column]) for column in columns]
                there = encoder.fields(numbers, bias, members)
            absent = _taken(missing, columns)
            fields.append(absent * _taken(rows[0], columns)[:, None, :] + (1.0 - absent) * there)
        together = tf.concat(fields, axis=0) if len(fields) > 1 else fields[0]
        return together if order == sorted(order) else tf.gather(together, np.argsort(order))

    def squared_norms(self) -> tf.Tensor:
        """Returns Σ ‖v‖² over the vectors of each number's encoder, float32 `[numbers]`; 0 of linear ones."""
        norms, order = [], []
        for places, encoder in self._groups:
            order += places
            norms.append(tf.zeros([len(places)]) if encoder is None else encoder.squared_norms())
        return tf.gather(tf.concat(norms, axis=0), np.argsort(order))


class _Encoder:
    """One encoder of several numbers: x [numbers, batch] to e [numbers, batch, k], whose product with vectors it is.

    Behind each vector lies a first-order weight, 0 at first: the first order is a curve as well, beside w x.
    """

    def __init__(
        self, encoding: Any, numbers: Sequence[NumericFeature], dim: int, *, linear: bool, stddev: float
    ) -> None:
        self.encoding, self.dim, self.linear, self.stddev = encoding, dim, linear, stddev
        self.count = len(numbers)
        self.prepare(numbers)

    def prepare(self, numbers: Sequence[NumericFeature]) -> None:
        """Takes what it needs of the numbers."""

    @property
    def size(self) -> int:
        """Number of vectors of a number, k."""
        raise NotImplementedError

    @property
    def squares(self) -> Any:
        """About Σ e² of a number, by which vectors start so that fields have the standard deviation of others."""
        return 1.0

    def shapes(self) -> dict[str, list[int]]:
        """Returns the shapes of the weights, by what stands behind their group's name."""
        return {_VECTORS: [self.count, self.size, self.dim + self.linear]}

    def build(self, add_weight: AddWeight, name: str) -> None:
        scale = self.stddev / np.sqrt(self.squares)

        def start(shape: Any, **_: Any) -> tf.Tensor:
            vectors = scale * tf.random.normal([*shape[:-1], self.dim])
            return tf.pad(vectors, [[0, 0], [0, 0], [0, int(self.linear)]])

        self.vectors = add_weight(f"{name}_{_VECTORS}", self.shapes()[_VECTORS], start)

    def encoded(self, x: tf.Tensor, members: Sequence[int]) -> tf.Tensor:
        raise NotImplementedError

    def fields(self, x: tf.Tensor, bias: tf.Tensor, members: Sequence[int]) -> tf.Tensor:
        """The fields, [numbers, batch, width], of numbers x, [numbers, batch]; bias [numbers, 1, width]."""
        vectors = tf.matmul(self.encoded(x, members), self.of(self.vectors, members))
        if not self.linear:
            return self.activated(vectors + bias)
        first_order = vectors[:, :, self.dim :] + self.slope(x)[:, :, None] * bias[:, :, self.dim :]
        return tf.concat([self.activated(vectors[:, :, : self.dim] + bias[:, :, : self.dim]), first_order], axis=2)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        """What the first-order weight of a number's own row counts, [numbers, batch]."""
        return x

    def activated(self, vectors: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(vectors) if getattr(self.encoding, "activation", False) else vectors

    def squared_norms(self) -> tf.Tensor:
        return tf.reduce_sum(tf.square(self.vectors[:, :, : self.dim]), axis=[1, 2])

    def of(self, weights: Any, members: Sequence[int]) -> tf.Tensor:
        """The part of weights, [numbers, …], that is some numbers'."""
        return _taken(tf.convert_to_tensor(weights), members)


class _Limited(_Encoder):
    """What knows the numbers' limits, standardised as the numbers are."""

    def prepare(self, numbers: Sequence[NumericFeature]) -> None:
        self.limits = [_standardised_limits(number) for number in numbers]

    @property
    def sizes(self) -> list[int]:
        """Numbers of vectors that the numbers themselves have; what lies behind them fills up."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        return max(self.sizes)

    def squared_norms(self) -> tf.Tensor:
        norms = tf.reduce_sum(tf.square(self.vectors[:, :, : self.dim]), axis=2)
        own = np.arange(self.size) < np.array(self.sizes)[:, None]
        return tf.reduce_sum(norms * tf.constant(own, tf.float32), axis=1)

    def filled(self, rows: Sequence[np.ndarray], filler: float) -> np.ndarray:
        """Rows of several lengths as float32 [numbers, 1, k], filled up behind."""
        filled: np.ndarray = np.full([self.count, 1, self.size], filler, np.float32)
        for at, row in enumerate(rows):
            filled[at, 0, : len(row)] = row
        return filled


class _BucketEncoder(_Limited):
    @property
    def sizes(self) -> list[int]:
        return [1 + len(limits) for limits in self.limits]

    def encoded(self, x: tf.Tensor, members: Sequence[int]) -> tf.Tensor:
        low = self.filled([np.append(-np.inf, limits) for limits in self.limits], np.inf)[list(members)]
        high = self.filled([np.append(limits, np.inf) for limits in self.limits], np.inf)[list(members)]
        x = x[:, :, None]
        return tf.cast(tf.logical_and(x >= low, x < high), tf.float32)

    def slope(self, x: tf.Tensor) -> tf.Tensor:
        return tf.ones_like(x)  # the bucket is all that counts, however the number is standardised


class _PiecewiseEncoder(_Limited):
    @property
    def sizes(self) -> list[int]:
        return [len(limits) - 1 for limits in self.limits]

    @property
    def squares(self) -> Any:
        return np.array([(len(limits) - 1) / 2 for limits in self.limits], np.float32)[:, None, None]

    def encoded(self, x: tf.Tensor, members: Sequence[int]) -> tf.Tensor:
        widths = [np.maximum(np.diff(limits.astype(np.float64)), _NARROWEST) for limits in self.limits]
        low = self.filled([limits[:-1] for limits in self.limits], 0.0)
        slopes = self.filled([1 / width for width in widths], 0.0)
        least, most = self.filled([0 * width for width in widths], 0.0), self.filled([0 * w + 1 for w in widths], 0.0)
        least[:, :, 0] = -FLOAT32_MAX  # the first and the last piece go on
        for at, width in enumerate(widths):
            most[at, 0, len(width) - 1] = FLOAT32_MAX
        low, slopes, least, most = (part[list(members)] for part in (low, slopes, least, most))
        return tf.minimum(tf.maximum((x[:, :, None] - low) * slopes, least), most)


class _PeriodicEncoder(_Encoder):
    @property
    def size(self) -> int:
        return 2 * int(self.encoding.frequencies)

    @property
    def squares(self) -> Any:
        return self.encoding.frequencies

    def shapes(self) -> dict[str, list[int]]:
        return {_FREQUENCIES: [self.count, self.size // 2], **super().shapes()}

    def build(self, add_weight: AddWeight, name: str) -> None:
        sigma = self.encoding.sigma

        def start(shape: Any, **_: Any) -> tf.Tensor:
            # As the authors' package: a single frequency far beyond the others would decide on all.
            return tf.clip_by_value(sigma * tf.random.normal(shape), -3 * sigma, 3 * sigma)

        self.frequencies = add_weight(f"{name}_{_FREQUENCIES}", self.shapes()[_FREQUENCIES], start)
        super().build(add_weight, name)

    def encoded(self, x: tf.Tensor, members: Sequence[int]) -> tf.Tensor:
        phases = x[:, :, None] * (2 * math.pi * self.of(self.frequencies, members))[:, None, :]
        return tf.concat([tf.cos(phases), tf.sin(phases)], axis=2)


class _AutoDisEncoder(_Encoder):
    @property
    def size(self) -> int:
        return int(self.encoding.meta_embeddings)

    def shapes(self) -> dict[str, list[int]]:
        size = self.size
        return {_SCALES: [self.count, size], _MIXING: [self.count, size, size], **super().shapes()}

    def build(self, add_weight: AddWeight, name: str) -> None:
        size, shapes = self.size, self.shapes()

        def uniform(fan: int) -> Any:
            limit = math.sqrt(6 / fan)
            return lambda shape, **_: tf.random.uniform(shape, -limit, limit)

        self.scales = add_weight(f"{name}_{_SCALES}", shapes[_SCALES], uniform(1 + size))
        self.mixing = add_weight(f"{name}_{_MIXING}", shapes[_MIXING], uniform(2 * size))
        super().build(add_weight, name)

    def encoded(self, x: tf.Tensor, members: Sequence[int]) -> tf.Tensor:
        hidden = tf.nn.leaky_relu(x[:, :, None] * self.of(self.scales, members)[:, None, :], _LEAK)
        mixed = tf.matmul(hidden, self.of(self.mixing, members)) + self.encoding.skip * hidden
        return tf.nn.softmax(mixed / self.encoding.temperature)


_ENCODERS: dict[type, type[_Encoder]] = {
    Buckets: _BucketEncoder,
    Piecewise: _PiecewiseEncoder,
    Periodic: _PeriodicEncoder,
    AutoDis: _AutoDisEncoder,
}


def _magnitude(number: NumericFeature) -> int:
    """What numbers of about as many limits have in common: those of few would be filled up to those of many."""
    encoding = number.encoding
    if encoding is None or not encoding.least_boundaries:
        return 0
    return len(number.boundaries or ()).bit_length() // 4  # below 8, below 128, …


def _standardised_limits(number: NumericFeature) -> np.ndarray:
    """Limits as the encoder standardises numbers that are equal to them, float32 [limits]."""
    limits = np.array(number.boundaries, np.float64)
    fits = np.abs(limits) <= FLOAT32_MAX  # numbers are read in float32
    limits[fits] = limits[fits].astype(np.float32)
    with tf.init_scope():
        return standardised_numbers(number, limits)


def _taken(rows: tf.Tensor, places: Sequence[int]) -> tf.Tensor:
    """The rows at some places, which are often all of them."""
    return rows if list(places) == list(range(rows.shape[0] or 0)) else tf.gather(rows, list(places))
