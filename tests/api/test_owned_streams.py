"""Streams of quotes of assets that have an owner: they are followed by their owner alone, and no cursor of another
reader names their feeds."""

import pytest

from apps.api.errors import Refused
from apps.api.graphql.connections import place_of
from apps.api.graphql.context import Context
from apps.api.live.kinds import KINDS
from apps.market.models import Asset
from tests.builders import append_owned, append_quotes, at, make_feed, make_owned, make_owner

pytestmark = pytest.mark.django_db
QUOTES = KINDS["quoteUpdated"]


@pytest.fixture
def ada():
    return make_owner("ada")


@pytest.fixture
def feed():
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(1), "1")])
    return feed


@pytest.fixture
def mine(ada):
    feed = make_owned(ada, "MINE", "OTHER")
    append_owned(feed, [("MINE", at(1), "1")])
    return feed


def wanted(user, *names):
    return QUOTES.wanted({"assets": names}, Context(user=user))


def updates(user, assets, *, after):
    """Return what a reader is sent behind a place."""
    context, end = Context(user=user), QUOTES.end()
    rows, reached = QUOTES.between(after, end, wanted=assets, now=at(9), limit=100)
    assert reached == end
    return list(QUOTES.updates(rows, after=after, reached=reached, wanted=assets, context=context))


def test_an_owner_follows_their_own_asset_by_symbol_and_by_id(ada, feed, mine):
    series = Asset.every.get(symbol="MINE")
    assert wanted(ada, "MINE") == wanted(ada, series.external_id) == {series.pk}
    found = updates(ada, wanted(ada, "MINE", "BTC-USD"), after={})
    assert [(one.root.asset.symbol, str(one.root.price.normalize())) for one in found] == [
        ("MINE", "1"),
        ("BTC-USD", "1"),
    ]


def test_nobody_else_follows_it_not_even_a_superuser(feed, mine, admin_user):
    series = Asset.every.get(symbol="MINE")
    for user in (make_owner("eve"), admin_user):
        for name in ("MINE", series.external_id):
            with pytest.raises(Refused) as raised:
                wanted(user, name)
            assert str(raised.value) == f"No asset is called {name}."


def test_a_cursor_names_the_feeds_of_the_installation_and_of_what_is_followed(ada, feed, mine):
    make_owned(ada, "APART")
    eve = make_owner("eve")
    for user, names, feeds in ((ada, ["MINE"], {feed.pk, mine.pk}), (eve, ["BTC-USD"], {feed.pk})):
        found = updates(user, wanted(user, *names), after=dict.fromkeys(QUOTES.end(), 0))
        place = place_of(found[-1].cursor, name=QUOTES.name, context=Context(user=user))
        assert {int(one) for one in place} == feeds


def test_who_goes_on_from_a_cursor_misses_nothing_of_their_asset(ada, feed, mine):
    assets = wanted(ada, "MINE")
    [first] = updates(ada, assets, after={})
    append_owned(mine, [("MINE", at(2), "2")])
    append_owned(mine, [("OTHER", at(2), "3")])
    place = QUOTES.place(first.cursor, end=QUOTES.end(), context=Context(user=ada))
    [second] = updates(ada, assets, after=place)
    assert second.root.price == 2
    assert QUOTES.missed(place, QUOTES.end(), wanted=assets, context=Context(user=ada), before=at(0)) == (False, 1)


def test_what_an_older_cursor_does_not_name_is_followed_from_now_on(ada, feed, mine):
    [update] = updates(ada, wanted(ada, "BTC-USD"), after={})
    place = QUOTES.place(update.cursor, end=QUOTES.end(), context=Context(user=ada))
    assert updates(ada, wanted(ada, "MINE"), after=place) == []
    append_owned(mine, [("MINE", at(2), "2")])
    assert [one.root.price for one in updates(ada, wanted(ada, "MINE"), after=place)] == [2]


def test_logs_of_owners_are_read_for_nobody_who_does_not_follow_them(ada, feed, mine, django_assert_num_queries):
    assets = wanted(ada, "BTC-USD")
    end = QUOTES.end()
    with django_assert_num_queries(3):
        rows, _ = QUOTES.between({}, end, wanted=assets, now=at(9), limit=1)
    assert [row.feed_id for row in rows] == [feed.pk]
