"""How a number becomes a field: the names of the encoders, and what each of them is told."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from nfm_tfrs.arguments import count, naming_the_nearest, nearest, not_negative, positive, switch

LINEAR, BUCKETS = "linear", "buckets"
_FACTORS = (1e-6, 1e6)
_MOST = 1024  # of what a config alone makes large: a file that anybody wrote shall not take all memory


@naming_the_nearest
@dataclass(frozen=True)
class Buckets:
    """A vector for each bucket between two limits, and one below and one above them all, each with a weight."""

    name: ClassVar[str] = BUCKETS
    least_boundaries: ClassVar[int] = 1


@naming_the_nearest
@dataclass(frozen=True)
class Piecewise:
    """Linear between two limits, and beyond the first and the last one as beside them.

    With limits b_0 < … < b_T, a vector v_t for each piece and a bias b:

        v(x) = b + Σ_t e_t(x) v_t,    e_t(x) = (x - b_(t-1)) / (b_t - b_(t-1))

    where e_t is cut off at 0 below its piece (but for t = 1) and at 1 above it (but for t = T).

    Args:
        activation: Whether to take max(0, v) of the vector.

    Reference:
        Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022, equation 1.
    """

    name: ClassVar[str] = "piecewise"
    least_boundaries: ClassVar[int] = 2

    activation: bool = True

    def __post_init__(self) -> None:
        switch("activation of the piecewise encoder", self.activation)


@naming_the_nearest
@dataclass(frozen=True)
class Periodic:
    """Waves of frequencies that are learnt.

        v(x) = b + W [cos(2π c_1 x), …, cos(2π c_k x), sin(2π c_1 x), …, sin(2π c_k x)]

    Args:
        frequencies: Number of frequencies k of a number, at most 1,024.
        sigma: Standard deviation of the normal initial frequencies: the larger, the nearer two numbers that are told
            apart. The authors' package starts at 0.01, and they choose it anew for each table.
        activation: Whether to take max(0, v) of the vector.

    Reference:
        Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep Learning, NeurIPS 2022, equation 2.
    """

    name: ClassVar[str] = "periodic"
    least_boundaries: ClassVar[int] = 0

    frequencies: int = 48
    sigma: float = 0.1
    activation: bool = True

    def __post_init__(self) -> None:
        _at_most("frequencies of the periodic encoder", self.frequencies)
        _within("sigma of the periodic encoder", self.sigma)
        switch("activation of the periodic encoder", self.activation)


@naming_the_nearest
@dataclass(frozen=True)
class AutoDis:
    """A mean of meta-embeddings, weighed by a softmax that the number decides on.

        h = leaky_relu(x w),    v(x) = softmax((W h + α h) / τ) M

    with weights w and W and meta-embeddings M of each number. The paper may learn τ; here it is fixed.

    Args:
        meta_embeddings: Number of rows of M, at most 1,024.
        temperature: The divisor τ of the softmax: the smaller, the closer to one meta-embedding for each number.
        skip: The factor α of what goes past W.

    Reference:
        Guo et al., An Embedding Learning Framework for Numerical Features in CTR Prediction, KDD 2021, section 3.
    """

    name: ClassVar[str] = "autodis"
    least_boundaries: ClassVar[int] = 0

    meta_embeddings: int = 20
    temperature: float = 0.1
    skip: float = 0.8

    def __post_init__(self) -> None:
        _at_most("meta_embeddings of the autodis encoder", self.meta_embeddings)
        _within("temperature of the autodis encoder", self.temperature)
        if not_negative("skip of the autodis encoder", self.skip) > 0:
            _within("skip of the autodis encoder", self.skip)


Encoding = Buckets | Piecewise | Periodic | AutoDis
_ENCODINGS: dict[str, type[Encoding]] = {one.name: one for one in (Buckets, Piecewise, Periodic, AutoDis)}
NUMBER_ENCODERS = (LINEAR, *_ENCODINGS)
# Those whose limits inference finds: the linear one keeps them for whoever replaces it.
WITH_LIMITS = (LINEAR, *(name for name, one in _ENCODINGS.items() if one.least_boundaries))


def named_encoder(what: str, encoder: Any) -> Any:
    """Returns an encoder by its name where it is told nothing else, else as its settings; None stays None.

    Args:
        what: Whose encoder it is, for the message.
        encoder: A name, settings, or what `encoder_to_dict` returned of them.

    Raises:
        ValueError: There is no such encoder, or it has no such setting.
    """
    if encoder is None or (isinstance(encoder, str) and encoder in NUMBER_ENCODERS):
        return encoder
    if isinstance(encoder, Mapping) and encoder.get("name") in NUMBER_ENCODERS:
        told = {name: value for name, value in encoder.items() if name != "name"}
        name = str(encoder.get("name"))
        if name == LINEAR and told:
            raise ValueError(
                f"{what}: linear takes no settings; received {', '.join(map(repr, told)):.60}. Leave it out."
            )
        if name == LINEAR:
            return LINEAR
        try:
            encoder = _ENCODINGS[name](**told)
        except TypeError as error:
            raise ValueError(f"{what}: {error}") from error
    if not isinstance(encoder, Encoding):
        return _refuse(what, encoder)
    return encoder.name if encoder == type(encoder)() else encoder


def encoding_of(encoder: Any) -> Encoding | None:
    """Returns the settings of what `named_encoder` returned; None where the number stays linear."""
    if isinstance(encoder, str):
        return None if encoder == LINEAR else _ENCODINGS[encoder]()
    found: Encoding | None = encoder
    return found


def least_boundaries(name: str) -> int:
    """Returns how many limits an encoder of a number needs, by its name."""
    return 0 if name == LINEAR else _ENCODINGS[name].least_boundaries


def encoder_to_dict(encoder: Encoding) -> dict[str, Any]:
    """Returns settings as plain JSON types: the name, and all that is not at its default."""
    told = {one.name: getattr(encoder, one.name) for one in fields(encoder)}
    defaults = {one.name: one.default for one in fields(encoder) if one.default is not MISSING}
    return {"name": encoder.name, **{name: value for name, value in told.items() if value != defaults[name]}}


def _refuse(what: str, encoder: Any) -> Any:
    name = encoder.get("name") if isinstance(encoder, Mapping) else encoder
    raise ValueError(
        f"{what} must be None or one of {', '.join(NUMBER_ENCODERS)}, or an object with such a name and settings; "
        f"received {encoder!r:.60}{nearest(str(name), NUMBER_ENCODERS)} Give one of these names."
    )


def _within(argument: str, value: Any) -> None:
    """Checks a factor: one far beyond these would leave nothing of numbers but infinities."""
    positive(argument, value)
    if not isinstance(value, int | float) or not _FACTORS[0] <= value <= _FACTORS[1]:
        raise ValueError(
            f"{argument} must be a Python number from {_FACTORS[0]:g} to {_FACTORS[1]:g}; received {value!r:.60}."
        )


def _at_most(argument: str, value: Any) -> None:
    if count(argument, value) > _MOST:
        raise ValueError(f"{argument} must be at most {_MOST:,}; received {value!r:.60}.")
