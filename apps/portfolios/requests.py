"""What owners ask operators for: prices of what their files name."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Min

from apps.market import queries as market
from apps.market.models import Asset
from apps.portfolios.domain.tables import Activities
from apps.portfolios.models import Portfolio, PriceRequest, Transaction

WANTED_MOST = 200


class Wanted(NamedTuple):
    """A symbol whose prices are missing from its first transaction on. asset: None where there is none; first_at: when
    its prices begin, None where it has none."""

    symbol: str
    currency: str
    since: date
    asset: Asset | None
    first_at: datetime | None


def prices_wanted(*, read: Activities, accounts: Collection[str], assets: Mapping[str, Asset]) -> list[Wanted]:
    """Return what is missing for the rows of some accounts of a file, at most 200 symbols. One statement."""
    first: dict[str, tuple[date, str]] = {}
    for one in read.rows:
        if one.symbol and one.account in accounts:
            said = (one.columns["at"].date(), one.columns.get("currency", ""))
            first[one.symbol] = min(first.get(one.symbol, said), said)
    begins = market.first_prices([one.pk for one in assets.values()])
    found = []
    for symbol, (day, currency) in sorted(first.items()):
        asset = assets.get(symbol)
        begin = begins.get(asset.pk) if asset is not None else None
        if begin is None or begin.date() > day:
            found.append(Wanted(symbol if asset is None else asset.symbol, currency, day, asset, begin))
    return found[:WANTED_MOST]


class PastWanted(NamedTuple):
    """An asset of a portfolio with the day of its first transaction, and when its prices begin, None without any."""

    asset: Asset
    since: date
    first_at: datetime | None

    @property
    def is_missing(self) -> bool:
        return self.first_at is None or self.first_at.date() > self.since


def pasts_of(portfolio: Portfolio) -> list[PastWanted]:
    """Return the assets of a portfolio's transactions in order of symbol. Three statements."""
    rows = Transaction.objects.filter(portfolio=portfolio, asset__isnull=False).order_by().values_list("asset_id")
    first = dict(rows.annotate(first=Min("day")))
    begins = market.first_prices(list(first))
    assets = market.assets_of(portfolio.owner_id).filter(pk__in=first).select_related("feed").order_by("symbol")
    return [PastWanted(one, first[one.pk], begins.get(one.pk)) for one in assets]


def ask_for_prices(*, owner: AbstractBaseUser, wanted: Sequence[Wanted], now: datetime) -> None:
    """Ask operators for what is missing. Who asks again for the same symbol asks for its earliest day."""
    known = dict(PriceRequest.objects.filter(owner=owner).values_list("symbol", "since"))
    for one in wanted:
        since = min(one.since, known.get(one.symbol[:64], one.since))
        facts = {"since": since, "currency": one.currency[:12], "asked_at": now}
        PriceRequest.objects.update_or_create(owner=owner, symbol=one.symbol[:64], defaults=facts)


class Unanswered(NamedTuple):
    """What has to be done about a request: nothing where it is answered. asset: the one of this symbol, or None."""

    asset: Asset | None
    first_at: datetime | None
    is_answered: bool


def answers_to(requests: Collection[PriceRequest]) -> dict[int, Unanswered]:
    """Return id of a request -> what its symbol has by now. Three statements."""
    assets = market.assets_named({one.symbol for one in requests})
    begins = market.first_prices([one.pk for one in assets.values()])
    found = {}
    for one in requests:
        asset = assets.get(one.symbol)
        begin = begins.get(asset.pk) if asset is not None else None
        found[one.pk] = Unanswered(asset, begin, begin is not None and begin.date() <= one.since)
    return found
