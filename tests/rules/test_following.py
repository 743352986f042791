"""Rules that follow changes of assets, and what that costs."""

import pytest

from apps.market import queries as market
from apps.market.models import Asset, Feed, FeedEntry
from apps.rules import services
from tests.builders import START, TRACE, above, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db


def test_nothing_changed_costs_one_statement_however_many_rules_there_are(django_assert_num_queries):
    make_feed("OLD")
    owner = make_owner()
    for number in range(20):
        make_rule(owner, name=f"rule {number}", assets={"feed": "feed"}, condition=above(100))
    services.follow_assets(now=START, trace_id=TRACE)

    with django_assert_num_queries(1):
        assert services.follow_assets(now=START, trace_id=TRACE) == 0


def test_rules_that_have_nothing_to_follow_cost_no_statement_each(django_assert_num_queries):
    feed = make_feed("OLD")
    owner = make_owner()
    for number in range(20):
        make_rule(owner, name=f"rule {number}", assets={"feed": "feed"}, condition=above(100))
    services.follow_assets(now=START, trace_id=TRACE)
    Asset.objects.create(symbol="ELSEWHERE")

    # The marks, three of rules and assets, and the marks deleted.
    with django_assert_num_queries(5):
        assert services.follow_assets(now=START, trace_id=TRACE) == 0
    assert FeedEntry.objects.filter(feed=feed).count() == 20


@pytest.mark.parametrize(
    "change",
    [
        lambda feed: Asset.objects.create(symbol="NEW", feed=feed),
        lambda feed: Asset.objects.bulk_create([Asset(symbol="NEW", feed=feed)]),
        lambda feed: Asset.objects.filter(symbol="OLD").delete(),
        lambda feed: Asset.objects.filter(symbol="OLD").update(feed=None),
        lambda feed: Feed.objects.filter(pk=feed.pk).update(name="another"),
    ],
    ids=["created", "created in bulk", "deleted", "updated", "feed renamed"],
)
def test_a_change_of_assets_is_followed_whoever_made_it(change):
    feed = make_feed("OLD")
    make_rule(make_owner(), assets={"feed": "feed"}, condition=above(100))
    services.follow_assets(now=START, trace_id=TRACE)
    change(feed)

    assert [services.follow_assets(now=START, trace_id=TRACE) for _ in range(2)] == [1, 0]


def test_many_selectors_choose_what_each_would_alone():
    feed = make_feed("A", "B")
    Asset.objects.create(symbol="C", tags=["peg", "peg"])
    Asset.objects.filter(symbol="A").update(tags=["peg"])
    index = market.AssetIndex()
    selectors = [{"symbols": ["B", "A", "A", "NONE"]}, {"symbols": []}, {"tag": "peg"}, {"tag": "none"}]
    selectors += [{"feed": feed.name}, {"feed": "none"}]

    assert [index.chosen(**one) for one in selectors] == [market.assets_chosen(**one) for one in selectors]
