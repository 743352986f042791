"""A rule tried at once on the newest of what is stored of one asset, for a form that is being filled in."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError

from apps.backtests.evaluation import OpensTooOften, try_on_stored
from apps.backtests.services import assets_tried
from apps.market import queries as market
from apps.market.domain import from_epoch_microseconds
from apps.rules.engine.rule import RuleSpec

# A web thread computes it while a person waits at a form: a longer span needs a backtest.
SPANS = (timedelta(days=30), timedelta(days=7), timedelta(days=1), timedelta(hours=6), timedelta(hours=1))
QUOTES_AT_MOST = 12_000
SECONDS_AT_MOST = 1.5
ASSETS_OFFERED = 50
WEEK = timedelta(days=7)


class NothingToSee(Exception):
    """There is no past to try the rule on, or it would take too long; the text is for people."""


class _TooLong(Exception):
    """It takes longer than somebody waits."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What a rule would have done on one asset in [since, until]. symbols: of the assets to choose from; report: as
    try_on_stored gives it."""

    asset: market.ChosenAsset
    symbols: list[str]
    since: datetime
    until: datetime
    report: dict[str, Any]

    def per_week(self, count: int) -> float:
        """Return a number of alerts as so many a week."""
        return count * (WEEK / max(self.until - self.since, timedelta(seconds=1)))


def glimpse(spec: RuleSpec, *, owner_id: int, symbol: str = "") -> Glimpse:
    """Return what the rule of this owner would have done on the newest of what is stored of an asset, as far as that is
    quickly read.

    symbol: of one of its assets; by default, and for any other, the first. Raises NothingToSee.
    """
    assets = sorted(assets_tried(spec, owner_id=owner_id), key=lambda asset: asset.symbol)
    if not assets:
        raise NothingToSee("The rule applies to no asset of a feed yet.")
    asset = next((one for one in assets if one.symbol == symbol), assets[0])
    symbols = [one.symbol for one in assets[:ASSETS_OFFERED]]
    stored = market.stored_spans([asset.pk]).get(asset.pk)
    if stored is None:
        raise NothingToSee(f"No prices of {asset.symbol} are stored yet.")
    first, until = (from_epoch_microseconds(at) for at in stored)
    for span in SPANS:
        since = max(first, until - span)
        if market.has_more_quotes(asset.pk, since=since, until=until, than=QUOTES_AT_MOST):
            continue
        try:
            # A statement that takes too long ends as one too.
            report = try_on_stored(spec, assets=[asset], since=since, until=until, progress=_Deadline())
        except (_TooLong, OpensTooOften, OperationalError):
            continue
        return Glimpse(asset, symbols, since, until, report)
    raise NothingToSee("This takes longer to try than a form can wait. Save the rule and try it on the past.")


class _Deadline:
    """Stops what takes too long."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + SECONDS_AT_MOST

    def __call__(self, part: float) -> None:
        if time.monotonic() > self._ends:
            raise _TooLong
