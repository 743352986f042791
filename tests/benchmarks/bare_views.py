"""Pages of rows by hand, with values() and JSON: what the pages of the API are compared with."""

from datetime import timedelta

from django.db.models import OuterRef, Subquery
from django.http import JsonResponse
from django.urls import path
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import Asset, Quote
from apps.market.queries import latest_prices
from tests.benchmarks.sizes import PAGE_ROWS as ROWS

DAY = timedelta(hours=24)


def bare_assets(request):
    """Answer with a page of assets, their prices and the prices of 24 hours ago, by hand."""
    assert request.user.is_authenticated
    edge = OuterRef("feed__head__as_of") - DAY
    past = Quote.objects.filter(asset=OuterRef("pk"), late=False, at__lte=edge).order_by("-at").values("price")[:1]
    rows = Asset.objects.order_by("symbol").annotate(past=Subquery(past)).values("pk", "symbol", "name", "past")
    rows = list(rows[:ROWS])
    latest = latest_prices([row["pk"] for row in rows], now=timezone.now())
    answer = []
    for row in rows:
        price = latest[row["pk"]][1]
        variation = round((price - row["past"]) / row["past"] * 100, 4)
        answer.append({"symbol": row["symbol"], "name": row["name"], "price": price, "variation24h": variation})
    return JsonResponse({"assets": answer})


def bare_alerts(request):
    """Answer with a page of alerts, their evidence and their steps, by hand."""
    columns = ("pk", "severity", "opened_at", "summary", "evidence", "rule__name", "asset__symbol")
    alerts = Alert.objects.filter(rule__owner=request.user).order_by("-opened_at", "-pk").values(*columns)
    rows = {row["pk"]: row | {"timeline": []} for row in alerts[:ROWS]}
    for step in AlertEvent.objects.filter(alert__in=rows).order_by("pk").values("alert", "kind", "at", "reason"):
        rows[step.pop("alert")]["timeline"].append(step)
    return JsonResponse({"alerts": list(rows.values())})


urlpatterns = [path("bare/assets", bare_assets), path("bare/alerts", bare_alerts)]
