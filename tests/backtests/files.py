"""Files of rules and quotes for the command, and its report in short."""

ABOVE = "assets: [A]\ncondition: {kind: above, level: 100}\n"


def rows_of(*prices, symbol="A", header="time,symbol,price"):
    """Return a file of prices, a minute apart, from the beginning of 2026."""
    lines = [f"2026-01-01T00:{minute:02}:00Z,{symbol},{price}" for minute, price in enumerate(prices)]
    return "\n".join([header, *lines]) + "\n"


def opened(report):
    """Return (asset, minute opened, minute resolved) of each opening within the first hour of 2026."""
    return [(one["asset"], _minute(one["opened_at"]), _minute(one["resolved_at"])) for one in report["openings"]]


def _minute(moment):
    return None if moment is None else int(moment.removeprefix("2026-01-01T00:").removesuffix(":00Z"))
