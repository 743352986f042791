"""Every page of the panel. Django's autodiscovery imports this module; a new page is one more line here."""

from apps.panel import (  # noqa: F401
    accounts,
    alerts,
    assets,
    backfills,
    backtests,
    channels,
    feeds,
    history,
    import_files,
    messages,
    portfolios,
    price_requests,
    reconciliations,
    rules,
    series,
    silences,
    tokens,
    transactions,
)
