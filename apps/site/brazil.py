"""What a portfolio in reais gave beside the CDI, and after inflation (IPCA)."""

from datetime import date, datetime, timedelta

from apps.market.models import Asset
from apps.market.queries import held_prices
from apps.portfolios.domain.returns import percent_of, real_return
from apps.portfolios.models import Portfolio
from apps.portfolios.valuing import Performance, asset_return, return_until
from apps.site.figures import UNKNOWN, percent
from apps.sources.queries import assets_listed

CDI, IPCA = "12", "433"


def brazilian_figures(portfolio: Portfolio, found: Performance, *, now: datetime) -> list[tuple[str, str, str]]:
    """Return name, figure and what it is; nothing where the base currency is another one, or these series are not
    here."""
    if portfolio.base_currency != "BRL" or found.begins is None:
        return []
    listed = assets_listed("bcb_sgs", [CDI, IPCA])
    figures = []
    if CDI in listed:
        figures.append(_percent_of_cdi(listed[CDI], found, since=found.begins, now=now))
    if IPCA in listed:
        figures.append(_after_inflation(listed[IPCA], found, since=found.begins, now=now))
    return figures


def _percent_of_cdi(asset: Asset, found: Performance, *, since: date, now: datetime) -> tuple[str, str, str]:
    cdi = asset_return(asset, base="BRL", since=since, until=found.days[-1].day, now=now)
    part = percent_of(found.twr, cdi) if found.twr is not None and cdi is not None else None
    return "% of CDI", percent(part), f"of the time-weighted return; the CDI gave {percent(cdi)} over the same days"


def _after_inflation(asset: Asset, found: Performance, *, since: date, now: datetime) -> tuple[str, str, str]:
    newest = held_prices([asset.pk]).get(asset.pk)
    if newest is None:
        return "Real return", UNKNOWN, "the IPCA is not known yet"
    # A month's index stands at its end.
    published = (newest.at - timedelta(hours=1)).date()
    last = min(published, found.days[-1].day)
    returned = return_until(found, last)
    ipca = asset_return(asset, base="BRL", since=since, until=last, now=now)
    real = real_return(returned, ipca) if returned is not None and ipca is not None else None
    said = f"after the IPCA, {percent(ipca)} in the months that ended up to {last}; it is published up to {published}"
    return "Real return", percent(real), said
