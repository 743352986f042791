"""The pages of a reader's portfolios: what they hold, what it is worth, and what each number is made of."""

import csv
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.market.domain import epoch_microseconds
from apps.market.models import Asset
from apps.portfolios.domain.ghostfolio import document_of
from apps.portfolios.domain.numbers import to_decimal
from apps.portfolios.domain.rates import FoundRate
from apps.portfolios.domain.valuation import Holding, Valued, value_holding
from apps.portfolios.models import LotCopy, NightlyValue, Portfolio, Position
from apps.portfolios.nights import last_nights
from apps.portfolios.queries import (
    activities_of,
    behind_splits,
    lots_of,
    newest_about,
    portfolios_seen_by,
    positions_in,
    positions_of,
    rows_for_export,
)
from apps.portfolios.services import refresh
from apps.portfolios.used import MOVES, Used, used_in
from apps.portfolios.valuing import View, view_now, views_now
from apps.reader import TO_MINUTES, show_number, write_time
from apps.site.figures import UNKNOWN, figure, money, percent
from apps.wording import format_age

TRANSACTIONS_SHOWN = 50
# Name -> how many days back; None: from the first transaction.
PERIODS = {"1m": 30, "3m": 91, "ytd": 0, "1y": 365, "all": None}
PERIOD_NAMES = {"1m": "1 month", "3m": "3 months", "ytd": "This year", "1y": "1 year", "all": "All"}


@never_cache
@login_required
@require_safe
def portfolio_list(request: HttpRequest) -> HttpResponse:
    """Show the reader's portfolios with what each is worth, by the stored copies and the newest prices."""
    now = timezone.now()
    rows = list(portfolios_seen_by(request.user).select_related("owner"))
    keys = [one.pk for one in rows]
    views = views_now(keys, list(positions_in(keys)))
    behind, nights = behind_splits(keys), last_nights(keys)
    lines = [_line(one, views.get(one.pk), nights.get(one.pk), now) | {"is_behind": one.pk in behind} for one in rows]
    return render(request, "site/portfolios.html", {"title": "Portfolios", "portfolios": lines, "now": now})


@never_cache
@login_required
@require_safe
def portfolio_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what a portfolio holds and is worth."""
    portfolio = portfolio_of(request, pk)
    refusals = refresh(portfolio=portfolio)
    positions = positions_of(portfolio)
    now = timezone.now()
    view = view_now(portfolio, positions)
    rows = list(newest_about(portfolio, most=TRANSACTIONS_SHOWN + 1))
    valuation = view.valuation
    context = {
        **context_of(portfolio, now),
        "refusals": refusals,
        "value": money(valuation.value, portfolio.base_currency),
        "known_value": money(valuation.known_value),
        "oldest": _age(valuation.oldest_at, now),
        "missing": _missing(view, positions),
        "positions": [_row(view.positions[one.asset], one, view, now) for one in valuation.positions],
        "closed": [_closed(one) for one in positions if not one.quantity],
        "cash": [
            (one.currency, figure(one.balance), money(one.value), path_of(one.rate, now)) for one in valuation.cash
        ],
        "result": _result(view),
        "warnings": view.copy.warnings,
        "transactions": [transaction_row(one) for one in rows[:TRANSACTIONS_SHOWN]],
        "more": len(rows) > TRANSACTIONS_SHOWN,
    }
    return render(request, "site/portfolio.html", context)


@never_cache
@login_required
@require_safe
def holding_page(request: HttpRequest, pk: int, asset: int) -> HttpResponse:
    """Show what the numbers of one position are made of: lots, price, rates and transactions."""
    portfolio = portfolio_of(request, pk)
    positions = positions_of(portfolio)
    position = next((one for one in positions if one.asset_id == asset), None)
    if position is None:
        raise Http404
    now = timezone.now()
    view = view_now(portfolio, [position])
    [valued] = view.valuation.positions or [None]
    rows = list(newest_about(portfolio, asset_id=asset, most=TRANSACTIONS_SHOWN))
    used = used_in(portfolio, also={one.portfolio_id for one in rows})
    context = {
        **context_of(portfolio, now),
        "title": f"{position.asset.symbol} in {portfolio}",
        "asset": position.asset,
        "row": _row(position, valued, view, now) if valued is not None else None,
        "path": path_of(valued.rate, now) if valued is not None else "",
        "lots": [_lot(one, valued, view) for one in lots_of(position)] if valued is not None else [],
        "closed": _closed(position),
        "transactions": [transaction_row(one, used) for one in rows],
    }
    return render(request, "site/holding.html", context)


@never_cache
@login_required
@require_safe
def portfolio_download(request: HttpRequest, pk: int) -> HttpResponse:
    """Give the transactions of a portfolio as CSV."""
    portfolio = portfolio_of(request, pk)
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="portfolio-{portfolio.pk}.csv"'
    csv.writer(answer).writerows(rows_for_export(portfolio))
    return answer


@never_cache
@login_required
@require_safe
def portfolio_as_ghostfolio(request: HttpRequest, pk: int) -> HttpResponse:
    """Give the transactions of a portfolio as Ghostfolio's JSON; a header says how many it has no form for."""
    portfolio = portfolio_of(request, pk)
    given = {"name": portfolio.name, "currency": portfolio.base_currency, "now": timezone.now()}
    text, left_out = document_of(activities_of(portfolio), **given)
    answer = HttpResponse(text, content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="portfolio-{portfolio.pk}.json"'
    answer["X-Left-Out"] = str(left_out)
    return answer


def _line(portfolio: Portfolio, view: View | None, night: NightlyValue | None, now: datetime) -> dict[str, Any]:
    """Return a portfolio as a line of the list. night: the recorded day since which nothing but the market changed
    it."""
    valuation = view.valuation if view is not None else None
    value = None if valuation is None else valuation.value
    line = {
        "row": portfolio,
        "value": money(value, portfolio.base_currency),
        "known_value": money(valuation.known_value, portfolio.base_currency)
        if valuation is not None and value is None
        else "",
        "oldest": _age(valuation.oldest_at, now) if valuation is not None else "",
        "night": None,
    }
    if night is None or night.value is None or value is None or night.currency != portfolio.base_currency:
        return line
    change = value - Fraction(night.value)
    part = percent(change / Fraction(night.value)) if night.value > 0 else ""
    mood = "" if not change else "rose" if change > 0 else "fell"
    return line | {"night": night.day, "change": money(change), "part": part, "mood": mood}


def portfolio_of(request: HttpRequest, pk: int) -> Portfolio:
    """Return the reader's portfolio. A foreign one and none are the same."""
    portfolio = portfolios_seen_by(request.user).filter(pk=pk).first()
    if portfolio is None:
        raise Http404
    return portfolio


def asset_of(request: HttpRequest, portfolio: Portfolio) -> Asset | None:
    """Return the asset that an address asks for, None where it asks for all; what the portfolio never held is none."""
    if "asset" not in request.GET:
        return None
    wanted = number_of(request.GET["asset"])
    position = next((one for one in positions_of(portfolio) if one.asset_id == wanted), None)
    if position is None:
        raise Http404
    return position.asset


def number_of(text: str) -> int:
    """Return a whole number of an address, 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def context_of(portfolio: Portfolio, now: datetime) -> dict[str, Any]:
    return {"title": str(portfolio), "portfolio": portfolio, "currency": portfolio.base_currency, "now": now}


def period_of(request: HttpRequest, *, today: date) -> tuple[date | None, date, str]:
    """Return the first and the last day that are asked for, and the name of the period."""
    try:
        since, until = (date.fromisoformat(request.GET[name]) for name in ("from", "to"))
        if since <= until <= today:
            return since, until, ""
    except (KeyError, ValueError):
        pass
    name = request.GET.get("period", "1y")
    name = name if name in PERIODS else "1y"
    if name == "ytd":
        return date(today.year, 1, 1), today, name
    back = PERIODS[name]
    return None if back is None else today - timedelta(days=back), today, name


def _age(at: datetime | None, now: datetime) -> str:
    return "" if at is None else format_age(max(epoch_microseconds(now) - epoch_microseconds(at), 0))


def path_of(rate: FoundRate | None, now: datetime) -> str:
    """Return by which prices a rate was found."""
    if rate is None:
        return UNKNOWN
    said = []
    for leg in rate.legs:
        price = show_number(leg.pair.price)
        text = f"1 / {price}" if leg.inverse else price
        by = f" by {leg.pair.provider}" if leg.pair.provider else ""
        said.append(f"{leg.pair.symbol} {text}{by}, {_age(leg.pair.at, now)} old")
    return "; ".join(said)


def _missing(view: View, positions: Sequence[Position]) -> list[str]:
    """Return what is missing, and what to do."""
    symbols = {str(one.asset_id): one.asset.symbol for one in positions}
    owned = {str(one.asset_id) for one in positions if one.asset.owner_id is not None}
    add = "An operator can add an asset for it."
    remedies = {
        "price": "{} has no price yet. Give it a feed, or backfill it.",
        "currency": "{} does not say which currency its price is in. An operator can set it.",
        "rate": "No exchange rate leads from the currency of {} to the base currency. " + add,
        "cash": "No exchange rate leads from {} to the base currency. " + add,
    }
    typed = "{} has no price yet. Type one under Manual assets."
    said = [
        (typed if what == "price" and str(key) in owned else remedies[what]).format(symbols.get(str(key), key))
        for what, key in view.valuation.missing
    ]
    for what, key, day in view.copy.missing:
        of = "exchange rate" if what == "rate" else "price"
        said.append(
            f"The {of} of {symbols.get(key, key)} on {day} is not known, so costs and gains that need it are not."
        )
    return said


def _row(position: Position, valued: Valued, view: View, now: datetime) -> dict[str, Any]:
    whole = view.valuation.known_value
    share = valued.value / whole if valued.value is not None and whole > 0 else None
    return {
        "asset": position.asset,
        "quantity": figure(valued.quantity),
        "price": "none yet" if valued.price is None else show_number(valued.price.price),
        "price_currency": position.asset.currency,
        "provider": valued.price.provider if valued.price is not None else "",
        "at": valued.price.at if valued.price is not None else None,
        "age": _age(valued.price.at, now) if valued.price is not None else "",
        "rate": UNKNOWN if valued.rate is None else figure(valued.rate.rate),
        "value": money(valued.value),
        "share": percent(share) if share is not None else UNKNOWN,
        "meter": str(to_decimal(share * 100, 2)) if share is not None else "0",
        "cost": money(valued.cost),
        "gain": money(valued.gain),
        "price_part": money(valued.price_part),
        "currency_part": money(valued.currency_part),
        "after_costs": money(valued.gain_after_costs),
        "fees": money(valued.fees),
        "mood": "" if not valued.gain else "rose" if valued.gain > 0 else "fell",
    }


def _closed(position: Position) -> dict[str, Any]:
    names = ("realised", "price_part", "currency_part", "costs", "realised_after_costs", "income")
    return {"asset": position.asset, **{name: money(getattr(position, name)) for name in names}}


def _lot(lot: LotCopy, valued: Valued, view: View) -> dict[str, Any]:
    cost = None if lot.base_cost is None else Fraction(lot.base_cost)
    fees = None if lot.base_fees is None else Fraction(lot.base_fees)
    holding = Holding(Fraction(lot.quantity), {lot.currency: Fraction(lot.cost)}, cost, fees)
    own = value_holding(valued.asset, holding, price=valued.price, find_rate=view.find_rate)
    ratio = "" if lot.numerator == lot.denominator else f"{lot.numerator}:{lot.denominator}"
    return {
        "at": lot.at,
        "bought": figure(lot.bought),
        "ratio": ratio,
        "quantity": figure(lot.quantity),
        "cost": f"{figure(lot.cost)} {lot.currency}",
        "base_cost": money(cost),
        "rate": UNKNOWN if cost is None or not lot.cost else figure(cost / Fraction(lot.cost)),
        **{name: money(getattr(own, name)) for name in ("value", "gain", "price_part", "currency_part")},
    }


def _result(view: View) -> list[tuple[str, str, str]]:
    """Return how the value came about, for people: the name of a sum, what it is, its amount."""
    names = {
        "flows": "Came in from outside, less what went there",
        "realised": "Gain of what was sold, before costs",
        "unrealised": "Gain of what is held, before costs",
        "income": "Income",
        "fees": "Fees",
        "taxes": "Taxes",
        "currency_on_cash": "Currency gain on cash",
    }
    signs = {"fees": -1, "taxes": -1}
    rows = []
    for name, text in names.items():
        amount = getattr(view.result, name)
        rows.append((name, text, money(None if amount is None else amount * signs.get(name, 1))))
    return [*rows, ("final", "Value", money(view.result.final))]


def transaction_row(row: Any, used: Used | None = None) -> dict[str, Any]:
    """Return a transaction as a line of a table. used: the exchange rates and prices that were found."""
    return {
        "row": row,
        "what": row.get_event_display() if row.event else row.get_kind_display(),
        "quantity": "" if row.quantity is None else figure(row.quantity),
        "amount": "" if row.amount is None else f"{figure(row.amount)} {row.currency}",
        "fee": f"{figure(row.fee)} {row.fee_currency or row.currency}" if row.fee else "",
        "tax": f"{figure(row.tax)} {row.tax_currency or row.currency}" if row.tax else "",
        "rate": "" if used is None else "; ".join(filter(None, (price_of(row, used), rates_of(row, used)))),
    }


def price_of(row: Any, used: Used) -> str:
    """Return the price by which a delivery or a transfer was valued; "" where there is none."""
    found = used.prices.get((row.asset_id, row.at))
    if found is None or row.kind not in MOVES:
        return ""
    return f"{figure(found.price)} {found.currency} of {write_time(found.priced_at, TO_MINUTES, with_zone=False)}"


def rates_of(row: Any, used: Used) -> str:
    """Return the exchange rates of the currencies of a transaction: as it states them, or as they were found, with
    their prices."""
    found = used.prices.get((row.asset_id, row.at)) if row.kind in MOVES else None
    named = [
        row.currency if row.amount is not None else "",
        (row.fee_currency or row.currency) if row.fee else "",
        (row.tax_currency or row.currency) if row.tax else "",
        found.currency if found is not None else "",
    ]
    wanted = [one for one in dict.fromkeys(named) if one and one != used.base]
    texts = [(one, rate_of(row, one, used)) for one in wanted]
    if len(texts) == 1:
        return texts[0][1]
    return "; ".join(f"{currency} {text}" for currency, text in texts)


def _leg(symbol: str, price: str, at: str, inverse: bool) -> str:
    written = f"1 / {show_number(price)}" if inverse else show_number(price)
    return f"{symbol} {written} of {write_time(datetime.fromisoformat(at), TO_MINUTES, with_zone=False)}"


def rate_of(row: Any, currency: str, used: Used) -> str:
    """Return the exchange rate of one currency of a transaction into the base currency; "" where it is that."""
    if currency == used.base:
        return ""
    if row.rate is not None and currency == row.currency:
        return f"{show_number(row.rate)}, written"
    found = used.rates.get((currency, row.at))
    if found is None:
        return UNKNOWN
    legs = ", ".join(_leg(*leg) for leg in found.path)
    return f"{figure(Decimal(found.rate))}: {legs}"
