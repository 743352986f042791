"""Rows of files as transactions of a portfolio."""

from collections.abc import Mapping
from typing import Any

from apps.market.models import Asset
from apps.portfolios.domain.tables import ASSET_COLUMNS, Activity
from apps.portfolios.models import Portfolio


def columns_of(
    one: Activity, portfolio: Portfolio, *, assets: Mapping[str, Asset], portfolios: Mapping[str, Portfolio]
) -> dict[str, Any]:
    """Return the columns of a transaction of a portfolio, with the rows that the file names. assets, portfolios: by
    symbol of the file, and by name."""
    named: dict[str, Any] = {name: assets[one.columns[name]] for name in ASSET_COLUMNS if name in one.columns}
    if "to_portfolio" in one.columns:
        named["to_portfolio"] = portfolios[one.columns["to_portfolio"]]
    if one.rate_into not in ("", portfolio.base_currency):
        named["rate"] = None
    return one.columns | named | ({"asset_id": assets[one.symbol].pk} if one.symbol else {})
