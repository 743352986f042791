"""The list of assets, and the reader's watchlist."""

from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from apps.market import services
from apps.market.models import Asset
from apps.market.queries import assets_known_as, assets_seen_by, known_tags, latest_prices, matching, watched_ids
from apps.site.market import changes_24h, in_market, market_rows

ASSETS_A_PAGE, TAGS_OFFERED, TERM_LONGEST = 50, 30, 64
# Name in the address -> what the link says.
ORDERS = {"symbol": "by symbol", "rise": "largest rise first", "fall": "largest fall first"}


@never_cache
@require_safe
@in_market
def asset_list(request: HttpRequest) -> HttpResponse:
    """Show the assets that the reader may see, page by page."""
    return render(request, "site/asset_list.html", _context(request))


@never_cache
@require_safe
@in_market
def asset_list_live(request: HttpRequest) -> HttpResponse:
    """Return the part of the list that moves; live.js puts it in the place of the older one."""
    return render(request, "site/asset_list_live.html", _context(request))


@require_POST
@login_required
def watch_asset(request: HttpRequest) -> HttpResponse:
    """Put an asset on the reader's watchlist, or take it off, and go back to where that was asked for."""
    for action in ("watch", "unwatch"):
        name = request.POST.get(action, "")
        asset = assets_known_as([name], reader=request.user).get(name) if name else None
        if asset is not None:
            getattr(services, action)(asset, user=request.user)
            break
    else:
        raise Http404
    back = request.POST.get("back", "")
    is_safe = url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    return HttpResponseRedirect(back if is_safe else reverse("asset_list"))


def _context(request: HttpRequest) -> dict[str, Any]:
    now, user = timezone.now(), request.user
    asked = {name: request.GET.get(name, "").strip()[:TERM_LONGEST] for name in ("q", "tag", "order", "watched")}
    watched = watched_ids(user)
    tags = known_tags(limit=TAGS_OFFERED)
    found = _found(request, asked, watched)
    order = asked["order"] if asked["order"] in ORDERS else "symbol"
    page = Paginator(_ordered(found, order, now=now), ASSETS_A_PAGE).get_page(request.GET.get("page"))
    query = {name: value for name, value in asked.items() if value}
    return {
        "title": "Assets",
        "rows": market_rows(list(page.object_list), user=user, now=now),
        "page": page,
        "now": now,
        "back": request.get_full_path() if request.resolver_match.url_name == "asset_list" else "",  # type: ignore[union-attr]
        **{"q": asked["q"], "tag": asked["tag"], "is_watchlist": bool(asked["watched"]), "has_watched": bool(watched)},
        "is_filtered": bool(asked["q"] or asked["tag"]),
        "tags": [(tag, urlencode(_without(query, "tag") | {"tag": tag}), tag == asked["tag"]) for tag in tags],
        "orders": [(text, urlencode(query | {"order": name}), name == order) for name, text in ORDERS.items()],
        "all_query": urlencode(_without(query, "watched")),
        "watched_query": urlencode(query | {"watched": "1"}),
        "untagged_query": urlencode(_without(query, "tag")),
        "query": urlencode(query | ({"page": page.number} if page.number > 1 else {})),
        "page_query": urlencode(query),
    }


def _without(query: dict[str, str], name: str) -> dict[str, str]:
    return {one: value for one, value in query.items() if one != name}


def _found(request: HttpRequest, asked: dict[str, str], watched: set[int]) -> list[Asset]:
    rows = assets_seen_by(request.user)
    if asked["watched"]:
        rows = rows.filter(pk__in=watched)
    # A NUL, which no asset's name has, is an error to PostgreSQL.
    term = asked["q"].replace("\0", "")
    rows = matching(rows, term) if term else rows.order_by("symbol", "pk")
    # JSON containment differs between the databases; tags are few words on few rows, so Python decides.
    return [asset for asset in rows if not asked["tag"] or asked["tag"] in asset.tags]


def _ordered(assets: list[Asset], order: str, *, now: Any) -> list[Asset]:
    """Return the assets in the order that is asked for; those whose change is not known come last."""
    if order == "symbol":
        return assets
    latest = {pk: price for pk, (_, price) in latest_prices([one.pk for one in assets], now=now).items()}
    changes = changes_24h(latest)
    sign = -1 if order == "rise" else 1
    return sorted(assets, key=lambda one: (one.pk not in changes, sign * changes.get(one.pk, Decimal(0))))
