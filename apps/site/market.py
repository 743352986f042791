"""What pages that show the market have in common: who may see it, and how movements of prices are written."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial, wraps
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from apps.health.domain import Health
from apps.health.queries import asset_healths
from apps.health.wording import written_for
from apps.market.domain import epoch_microseconds
from apps.market.models import Asset
from apps.market.queries import latest_prices, sparklines, variations_over, watched_ids
from apps.reader import active_reader, show_number, show_percent
from apps.replica import from_replica
from apps.wording import round_number

# Of a sparkline, in its own units.
_WIDTH, _HEIGHT = 120, 32
DIGITS_LISTED = 9


class AssetName:
    """The part of an address that names an asset: a symbol may have slashes, between which browsers would take dots for
    steps, so these are quoted."""

    regex = ".+"

    def to_python(self, value: str) -> str:
        return unquote(value)

    def to_url(self, value: str) -> str:
        return quote(value, safe=":")


class Movement(NamedTuple):
    """A change in percent as it is shown. mood: rose, fell or "" (the names of classes of CSS)."""

    text: str
    mood: str


def movement(percent: Decimal | None) -> Movement | None:
    """Return how a price moved; None where that is not known."""
    if percent is None:
        return None
    sign, mood = ("+", "rose") if percent > 0 else ("−", "fell") if percent < 0 else ("", "")
    return Movement(sign + show_percent(percent), mood)


def sparkline(points: Sequence[tuple[datetime, Decimal]]) -> str:
    """Return the points of a polyline within 120 by 32, "" where there are fewer than two."""
    if len(points) < 2:
        return ""
    first, last = (epoch_microseconds(points[place][0]) for place in (0, -1))
    prices = [float(price) for _, price in points]
    low, high = min(prices), max(prices)
    across, up = max(last - first, 1), high - low
    return " ".join(
        f"{_WIDTH * (epoch_microseconds(at) - first) / across:.1f},"
        f"{_HEIGHT * (1 - (price - low) / up) if up else _HEIGHT / 2:.1f}"
        for (at, _), price in zip(points, prices, strict=True)
    )


class MarketRow(NamedTuple):
    """An asset as lists show it. at, price: None without a price; points: of its sparkline."""

    asset: Asset
    address: str
    at: datetime | None
    price: str | None
    change: Movement | None
    points: str
    health: Health
    is_watched: bool


def market_rows(assets: Sequence[Asset], *, user: Any, now: datetime) -> list[MarketRow]:
    """Return the rows of these assets. The number of statements does not grow with them."""
    ids = [asset.pk for asset in assets]
    prices = latest_prices(ids, now=now)
    changes = changes_24h({pk: price for pk, (_, price) in prices.items()})
    healths, watched = asset_healths(ids, now=now), watched_ids(user)
    lines, reader = from_replica(partial(sparklines, ids)), active_reader()
    rows = []
    for asset in assets:
        at, price = prices.get(asset.pk, (None, None))
        rows.append(
            MarketRow(
                asset=asset,
                address=address_of(asset),
                at=at,
                price=write_listed(price, decimals=lines[asset.pk].decimals) if price is not None else None,
                change=movement(changes.get(asset.pk)),
                points=sparkline(lines[asset.pk].points),
                health=written_for(healths[asset.pk], reader=reader),
                is_watched=asset.pk in watched,
            )
        )
    return rows


def write_listed(price: Decimal, *, decimals: int) -> str:
    """Return a price with 9 significant digits, and with 2 decimals at least: lists have little room.

    decimals: of the asset's prices. Fewer are filled up with zeros, as far as there is room.
    """
    places = max(2, DIGITS_LISTED - 1 - price.adjusted())
    return show_number(round_number(price, decimals=places), decimals=min(decimals, places))


def changes_24h(latest: Mapping[int, Decimal]) -> dict[int, Decimal]:
    """Return asset id -> percent by which its newest price differs from that of 24 hours before."""
    return variations_over(latest, back=timedelta(hours=24)) if latest else {}


def address_of(asset: Asset) -> str:
    """Return the address of an asset's page."""
    return reverse("asset", args=[asset.external_id])


def shows_market(request: HttpRequest) -> bool:
    """Tell whether the reader may see prices: whoever is signed in, and everybody where the market is public."""
    return settings.MARKET_IS_PUBLIC or request.user.is_authenticated


def in_market(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Let a stranger sign in first where the market is not public."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not shows_market(request):
            return redirect_to_login(request.get_full_path())
        return view(request, *args, **kwargs)

    return answer
