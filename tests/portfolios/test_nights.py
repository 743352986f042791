"""What portfolios were worth as it was known in the night after each day."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, transaction

from apps.market.models import Candle
from apps.pipeline import flow, tasks
from apps.portfolios.domain.nights import Difference
from apps.portfolios.models import NightlyValue
from apps.portfolios.nights import compared, nights_of, portfolios_to_record, record_night
from apps.portfolios.services import change_portfolio, delete_portfolio
from tests.builders import make_owner
from tests.portfolios.rows import (
    bought,
    close,
    columns,
    correct_closes,
    make_asset,
    make_portfolio,
    record,
    sold,
    split_of,
)

pytestmark = pytest.mark.django_db
DAY = date(2024, 3, 4)
NIGHT = datetime(2024, 3, 5, 1, 30, tzinfo=UTC)


@pytest.fixture
def acme():
    asset = make_asset("ACME", "USD")
    close(asset, "2024-03-01", "100")
    return asset


@pytest.fixture
def euro():
    asset = make_asset("EUR-USD", "USD", base_currency="EUR")
    close(asset, "2024-03-02", "2")
    return asset


@pytest.fixture
def savings(acme, euro):
    portfolio = make_portfolio(make_owner())
    record(portfolio, bought(acme, "2024-03-04", rate="0.5", currency="USD"))
    return portfolio


def tonight(portfolio, now=NIGHT):
    record_night(portfolio_id=portfolio.pk, now=now)
    return nights_of(portfolio, most=1)[0]


def again(portfolio):
    [night] = compared(portfolio, nights_of(portfolio, most=1), now=NIGHT + timedelta(days=30))
    return night


def test_a_night_records_value_flows_and_the_oldest_price(savings):
    night = tonight(savings)
    assert (night.day, night.value, night.flows, night.currency) == (DAY, 500, 500, "EUR")
    assert night.oldest_at == datetime(2024, 3, 1, 20, tzinfo=UTC)
    assert again(savings).difference == Difference(0, 0, 0)


def test_what_is_not_known_is_recorded_as_not_known(savings, euro):
    Candle.objects.filter(asset=euro).delete()
    assert tonight(savings).value is None


def test_a_day_is_recorded_once_and_not_before_one_in_the_night(savings):
    empty = make_portfolio(savings.owner, "Empty")
    assert portfolios_to_record(now=NIGHT) == [savings.pk]
    first = tonight(savings)
    record(savings, sold(savings.positions.get().asset, "2024-03-04", rate="0.5", currency="USD"))
    assert tonight(savings) == first
    assert tonight(savings).value == first.value == 500
    assert portfolios_to_record(now=NIGHT) == []
    # Still the same day: the one that ended at 0:00 is recorded from 1:00 on.
    assert portfolios_to_record(now=datetime(2024, 3, 6, 0, 59, tzinfo=UTC)) == []
    assert portfolios_to_record(now=datetime(2024, 3, 6, 1, 0, tzinfo=UTC)) == [savings.pk]
    assert not empty.nights.exists()


def test_the_database_refuses_to_change_a_night(savings):
    night = tonight(savings)
    with pytest.raises(DatabaseError, match="a nightly value never changes"), transaction.atomic():
        NightlyValue.objects.update(value=Decimal(1))
    with pytest.raises(DatabaseError, match="a nightly value never changes"), transaction.atomic():
        night.save()
    assert NightlyValue.objects.get().value == 500
    delete_portfolio(portfolio=savings)
    assert not NightlyValue.objects.exists()


def test_a_difference_names_transactions_prices_and_rates(savings, acme, euro):
    tonight(savings)
    record(savings, bought(acme, "2024-03-03", quantity="2", amount="200", rate="0.5", currency="USD"))
    correct_closes(acme, "110")
    correct_closes(euro, "1")
    night = again(savings)
    assert night.value == 12 * 110
    assert night.difference == Difference(2 * 110, 10 * 10, 10 * 100 * Decimal("0.5"))
    assert night.difference.total == 1320 - 500
    # Its own day had no other flow.
    assert night.flows == 500


def test_a_split_that_comes_later_changes_nothing(savings, acme):
    tonight(savings)
    split_of(acme, "2024-03-20", 2, 1)
    assert again(savings).difference == Difference(0, 0, 0)


def test_a_night_in_another_base_currency_is_not_compared(savings):
    record(savings, columns("2024-03-04", "dividend", asset=savings.positions.get().asset, amount="1", currency="EUR"))
    tonight(savings)
    savings.transactions.update(rate=None)
    changed = change_portfolio(portfolio=savings, name="Savings", base_currency="USD", method="fifo")
    night = again(changed)
    assert (night.then.currency, night.difference, night.value) == ("EUR", None, 1000)


def test_beats_task_records_all_of_them_and_one_that_fails_stops_no_other(savings, monkeypatch, caplog):
    second = make_portfolio(savings.owner, "Second")
    record(second, bought(savings.positions.get().asset, currency="USD", rate="0.5"))

    def fails(*, portfolio_id, now):
        if portfolio_id == savings.pk:
            raise ArithmeticError
        record_night(portfolio_id=portfolio_id, now=now)

    monkeypatch.setattr(flow.nights, "record_night", fails)
    tasks.record_nights()
    assert [one.portfolio for one in NightlyValue.objects.all()] == [second]
    assert "portfolio failed" in caplog.text
