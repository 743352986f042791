"""Wake-ups by Redis: what is new is sent at once, and not when the reader looks by itself."""

import os
from decimal import Decimal

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from apps import wakeups
from apps.alerts.models import Alert
from apps.alerts.services import acknowledge
from apps.api.live import hub
from apps.api.tokens.services import create_token
from apps.market import cache
from tests.api.live.following import ALERTS, QUOTES, append, running
from tests.builders import at, make_feed, make_member, make_notified_alerts
from tests.rig import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

# Of this process: channels are of the whole server.
CHANNEL = f"fintech:test-of-wakeups:{os.getpid()}"
# That of the tests; conftest.py takes it out of the settings of each test.
REDIS_URL = django_settings.REDIS_URL
CLIENTS = (wakeups._client, cache._client, cache._script)


@pytest.fixture
def live(settings, monkeypatch):
    """Give the service, whose reader looks by itself every ten minutes, and hears this process alone."""
    settings.REDIS_URL = REDIS_URL
    monkeypatch.setattr(hub, "LOOK_EVERY_SECONDS", 600.0)
    monkeypatch.setattr(cache, "_SET_IF_NEWER", cache._SET_IF_NEWER.replace(wakeups.CHANNEL, CHANNEL))
    monkeypatch.setattr(cache, "_PREFIX", f"{CHANNEL}:")
    monkeypatch.setattr(wakeups, "CHANNEL", CHANNEL)
    for client in CLIENTS:
        client.cache_clear()
    with running() as service:
        assert wait_until(lambda: wakeups._client().pubsub_numsub(CHANNEL) == [(CHANNEL.encode(), 1)])
        yield service
        service.hub._listener.stopped.set()
        wakeups._wake()
    for client in CLIENTS:
        client.cache_clear()


@pytest.fixture
def ada():
    return make_member("ada")


@pytest.fixture
def token(ada):
    return create_token(owner=ada, name="follower")[1]


def test_a_new_price_wakes_the_reader(live, token):
    feed = make_feed("A")
    follower = live.follow(QUOTES, {"assets": ["A"]}, token=token)
    append(feed, [("A", at(1), "101")])
    newest = [(feed.assets.get().pk, at(1), Decimal(101))]
    assert cache.put_latest(newest, seconds_to_live=1, now=timezone.now())
    assert follower.data()["price"] == "101"


def test_a_step_of_an_alert_wakes_the_reader(live, ada, token):
    [alert] = make_notified_alerts(ada, 1)
    follower = live.follow(ALERTS, token=token)
    acknowledge(alerts=Alert.objects.filter(pk=alert.pk), by=ada, note="", now=timezone.now())
    kinds = iter(lambda: follower.data()["event"]["kind"], "ACKNOWLEDGED")
    assert set(kinds) <= {"OPENED"}
