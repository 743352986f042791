"""One feed, one owner, one channel, one rule."""

import pytest

from apps.notify import services
from apps.notify.transports.registry import TRANSPORTS
from tests.builders import above, make_feed, make_owner, make_rule
from tests.notify.notifying import FakeTransport


@pytest.fixture
def outside(monkeypatch):
    transport = FakeTransport()
    monkeypatch.setitem(TRANSPORTS, "fake", transport)
    return transport


@pytest.fixture
def feed():
    return make_feed("BTC-USD")


@pytest.fixture
def owner():
    return make_owner()


@pytest.fixture
def channel(outside, owner):
    return services.create_channel(owner=owner, name="Fake", kind="fake", config={})


@pytest.fixture
def rule(feed, owner, channel):
    rule = make_rule(owner, name="Peg", assets=["BTC-USD"], condition=above(100))
    services.set_channels(rule=rule, channels=[channel])
    return rule
