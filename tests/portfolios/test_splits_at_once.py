"""Splits of assets in two feeds that are entered at the same moment."""

import pytest

from apps.market.services import append_split
from apps.portfolios.models import Position
from apps.portfolios.services import refresh
from tests.builders import TRACE, append_quotes, at, make_feed, make_owner
from tests.portfolios.rows import bought, make_portfolio, record
from tests.threads import overlapping

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


def test_a_split_that_is_committed_after_a_later_one_is_not_missed():
    """A portfolio knows splits up to an id, so they have to be committed in the order of their ids."""
    assets = []
    for symbol in ("ACME", "BOLT"):
        feed = make_feed(symbol, name=symbol.lower())
        append_quotes(feed, [(symbol, at(0), "100")])
        assets.append(feed.assets.get())
    savings = make_portfolio(make_owner())
    record(savings, *(bought(asset) for asset in assets))

    def split(asset):
        append_split(asset_id=asset.pk, effective_at=at(0), numerator=2, denominator=1, now=at(1), trace_id=TRACE)

    def split_and_look():
        split(assets[1])
        refresh(portfolio=savings)

    assert overlapping(lambda: split(assets[0]), split_and_look) is None
    refresh(portfolio=savings)
    held = dict(Position.objects.values_list("asset__symbol", "quantity"))
    assert held == {"ACME": 20, "BOLT": 20}
