"""What transactions were before they were corrected or deleted, for people."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from apps.market.queries import every_asset
from apps.portfolios.domain.transactions import Refusal
from apps.portfolios.models import Portfolio, Transaction, TransactionChange
from apps.portfolios.queries import BESIDE, MEANING, changes_of, document_of

_ASSETS = ("asset_id", "fee_asset_id", "to_asset_id")
_PORTFOLIO = "to_portfolio_id"


class Correction(NamedTuple):
    """A correction or deletion. by: the user's name then; was: the name of a field and what it was: of a correction
    those that changed, of a deletion all that said something."""

    at: datetime
    by: str
    was: list[tuple[str, str]]


def corrections_of(row: Transaction, *, most: int) -> list[Correction]:
    """Return the newest corrections of a transaction, newest first. Whose it is is the caller's business. At most three
    statements."""
    changes = list(changes_of(row)[:most])
    # What it became: the next newer state, at last the one that is there.
    after = [document_of(row), *(change.before for change in changes)]
    return _described(zip(changes, after, strict=False))


def deletions_in(portfolio: Portfolio, *, most: int) -> list[Correction]:
    """Return the newest deletions of transactions of a portfolio, newest first. At most three statements."""
    rows = TransactionChange.objects.filter(portfolio=portfolio, kind=TransactionChange.Kind.DELETED)[:most]
    return _described((one, {}) for one in rows)


def describe_refusal(refusal: Refusal) -> str:
    """Return why a change is refused that would make another transaction wrong; its key is that one's id below 0."""
    other = Transaction.objects.filter(pk=-refusal.key).select_related("asset").first()
    what = (
        f"the {other}{f' ({other.asset})' if other.asset is not None else ''}" if other is not None else "another one"
    )
    return f"With this, {what} would be wrong. {refusal.message}"


def _described(pairs: Iterable[tuple[TransactionChange, Mapping[str, Any]]]) -> list[Correction]:
    pairs = list(pairs)
    states = [change.before for change, _ in pairs]
    symbols = every_asset().filter(pk__in={one[name] for one in states for name in _ASSETS if one.get(name)})
    by_id = dict(symbols.values_list("pk", "symbol"))
    names: dict[str, dict[int, str]] = {name: by_id for name in _ASSETS}
    portfolios = Portfolio.objects.filter(pk__in={one[_PORTFOLIO] for one in states if one.get(_PORTFOLIO)})
    names[_PORTFOLIO] = dict(portfolios.values_list("pk", "name"))
    return [Correction(one.at, one.by_name, _was(one.before, after, names)) for one, after in pairs]


def _was(
    before: Mapping[str, Any], after: Mapping[str, Any], names: Mapping[str, Mapping[int, str]]
) -> list[tuple[str, str]]:
    """Return the fields that differ, as they were. after: empty for what was deleted."""
    # In the order of the form: the database may keep another one.
    differing = [name for name in (*MEANING, *BESIDE) if (before.get(name) or None) != (after.get(name) or None)]
    return [
        (name.removesuffix("_id").replace("_", " "), _text(before.get(name), names.get(name))) for name in differing
    ]


def _text(value: Any, names: Mapping[int, str] | None) -> str:
    if value in (None, "", False):
        return "no" if value is False else "nothing"
    if value is True:
        return "yes"
    return names.get(value, "one that is gone") if names is not None else str(value)
