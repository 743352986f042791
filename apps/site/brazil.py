"""What a portfolio in reais gave beside the CDI, and after inflation (IPCA)."""

from collections.abc import Mapping
from datetime import datetime

from apps.market.models import Asset
from apps.portfolios.comparing import CDI, IPCA, PercentOfCdi, RealReturn, percent_of_cdi, real_return_of
from apps.portfolios.models import Portfolio
from apps.portfolios.valuing import Performance
from apps.site.figures import UNKNOWN, percent
from apps.sources.queries import assets_listed


def _listed(portfolio: Portfolio) -> Mapping[str, Asset]:
    """Return code -> asset of these series that are here; none where the base currency is another one."""
    return assets_listed("bcb_sgs", [CDI, IPCA]) if portfolio.base_currency == "BRL" else {}


def beside_cdi(portfolio: Portfolio, found: Performance, *, now: datetime) -> PercentOfCdi | None:
    """Return a portfolio beside the CDI; None where its base currency is another one, or the CDI is not here."""
    listed = _listed(portfolio)
    return percent_of_cdi(listed[CDI], found, now=now) if CDI in listed else None


def after_inflation(portfolio: Portfolio, found: Performance) -> RealReturn | None:
    """Return a portfolio after inflation; None where its base currency is another one, or the IPCA is not known."""
    listed = _listed(portfolio)
    return real_return_of(listed[IPCA], found) if IPCA in listed else None


def brazilian_figures(portfolio: Portfolio, found: Performance, *, now: datetime) -> list[tuple[str, str, str, str]]:
    """Return name, figure, what it is and the name of its parts; nothing where the base currency is another one, or
    these series are not here."""
    if found.begins is None:
        return []
    listed, figures = _listed(portfolio), []
    if CDI in listed and (beside := percent_of_cdi(listed[CDI], found, now=now)) is not None:
        gave = f"of the time-weighted return; the CDI gave {percent(beside.cdi.returned)} over the same days"
        figures.append(("% of CDI", percent(beside.part), gave, "cdi"))
    if IPCA in listed:
        real = real_return_of(listed[IPCA], found)
        if real is None:
            figures.append(("Real return", UNKNOWN, "the IPCA is not known yet", ""))
        else:
            figures.append(("Real return", percent(real.real), _after(real), "real"))
    return figures


def _after(real: RealReturn) -> str:
    gave = percent(real.ipca.returned)
    return f"after the IPCA, {gave} up to {real.last}, by business days; it is published up to {real.published}"
