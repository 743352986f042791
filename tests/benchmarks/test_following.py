"""Rules that follow their assets: the cost of a sweep with nothing to follow, and after a change, beside one statement
that asks for nothing. One run, ratios."""

import time

import pytest
from django.db import connection

from apps.market.models import Asset
from apps.rules import services
from tests import builders
from tests.benchmarks.sizes import FOLLOWING_RULES, FOLLOWING_RUNS
from tests.benchmarks.timing import milliseconds

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db]


def follow():
    return services.follow_assets(now=builders.START, trace_id=builders.TRACE)


def ask_for_nothing():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_rules_that_choose_by_feed_with_nothing_to_follow(settings):
    settings.RULES_PER_OWNER = FOLLOWING_RULES
    builders.make_feed("A", "B", name="chosen")
    builders.make_feed("C", name="other")
    owner = builders.make_owner()
    for number in range(FOLLOWING_RULES):
        builders.make_rule(owner, name=f"rule {number}", assets={"feed": "chosen"}, condition=builders.above(100))
    follow()

    nothing = milliseconds(ask_for_nothing, runs=FOLLOWING_RUNS)
    idle = milliseconds(follow, runs=FOLLOWING_RUNS)
    Asset.objects.filter(symbol="C").update(tags=["new"])
    began = time.monotonic()
    assert follow() == 0
    changed = (time.monotonic() - began) * 1_000
    print(f"\n  {FOLLOWING_RULES:,} rules that choose by feed")
    print(f"  nothing changed     {idle:>10.2f} ms   = {idle / nothing:.1f} x SELECT 1")
    print(f"  an asset changed    {changed:>10.2f} ms   = {changed * 1_000 / FOLLOWING_RULES:.0f} µs per rule")
