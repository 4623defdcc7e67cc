"""The conformance suite: what every interaction block and every model holds, in this package and in any other.

A check is a plain function that takes what makes the component, called with keyword arguments (a class, or a
`functools.partial` of one), and raises AssertionError, in one line, where it does not hold.

    from nfm_tfrs.testing import check_block, parametrize_with_checks

    check_block(MyBlock)  # in a script

    @parametrize_with_checks([MyBlock, partial(MyBlock, units=3)])  # in a test module
    def test_my_block(make, check):
        check(make)
"""

from collections.abc import Sequence
from typing import Any

from nfm_tfrs.testing.blocks import BLOCK_CHECKS, check_block
from nfm_tfrs.testing.kit import Check, Make, name_of
from nfm_tfrs.testing.models import MODEL_CHECKS, check_model, example_features, example_rows

__all__ = [
    "BLOCK_CHECKS",
    "MODEL_CHECKS",
    "check_block",
    "check_model",
    "example_features",
    "example_rows",
    "parametrize_with_checks",
]


def parametrize_with_checks(makes: Sequence[Make], checks: Sequence[Check] | None = None) -> Any:
    """Returns a pytest decorator for a test of `(make, check)`: every pair; the checks of blocks if none are given."""
    import pytest  # here: the package does not need it

    checks = BLOCK_CHECKS if checks is None else checks
    pairs = [pytest.param(m, c, id=f"{name_of(m)}-{c.__name__}") for m in makes for c in checks]
    return pytest.mark.parametrize(("make", "check"), pairs)
