"""Streams of quotes: no cursor names the feeds of owners."""

import pytest

from apps.market.queries import following
from tests.builders import append_owned, append_quotes, at, make_feed, make_owned, make_owner

pytestmark = pytest.mark.django_db


def test_a_place_has_the_installations_feeds_alone():
    feed, owned = make_feed("BTC-USD"), make_owned(make_owner(), "MINE")
    append_quotes(feed, [("BTC-USD", at(1), "1")])
    append_owned(owned, [("MINE", at(1), "1")])
    assert following.ends_of_logs() == {feed.pk: 1}
