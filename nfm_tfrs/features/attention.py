"""What a bag needs to know to be pooled by what the row is about: the settings of target attention."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

from nfm_tfrs import arguments

_DEEPEST = 64


@arguments.naming_the_nearest
@dataclass(frozen=True)
class Attention:
    """How the values of a history are weighed against the target of the row, as DIN does.

        a_j = MLP([e_j, e_t, e_j - e_t, e_j ⊙ e_t]),  pooled = Σ_j a_j e_j

    with e_j the embedding of value j of the bag and e_t that of the target. Where the bag has weights of its own, each
    a_j is multiplied by that of its value.

    Args:
        units: Widths of the network's hidden layers; with none, a_j is linear in what it is given.
        activation: Activation of the hidden layers: `"dice"`, `"prelu"`, or a Keras activation by its name.
        softmax: Whether the a_j of a bag are made positive numbers that add up to 1, so that the best match decides.
            The paper leaves them as they are, so that a bag of much that fits counts more than one of little.
        positions: Whether the network is told where in the bag a value stands, by a learnt vector that is added to its
            e_j. Places are counted from the first value of the bag, as `max_length` counts: histories begin with the
            newest, so that a place means the same in those of any length. The bag needs a `max_length`.

    Raises:
        TypeError: An argument that there is not.
        ValueError: An argument out of range.

    Example:
        >>> Attention(units=(16,), softmax=False).units
        (16,)

    Reference:
        Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018, eq. 3 and section 5.3.
    """

    _: KW_ONLY
    units: tuple[int, ...] = (80, 40)
    activation: str = "dice"
    softmax: bool = True  # chosen on validation: benchmarks/quality/attention.py
    positions: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", arguments.widths("units of an Attention", self.units))
        if len(self.units) > _DEEPEST:
            raise ValueError(
                f"units of an Attention are {_DEEPEST} layers at most; received {len(self.units):,}. Leave some out."
            )
        if not isinstance(self.activation, str) or not self.activation:
            raise ValueError(
                'activation of an Attention must be "dice", "prelu" or the name of a Keras activation; received '
                f"{self.activation!r:.60}."
            )
        arguments.switch("softmax of an Attention", self.softmax)
        arguments.switch("positions of an Attention", self.positions)

    def __str__(self) -> str:
        parts = [*map(str, self.units), self.activation]
        parts += [name for name in ("softmax", "positions") if getattr(self, name)]
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Returns every argument that is not at its default, as plain JSON types."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


def attention_of(feature: str, given: object) -> Attention | None:
    """Returns the settings that a feature was given: an `Attention`, or what its `to_dict` returned; None as it is.

    Args:
        feature: Name of the feature, for the message.
        given: What it was given.

    Raises:
        ValueError: It is neither, or an argument is unknown or out of range.
    """
    if given is None or isinstance(given, Attention):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(
            f"attention of feature {feature!r} must be an Attention, or an object of its arguments; received "
            f'{given!r:.60}. Give {{"units": [80, 40]}}, for instance, or leave it out.'
        )
    try:
        return Attention(**{str(name): value for name, value in given.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"attention of feature {feature!r} does not fit: {error}") from error
