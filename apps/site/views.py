"""The pages of the site beside the admin: the front page, and whether the process is well."""

import logging

from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.alerts.queries import alerts_of
from apps.market.queries import first_assets, latest_prices
from apps.rules.domain import number_in_words

logger = logging.getLogger(__name__)

ASSETS_SHOWN = 100
ALERTS_SHOWN = 10


@never_cache
@require_safe
def front(request: HttpRequest) -> HttpResponse:
    """Show what this is, the market where it may be seen, and the reader's own alerts."""
    shows_market = settings.MARKET_IS_PUBLIC or request.user.is_authenticated
    assets = first_assets(limit=ASSETS_SHOWN + 1) if shows_market else []
    prices = latest_prices([asset.pk for asset in assets], now=timezone.now())
    rows = []
    for asset in assets[:ASSETS_SHOWN]:
        at, price = prices.get(asset.pk, (None, None))
        rows.append({"asset": asset, "at": at, "price": number_in_words(price) if price is not None else None})
    context = {
        "shows_market": shows_market,
        "rows": rows,
        "more_assets": len(assets) > ASSETS_SHOWN,
        "alerts": alerts_of(request.user)[:ALERTS_SHOWN],
    }
    return render(request, "site/front.html", context)


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that the process answers. It asks nobody else, so a database that is away restarts no web server."""
    return HttpResponse("ok", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether a page could be served now: 200, or 503 when the database does not answer."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    except Error as error:
        logger.warning("not ready", extra={"reason": type(error).__name__})
        return HttpResponse("the database does not answer", content_type="text/plain", status=503)
    return HttpResponse("ok", content_type="text/plain")
