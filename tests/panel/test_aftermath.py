"""What happened after, on the pages of alerts and rules."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse

from apps.alerts.models import Alert
from apps.backtests.models import BacktestRun
from apps.market.queries import Later
from apps.market.services import roll_up
from apps.panel.aftermath import describe_all, describe_change
from apps.pipeline.flow import evaluate_pending
from tests.builders import above, append_quotes, at, make_backtest, make_feed, make_rule


def later(*percents):
    return [Later(Decimal(1), Decimal(one), Decimal(one)) for one in percents]


def test_changes_have_a_sign_and_a_unit():
    assert describe_change(Later(Decimal(1), Decimal("-0.5"), None)) == "−0.5"
    assert [describe_change(one) for one in later(2, -3, 0)] == ["+2 %", "−3 %", "the same"]


def test_many_are_summed_up():
    assert describe_all(later(3, 1, -1)) == "higher in 2 of 3, lower in 1; the median change is +1 %"
    assert describe_all([Later(Decimal(1), Decimal(2), None)]) == "higher in 1 of 1, lower in 0"
    assert describe_all([Later(why_unknown="not yet")]) == describe_all([]) == "not known yet"


@pytest.mark.django_db
def test_an_alert_and_its_rule_say_what_the_price_did_later(admin_client, admin_user):
    feed = make_feed("BTC-USD", jump_percent=0)
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    for seconds, price in ((0, "9"), (1, "12"), (200, "15"), (3_000, "6"), (4_000, "6")):
        append_quotes(feed, [("BTC-USD", at(seconds), price)])
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass
    run = make_backtest(admin_user, rule)
    openings = [
        {"asset": "BTC-USD", "opened_at": at(second).isoformat(), "price": "10", "summary": ""} for second in (1, 2)
    ]
    BacktestRun.objects.filter(pk=run.pk).update(result={"openings": openings})
    # Another form of the rule, tried earlier, is not summed up with it.
    other = {"document": {"other": 1}, "requested_at": at(0) - timedelta(days=1), "result": {"openings": openings * 3}}
    BacktestRun.objects.create(owner=admin_user, rule=rule, status="done", since=at(0), until=at(9), **other)

    alert = Alert.objects.get()
    page = admin_client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))
    tables = {table.title: table for table in page.context["tables"]}
    assert [row[2:] for row in tables["What happened after"].rows] == [
        ["15", "+25 %"],
        ["6", "−50 %"],
        ["not yet", ""],
        ["not yet", ""],
    ]
    assert not tables["What happened after"].is_folded
    assert tables["What the rule saw when it opened"].rows == [["✓ BTC-USD is above 10", "the price is 12"]]

    page = admin_client.get(reverse("admin:rules_rule_change", args=[rule.pk]))
    tables = {table.title: table for table in page.context["tables"]}
    assert [row[1] for row in tables["What happened after the last 1 alert"].rows] == [
        "higher in 1 of 1, lower in 0; the median change is +25 %",
        "higher in 0 of 1, lower in 1; the median change is −50 %",
        *2 * ["not known yet"],
    ]
    assert [row[1] for row in tables["What happened after the last 2 openings in backtests"].rows][:2] == [
        "higher in 2 of 2, lower in 0; the median change is +50 %",
        "higher in 0 of 2, lower in 2; the median change is −40 %",
    ]
