"""Alerts about portfolios that differ from a file of positions."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from apps.alerts.models import Alert
from apps.notify.models import Notification
from apps.pipeline import flow, tasks
from apps.portfolios.models import Reconciliation
from apps.portfolios.reconciling import compare_again, keep_positions
from apps.portfolios.services import delete_portfolio
from tests.builders import make_owner
from tests.portfolios.rows import NOW, bought, make_asset, make_portfolio, record, sold, split_of

pytestmark = pytest.mark.django_db
DAY = NOW.date() - timedelta(days=1)


@pytest.fixture
def acme():
    return make_asset()


@pytest.fixture
def savings(acme):
    portfolio = make_portfolio(make_owner())
    record(portfolio, bought(acme))
    return portfolio


def keep(portfolio, *, day=DAY, now=NOW, **stated):
    quantities = {symbol: Decimal(quantity) for symbol, quantity in stated.items()}
    keep_positions(portfolio=portfolio, name="broker.csv", day=day, stated=quantities, now=now)
    tasks.reconcile()


def events():
    """Return (kind, reason) of each step of the alerts, in order."""
    rows = Notification.objects.filter(event__alert__kind="reconciliation").order_by("pk")
    return list(rows.values_list("event__kind", "event__reason"))


def test_a_file_that_fits_opens_nothing(savings):
    keep(savings, ACME="10")
    assert not Alert.objects.exists()


def test_a_difference_opens_one_alert_that_names_asset_and_quantity_and_resolves_when_it_fits(savings, acme):
    keep(savings, ACME="6", GONE="2.5")
    tasks.reconcile()
    alert = Alert.objects.get()
    assert (alert.kind, alert.owner, alert.subject, alert.subject_id) == (
        "reconciliation",
        savings.owner,
        "portfolio",
        savings.pk,
    )
    assert alert.summary == (
        "Portfolio Savings differs from broker.csv. At the end of 2024-12-30, "
        "ACME: 6 by the file, 10 here; GONE: 2.5 by the file, 0 here."
    )
    record(savings, sold(acme))
    tasks.reconcile()
    alert.refresh_from_db()
    assert alert.resolved_at is None
    keep(savings, ACME="6", now=NOW + timedelta(hours=1))
    alert.refresh_from_db()
    assert (alert.state, alert.resolution) == ("resolved", "positions_fit")
    assert events() == [("opened", "positions_differ"), ("resolved", "positions_fit")]


def test_a_correction_of_transactions_resolves_it(savings, acme):
    keep(savings, ACME="6")
    record(savings, sold(acme))
    tasks.reconcile()
    assert Alert.objects.get().state == "resolved"
    assert Reconciliation.objects.get().deviations == []


def test_a_file_that_fitted_opens_an_alert_when_transactions_change(savings, acme):
    keep(savings, ACME="10")
    record(savings, sold(acme))
    tasks.reconcile()
    assert "ACME: 10 by the file, 6 here" in Alert.objects.get().summary


def test_what_happens_after_the_day_of_the_file_does_not_count(savings, acme):
    record(savings, sold(acme, "2024-12-31"))
    split_of(acme, "2024-12-31", 2, 1)
    keep(savings, ACME="10")
    assert not Alert.objects.exists()


@pytest.mark.parametrize("end", ["file", "portfolio"])
def test_what_is_deleted_ends_the_alert(savings, end):
    keep(savings, ACME="6")
    if end == "file":
        Reconciliation.objects.all().delete()
    else:
        delete_portfolio(portfolio=savings)
    tasks.reconcile()
    assert Alert.objects.get().state == "resolved"


def test_an_alias_is_the_asset(savings, acme):
    acme.aliases.create(name="ACM")
    keep(savings, ACM="4", ACME="6")
    assert not Alert.objects.exists()


def test_of_one_subject_one_alert_is_open(savings):
    keep(savings, ACME="6")
    alert = Alert.objects.get()
    alert.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        alert.save(force_insert=True)


def test_a_portfolio_that_fails_stops_no_other(savings, acme, monkeypatch, caplog):
    second = make_portfolio(savings.owner, "Second")
    keep(second, ACME="1")
    Alert.objects.all().delete()
    keep_positions(portfolio=savings, name="x", day=DAY, stated={}, now=NOW)

    def fails(portfolio_id, *, now):
        if portfolio_id == savings.pk:
            raise ArithmeticError
        return compare_again(portfolio_id, now=now)

    monkeypatch.setattr("apps.alerts.reconciliation.compare_again", fails)
    flow.reconcile()
    assert [one.subject_id for one in Alert.objects.all()] == [second.pk]
    assert "portfolio failed" in caplog.text
