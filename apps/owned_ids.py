"""The ids of rows that belong to one owner, like the series of others: random, and below the canary's -1.

So the managers that leave negative ids out leave these out too, an id says by itself whether its row has an owner, and
it says nothing about how many there are.
"""

import re
import secrets

LABEL = "owned"
# JavaScript and JSON keep whole numbers up to 2**53.
_FIRST, _BITS = 2**52, 52
# No symbol has small letters.
OWNED_ID_FORM = re.compile(r"owned-[0-9]{16}\Z")


def new_owned_id() -> int:
    """Return an id for a row that has an owner."""
    return -_FIRST - secrets.randbits(_BITS)


def is_owned(pk: int) -> bool:
    """Tell whether the row of this id has an owner."""
    return pk < -1


def label_of(pk: int) -> int | str:
    """Return what metrics, logs and spans call a feed or an asset: one that has an owner is not named."""
    return LABEL if is_owned(pk) else pk


def external_id_of(pk: int) -> str | None:
    """Return what clients call a row that has an owner; None for any other."""
    return f"owned-{-pk}" if is_owned(pk) else None


def owned_id_of(external_id: str) -> int | None:
    """Return the id that `external_id_of` has written; None for what is none."""
    return -int(external_id.removeprefix("owned-")) if OWNED_ID_FORM.match(external_id) else None
