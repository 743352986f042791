"""Series and transactions of one owner that change at the same moment."""

import pytest

from apps.market.derived.making import TooDeep, create_series
from apps.market.derived.models import DerivedSeries
from apps.market.derived.queries import levels_of
from apps.market.derived.series import LEVELS_MOST, read_written
from apps.portfolios.domain.series import SeriesKind
from apps.portfolios.models import Transaction
from apps.portfolios.services import TransactionsRefused
from tests.builders import TRACE, make_owner
from tests.market.derived_rows import make_series
from tests.portfolios.rows import bought, make_portfolio, record
from tests.portfolios.series_rows import at, make_legs, series_of, trade
from tests.threads import overlapping

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def deep():
    """Return two changes of one owner's, each of which is right without the other, and makes five levels: a purchase of
    three levels below the value of a portfolio and what is made of that, and one level more above these."""
    acme, ada = make_legs().assets.get(symbol="ACME"), make_owner()
    savings = make_portfolio(ada)
    record(savings, bought(acme, "2024-03-03", amount="100"))
    series_of(savings, SeriesKind.VALUE)

    def basket(symbol, of):
        return make_series(symbol, "basket", {"asset": of, "weight": "1"}, owner=ada)

    basket("ABOVE", "VALUE")
    basket("LOW", "ACME")
    basket("MIDDLE", "LOW")
    high = basket("HIGH", "MIDDLE")
    written = read_written({"kind": "basket", "legs": [{"asset": "ABOVE", "weight": "1"}]})

    def buy():
        return record(savings, trade("buy", high, at(0), "1", "10"))

    def put_on_top():
        return create_series(owner_id=ada.pk, symbol="TOP", written=written, now=at(0), trace_id=TRACE)

    return buy, put_on_top


def depth():
    return levels_of(DerivedSeries.objects.values_list("pk", flat=True))


@pytest.mark.parametrize("number", [0, 1])
def test_each_change_alone_makes_five_levels(deep, number):
    before = depth()
    deep[number]()
    assert (before, depth()) == (3, 5 if number == 0 else 3)


def test_a_series_is_put_on_top_while_a_purchase_makes_what_is_below_deeper(deep):
    buy, put_on_top = deep

    refused = overlapping(buy, put_on_top)

    assert (type(refused), depth(), Transaction.objects.count()) == (TooDeep, LEVELS_MOST, 2)


def test_a_purchase_makes_deeper_what_a_series_is_put_on_at_that_moment(deep):
    buy, put_on_top = deep

    refused = overlapping(put_on_top, buy)

    assert (type(refused), Transaction.objects.count()) == (TransactionsRefused, 1)
    assert [(one.key, one.field) for one in refused.refusals] == [(1, "asset")]
    assert depth() <= LEVELS_MOST
