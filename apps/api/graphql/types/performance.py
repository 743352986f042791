"""The performance of portfolios, with the parts of each figure. The pages use the same functions."""

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal as PythonDecimal
from typing import Any, NamedTuple

import graphene

from apps.api.graphql.scalars import AssetId, DateTime, Decimal
from apps.api.graphql.types.market import Asset
from apps.api.graphql.types.portfolio_figures import ExchangeRate, exact, shown_rate
from apps.market.queries import assets_named
from apps.portfolios.comparing import (
    CDI,
    IPCA,
    Comparison,
    compare_with,
    percent_of_cdi,
    real_return_of,
)
from apps.portfolios.comparing import PercentOfCdi as BesideCdi
from apps.portfolios.comparing import RealReturn as AfterInflation
from apps.portfolios.comparing import Worth as WorthThen
from apps.portfolios.domain.inflation import IndexOn
from apps.portfolios.domain.returns import is_traded
from apps.portfolios.domain.xirr import NotUnique, Rate, net_present_value, present_values
from apps.portfolios.models import Portfolio
from apps.portfolios.valuing import Performance as FoundPerformance
from apps.sources.queries import assets_listed

_UNKNOWN = "Null: not known."
# Of the lists of parts by day.
DAYS_MOST = 366
COMPARISONS_MOST = 5


class Flow(graphene.ObjectType):
    """Money that came into a portfolio, or went out of it, on a day."""

    day = graphene.Date(required=True, description="The day in UTC.")
    inflow = graphene.Field(Decimal, description=f"What came in, at the start of the day. {_UNKNOWN}")
    outflow = graphene.Field(Decimal, description=f"What went out, at its end. {_UNKNOWN}")


class Volatility(graphene.ObjectType):
    """Standard deviation of daily log returns."""

    period = graphene.Float(required=True, description="For the whole period (× √n); 0.1 is 10 %.")
    yearly = graphene.Float(required=True, description="For a year of 252 trading days.")
    daily = graphene.Float(required=True, description="For a day.")
    mean = graphene.Float(required=True, description="The mean of the log returns.")
    days = graphene.Int(required=True, description="n: the days that count, weekends on which nothing moved left out.")


class DayReturn(graphene.ObjectType):
    """What a day gave: (value + outflow) / (before + inflow) − 1."""

    day = graphene.Date(required=True, description="The day in UTC.")
    before = graphene.Field(Decimal, required=True, description="The value at the end of the day before.")
    inflow = graphene.Field(Decimal, required=True, description="What came in, at its start.")
    outflow = graphene.Field(Decimal, required=True, description="What went out, at its end.")
    value = graphene.Field(Decimal, required=True, description="The value at its end.")
    rate = graphene.Field(Decimal, required=True, description="Its return.")
    index = graphene.Field(Decimal, required=True, description="The returns up to it linked; 1 before the first day.")
    log_return = graphene.Float(
        description="The logarithm of 1 + rate. Null: the day does not count for the volatility, or lost everything."
    )


class DayReturns(graphene.ObjectType):
    """A page of days, in order."""

    days = graphene.List(graphene.NonNull(DayReturn), required=True, description="The days.")
    older = graphene.Int(required=True, description="How many days of the period are before them.")


class WeighedFlow(graphene.ObjectType):
    """A flow as an investor sees it: below 0 is paid in. The value before a period is paid in, that at its end comes
    back."""

    day = graphene.Date(required=True, description="The day in UTC.")
    amount = graphene.Field(Decimal, required=True, description="The sum of the flows of the day.")
    present_values = graphene.List(
        graphene.NonNull(Decimal), required=True, description="Its worth on the first day at each rate that fits."
    )


class WeighedFlows(graphene.ObjectType):
    """A page of the flows of which the money-weighted return is made, in order of days."""

    flows = graphene.List(graphene.NonNull(WeighedFlow), required=True, description="The flows.")
    older = graphene.Int(required=True, description="How many flows of the period are before them.")
    net_present_values = graphene.List(
        graphene.NonNull(Decimal),
        required=True,
        description="The sum of the worth of all flows of the period at each rate that fits: 0.",
    )


class Fall(graphene.ObjectType):
    """The largest fall of the time-weighted index from a peak."""

    part = graphene.Field(Decimal, required=True, description="1 − trough / peak; 0: it never fell.")
    peak_day = graphene.Date(required=True, description="The day at whose end the index was at the peak.")
    peak = graphene.Field(Decimal, required=True, description="The index there; 1 before the first day.")
    trough_day = graphene.Date(required=True, description="The day at whose end it was lowest after that.")
    trough = graphene.Field(Decimal, required=True, description="The index there.")


class AssetWorth(graphene.ObjectType):
    """The worth of one unit of an asset at a time."""

    at = graphene.Field(DateTime, required=True, description="The time.")
    price = graphene.Field(Decimal, description=f"The price in force then, in the asset's currency. {_UNKNOWN}")
    priced_at = graphene.Field(DateTime, description="Since when it was.")
    rate = graphene.Field(ExchangeRate, description=f"Into the base currency. {_UNKNOWN}")
    value = graphene.Field(Decimal, description=f"The price in the base currency. {_UNKNOWN}")

    def resolve_rate(worth: WorthThen, info: Any) -> ExchangeRate | None:
        return shown_rate(worth.rate)

    def resolve_value(worth: WorthThen, info: Any) -> PythonDecimal | None:
        return exact(worth.value)


class ComparedAsset(graphene.ObjectType):
    """An asset over the days of a performance, in the base currency, without income."""

    asset = graphene.Field(Asset, required=True, description="The asset.")
    returned = graphene.Field(Decimal, description=f"Its return. {_UNKNOWN}")
    first = graphene.Field(AssetWorth, required=True, description="At the start of the first day.")
    last = graphene.Field(AssetWorth, required=True, description="At the end of the last.")


class PercentOfCdi(graphene.ObjectType):
    """The time-weighted return by that of the CDI over the same days."""

    part = graphene.Field(Decimal, description="1 is 100 %. Null: not known, or the CDI gave nothing.")
    cdi = graphene.Field(ComparedAsset, required=True, description="The CDI over these days.")

    def resolve_part(beside: BesideCdi, info: Any) -> PythonDecimal | None:
        return exact(beside.part)


class IndexOnDay(graphene.ObjectType):
    """An index that is published for whole months, at the end of a day. Within a month it rises by the same factor on
    each business day of Brazilian banks."""

    day = graphene.Date(required=True, description="The day.")
    value = graphene.Field(Decimal, description=f"before × (after / before) ^ (elapsed / total). {_UNKNOWN}")
    before = graphene.Field(Decimal, description=f"The index at the end of the month before. {_UNKNOWN}")
    after = graphene.Field(Decimal, description=f"The index at the end of this month. {_UNKNOWN}")
    elapsed = graphene.Int(required=True, description="Business days of the month that are over.")
    total = graphene.Int(required=True, description="Business days of the month.")

    def resolve_value(on: IndexOn, info: Any) -> PythonDecimal | None:
        return exact(on.value)


class Inflation(graphene.ObjectType):
    """The IPCA over the days of a performance."""

    asset = graphene.Field(Asset, required=True, description="The asset.")
    returned = graphene.Field(Decimal, description=f"By what part it rose. {_UNKNOWN}")
    first = graphene.Field(IndexOnDay, required=True, description="At the end of the day before the first one.")
    last = graphene.Field(IndexOnDay, required=True, description="At the end of the last day.")


class RealReturn(graphene.ObjectType):
    """The time-weighted return after inflation, up to the last published month of the IPCA."""

    real = graphene.Field(Decimal, description=f"(1 + returned) / (1 + ipca) − 1. {_UNKNOWN}")
    returned = graphene.Field(Decimal, description=f"The time-weighted return up to the last day. {_UNKNOWN}")
    ipca = graphene.Field(Inflation, required=True, description="The IPCA over these days.")
    last = graphene.Date(required=True, description="The last day that counts.")
    published = graphene.Date(required=True, description="Up to where the IPCA is published.")

    def resolve_real(after: AfterInflation, info: Any) -> PythonDecimal | None:
        return exact(after.real)

    def resolve_returned(after: AfterInflation, info: Any) -> PythonDecimal | None:
        return exact(after.returned)


class Asked(NamedTuple):
    """A performance that was asked for, with its parts at hand."""

    portfolio: Portfolio
    found: FoundPerformance
    now: datetime


def _before() -> Any:
    return graphene.Date(description=f"Only what is before this day. At most the newest {DAYS_MOST} are answered.")


class Performance(graphene.ObjectType):
    """How a portfolio did in a period, after fees and taxes and with income. Returns are parts of 1: 0.1 is 10 %."""

    begins = graphene.Date(description="The first day that counts: its value and that of the day before are known.")
    start_value = graphene.Field(Decimal, description="The value before that day.")
    days = graphene.List(graphene.NonNull(graphene.Date), required=True, description="The days that count, in order.")
    values = graphene.List(Decimal, required=True, description=f"The value at the end of each of the days. {_UNKNOWN}")
    flows = graphene.List(graphene.NonNull(Flow), required=True, description="The flows, by day.")
    time_weighted = graphene.Field(Decimal, description="Time-weighted return of the period, not annualised.")
    day_returns = graphene.Field(
        DayReturns,
        before=_before(),
        required=True,
        description="What each day gave: of these the time-weighted return, the volatility and the drawdown are made.",
    )
    unknown = graphene.String(
        required=True,
        description="Why there is no return: no_days, unknown_value or negative_start; otherwise empty.",
    )
    unknown_day = graphene.Date(description="The day of that value.")
    is_year = graphene.Boolean(
        required=True, description="Whether the period is a year or longer: people see nothing shorter annualised."
    )
    money_weighted = graphene.Field(
        Decimal,
        description="The money-weighted return as people see it: the annual rate, and of a period under a year what it "
        "comes to over its days. Null: none.",
    )
    money_weighted_roots = graphene.List(
        graphene.NonNull(Decimal), required=True, description="The same of the rates that fit, where several do."
    )
    money_weighted_yearly = graphene.Field(Decimal, description="The annual rate (XIRR, Act/365F). Null: none.")
    money_weighted_rates = graphene.List(
        graphene.NonNull(Decimal), required=True, description="The annual rates that fit, where several do."
    )
    money_weighted_unknown = graphene.String(
        required=True,
        description="Why there is no such rate: no_flows, one_day, everything_lost, no_sign_change, no_root, "
        "not_unique, unknown_value; else empty.",
    )
    money_weighted_flows = graphene.Field(
        WeighedFlows, before=_before(), required=True, description="The flows of which it is made."
    )
    volatility = graphene.Field(Volatility, description="Null: fewer than two days of trading.")
    drawdown = graphene.Field(Decimal, description="The largest fall from a peak of the time-weighted index.")
    fall = graphene.Field(Fall, description="From which peak to which trough that was. Null: no return is known.")
    benchmark = graphene.Field(
        ComparedAsset,
        asset=AssetId(required=True, description="The name of an asset."),
        description="An asset over the same days. Null: there is none, or no day. At most "
        f"{COMPARISONS_MOST} are answered in one request.",
    )
    percent_of_cdi = graphene.Field(
        PercentOfCdi, description="Null: the base currency is not BRL, there is no CDI here, or no day."
    )
    real_return = graphene.Field(
        RealReturn, description="Null: the base currency is not BRL, the IPCA is not known here, or there is no day."
    )

    def resolve_begins(asked: Asked, info: Any) -> date | None:
        return asked.found.begins

    def resolve_start_value(asked: Asked, info: Any) -> PythonDecimal | None:
        return exact(asked.found.start) if asked.found.begins is not None else None

    def resolve_days(asked: Asked, info: Any) -> list[date]:
        return [one.day for one in asked.found.days]

    def resolve_values(asked: Asked, info: Any) -> list[PythonDecimal | None]:
        return [exact(one.value) for one in asked.found.days]

    def resolve_flows(asked: Asked, info: Any) -> list[Flow]:
        return [
            Flow(day=one.day, inflow=exact(one.inflow), outflow=exact(one.outflow))
            for one in asked.found.days
            if one.inflow != 0 or one.outflow != 0
        ]

    def resolve_time_weighted(asked: Asked, info: Any) -> PythonDecimal | None:
        return exact(asked.found.twr)

    def resolve_day_returns(asked: Asked, info: Any, before: date | None = None) -> DayReturns:
        returns = asked.found.returns
        chosen, older = _page([one.day for one in returns], before)
        return DayReturns(days=[_day_return(asked.found, number) for number in chosen], older=older)

    def resolve_unknown(asked: Asked, info: Any) -> str:
        return asked.found.unknown

    def resolve_unknown_day(asked: Asked, info: Any) -> date | None:
        return asked.found.unknown_day

    def resolve_is_year(asked: Asked, info: Any) -> bool:
        return asked.found.is_year

    def resolve_money_weighted(asked: Asked, info: Any) -> PythonDecimal | None:
        answer = asked.found.xirr
        return exact(asked.found.of_period(answer.rate)) if isinstance(answer, Rate) else None

    def resolve_money_weighted_roots(asked: Asked, info: Any) -> list[PythonDecimal | None]:
        answer = asked.found.xirr
        return [exact(asked.found.of_period(one)) for one in answer.roots] if isinstance(answer, NotUnique) else []

    def resolve_money_weighted_yearly(asked: Asked, info: Any) -> PythonDecimal | None:
        answer = asked.found.xirr
        return exact(answer.rate) if isinstance(answer, Rate) else None

    def resolve_money_weighted_rates(asked: Asked, info: Any) -> list[PythonDecimal | None]:
        answer = asked.found.xirr
        return [exact(one) for one in answer.roots] if isinstance(answer, NotUnique) else []

    def resolve_money_weighted_unknown(asked: Asked, info: Any) -> str:
        answer = asked.found.xirr
        if asked.found.begins is None:
            return "no_days"
        if answer is None:
            return "unknown_value"
        if isinstance(answer, NotUnique):
            return "not_unique"
        return "" if isinstance(answer, Rate) else answer.reason.value

    def resolve_money_weighted_flows(asked: Asked, info: Any, before: date | None = None) -> WeighedFlows:
        flows, rates = asked.found.flows, asked.found.rates
        chosen, older = _page([day for day, _ in flows], before)
        worths = [present_values(rate, flows) for rate in rates]
        found = [
            WeighedFlow(
                day=flows[number][0],
                amount=exact(flows[number][1]),
                present_values=[exact(worth[number]) for worth in worths],
            )
            for number in chosen
        ]
        sums = [exact(net_present_value(rate, flows)) for rate in rates]
        return WeighedFlows(flows=found, older=older, net_present_values=sums)

    def resolve_volatility(asked: Asked, info: Any) -> Any:
        return asked.found.volatility

    def resolve_drawdown(asked: Asked, info: Any) -> PythonDecimal | None:
        return exact(asked.found.drawdown)

    def resolve_fall(asked: Asked, info: Any) -> Fall | None:
        found, fall = asked.found, asked.found.fall
        if fall is None:
            return None
        return Fall(
            part=exact(fall.part),
            peak_day=found.day_of(fall.peak),
            peak=exact(found.index_at(fall.peak)),
            trough_day=found.day_of(fall.trough),
            trough=exact(found.index_at(fall.trough)),
        )

    def resolve_benchmark(asked: Asked, info: Any, asset: str) -> Comparison | None:
        info.context.count_costly("benchmark", most=COMPARISONS_MOST)
        row = assets_named([asset], owner_id=asked.portfolio.owner_id).get(asset)
        if row is None:
            return None
        return compare_with(row, asked.found, base=asked.portfolio.base_currency, now=asked.now)

    def resolve_percent_of_cdi(asked: Asked, info: Any) -> Any:
        row = _listed(asked, CDI)
        return None if row is None else percent_of_cdi(row, asked.found, now=asked.now)

    def resolve_real_return(asked: Asked, info: Any) -> Any:
        row = _listed(asked, IPCA)
        return None if row is None else real_return_of(row, asked.found)


def _listed(asked: Asked, code: str) -> Any:
    """Return the asset of a series of the Banco Central; None where the portfolio is not in reais, or it is not
    here."""
    listed: Mapping[str, Any] = assets_listed("bcb_sgs", [code]) if asked.portfolio.base_currency == "BRL" else {}
    return listed.get(code)


def _page(days: Sequence[date], before: date | None) -> tuple[range, int]:
    """Return the places of the newest days, of those before a day where one is given, and how many are older."""
    end = len(days) if before is None else sum(day < before for day in days)
    begin = max(end - DAYS_MOST, 0)
    return range(begin, end), begin


def _day_return(found: FoundPerformance, number: int) -> DayReturn:
    day, one = found.days[number], found.returns[number]
    counts = is_traded(one) and one.rate > -1
    return DayReturn(
        day=day.day,
        before=exact(found.days[number - 1].value if number else found.start),
        inflow=exact(day.inflow),
        outflow=exact(day.outflow),
        value=exact(day.value),
        rate=exact(one.rate),
        index=exact(found.index[number]),
        log_return=math.log1p(one.rate) if counts else None,
    )
