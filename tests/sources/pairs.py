"""Feeds of two providers."""

from apps.sources import services as sources
from apps.sources.models import FeedSource
from apps.sources.providers.protocol import Limits, ProviderUnavailable
from tests.builders import TRACE, at, make_feed

LIMITS = Limits(batch_size=100, shortest_interval_seconds=1)
DOWN = ProviderUnavailable("timeout")


def make_pair(*symbols, name="pair"):
    """Return a feed that asks `first`, then `second`."""
    feed = make_feed(*symbols, name=name, provider="first")
    options = {"base_url": "https://public.example"}
    feed.sources.update(options=options)
    FeedSource.objects.create(feed=feed, position=2, provider="second", options=options)
    return feed


def fetch(feed, seconds=0):
    return sources.fetch(feed_id=feed.pk, slot=at(seconds), now=at(seconds), trace_id=TRACE)
