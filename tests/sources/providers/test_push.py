"""The source of a feed whose quotes are sent in: asked like any other, it keeps the feed's clock going."""

from datetime import UTC, datetime

import pytest

from apps.market.models import FeedEntry, FeedHead
from apps.sources import services as sources
from apps.sources.providers import http
from apps.sources.providers.protocol import Answer, ProviderMisconfigured, QuoteRequest
from apps.sources.providers.push import Push
from tests.builders import TRACE, at, make_feed

NOW = datetime(2026, 3, 17, 16, 0, 1, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(http, "now", lambda: NOW)


def test_it_gives_no_quotes_and_the_time(clock):
    request = QuoteRequest(
        external_ids=["A"], slot=at(0), began_at=at(0), position=None, latest={}, interval_seconds=1, options={}
    )

    assert Push().fetch(request) == Answer(quotes=[], as_of=NOW)


def test_it_takes_how_often_a_push_is_expected():
    assert Push().validate_options({}) == {}
    assert Push().validate_options({"expect_every": "300s"}) == {"expect_every": "5m"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"base_url": "http://127.0.0.1/"}, "^push knows no option 'base_url'; it knows expect_every$"),
        ({"expect_every": 5}, "^expect_every must be a duration like 5m$"),
        ({"expect_every": "5 x"}, "^expect_every is not a duration; write it like 10s, 5m, 24h or 30d$"),
        ({"expect_every": "0s"}, "^expect_every must be from 1s to 400d$"),
    ],
)
def test_it_refuses_other_options(options, text):
    with pytest.raises(ProviderMisconfigured, match=text):
        Push().validate_options(options)


@pytest.mark.django_db
def test_a_feed_that_nobody_pushes_to_goes_on_in_time(clock):
    feed = make_feed("A", provider="push")

    sources.fetch(feed_id=feed.pk, slot=at(0), now=NOW, trace_id=TRACE)

    assert (FeedHead.objects.get().as_of, FeedEntry.objects.get().failure) == (NOW, "")
