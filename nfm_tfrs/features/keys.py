"""The keys of an encoded batch."""

from nfm_tfrs.features.feature import RESERVED_PREFIX

IDS = f"{RESERVED_PREFIX}ids"
NUMBERS = f"{RESERVED_PREFIX}numbers"


def bag_key(name: str) -> str:
    """Returns the key of a bag's ids in an encoded batch."""
    return f"{RESERVED_PREFIX}bag/{name}"


def weights_key(name: str) -> str:
    """Returns the key of a bag's weights in an encoded batch."""
    return f"{RESERVED_PREFIX}weights/{name}"
