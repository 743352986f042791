"""What happened after: what the price did later, on the page of an alert, and over many on that of a rule."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from statistics import median
from typing import Any

from apps.alerts.models import Alert
from apps.backtests.models import BacktestRun
from apps.market.queries import SPANS, Later, Moment, aftermaths, assets_named
from apps.panel.kit.pages import Table
from apps.reader import in_zone, show_number, show_percent
from apps.rules.models import Rule
from apps.wording import decimals_of

# So many of the newest are summed up.
SUMMED_MOST, RUNS_MOST = 100, 10


def table_after(alert: Alert) -> list[Table]:
    """Return what the price did after an alert opened; nothing of one that is not about a price."""
    moment = _moment_of(alert)
    if moment is None:
        return []
    (found,) = aftermaths([moment])
    known = [later.price for later in found.values() if later.price is not None]
    decimals = decimals_of([moment.price, *known])
    rows = [[f"{name} later", moment.at + SPANS[name], *_cells(later, decimals)] for name, later in found.items()]
    headers = ["", in_zone("at"), "price", "change"]
    title = "What happened after"
    return [Table(title=title, headers=headers, rows=rows, empty="", is_first=True, is_folded=not known)]


def _cells(later: Later, decimals: int) -> tuple[str, str]:
    if later.price is None:
        return later.why_unknown, ""
    return show_number(later.price, decimals=decimals), describe_change(later)


def describe_change(later: Later) -> str:
    """Return the change in percent with its sign, or as an amount where there is no percent."""
    change = later.difference if later.percent is None else later.percent
    if not change:
        return "the same"
    sign = "−" if change < 0 else "+"
    return sign + (show_number(abs(change)) if later.percent is None else show_percent(change))


def tables_over(rule: Rule) -> list[Table]:
    """Return what the price did after the alerts of a rule, and after the openings of its last backtests; nothing where
    there are none. The number of statements does not grow with them."""
    alerts = Alert.objects.filter(rule=rule, kind=Alert.Kind.CONDITION).order_by("-opened_at", "-pk")[:SUMMED_MOST]
    of_alerts = [moment for alert in alerts if (moment := _moment_of(alert)) is not None]
    of_backtests = _moments_of_backtests(rule)
    found = aftermaths([*of_alerts, *of_backtests])
    summed = [
        ("alert", "alerts", found[: len(of_alerts)]),
        ("opening in backtests", "openings in backtests", found[len(of_alerts) :]),
    ]
    return [
        Table(
            title=f"What happened after the last {len(each)} {many if len(each) > 1 else one}",
            headers=["", "the price was"],
            rows=[[f"{name} later", describe_all([later[name] for later in each])] for name in SPANS],
            empty="",
        )
        for one, many, each in summed
        if each
    ]


def describe_all(later: Iterable[Later]) -> str:
    """Return how often a price was higher: "higher in 9 of 14, lower in 5; half of them by +0.42 % or more"."""
    known = [one for one in later if one.difference is not None]
    if not known:
        return "not known yet"
    higher, lower = (sum(sign * (one.difference or 0) > 0 for one in known) for sign in (1, -1))
    said = f"higher in {higher} of {len(known)}, lower in {lower}"
    percents = [one.percent for one in known if one.percent is not None]
    if not percents:
        return said
    return f"{said}; the median change is {describe_change(Later(Decimal(0), Decimal(0), median(percents)))}"


def _moment_of(alert: Alert) -> Moment | None:
    price = _price(alert.evidence)
    if alert.asset_id is None or price is None or alert.kind != Alert.Kind.CONDITION:
        return None
    return Moment(alert.asset_id, alert.opened_at, price)


def _price(evidence: Mapping[str, Any]) -> Decimal | None:
    try:
        price = Decimal(str(evidence["price"]))
    except (KeyError, InvalidOperation):
        return None
    return price if price.is_finite() else None


def _moments_of_backtests(rule: Rule) -> list[Moment]:
    """Return the openings of the rule's backtests of that form which was tried last, each once."""
    runs = BacktestRun.objects.filter(rule=rule, status=BacktestRun.Status.DONE).order_by("-requested_at")[:RUNS_MOST]
    results = [(run.document, run.result or {}) for run in runs]
    openings: Sequence[Mapping[str, Any]] = [
        opening for document, result in results if document == results[0][0] for opening in result.get("openings", ())
    ]
    assets = assets_named({one["asset"] for one in openings}, owner_id=rule.owner_id) if openings else {}
    moments: dict[tuple[int, datetime], Moment] = {}
    for one in openings:
        asset, price = assets.get(one["asset"]), _price(one)
        if asset is not None and price is not None:
            at = datetime.fromisoformat(one["opened_at"])
            moments.setdefault((asset.pk, at), Moment(asset.pk, at, price))
    return sorted(moments.values(), key=lambda one: one.at, reverse=True)[:SUMMED_MOST]
