"""The inbox: delivered by being delivered."""

import pytest

from apps.notify.transports.inbox import Inbox
from apps.notify.transports.protocol import ChannelInvalid, Letter
from apps.notify.transports.registry import transport_named


def test_an_inbox_has_nothing_to_set():
    assert Inbox().validate_config({}) == {}
    with pytest.raises(ChannelInvalid, match="an inbox takes no to"):
        Inbox().validate_config({"to": "ada@example.org"})


def test_sending_says_that_it_is_there():
    assert transport_named("inbox").send(Letter(id="1", subject="s", text="t"), {}) == "in the inbox"


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ChannelInvalid, match="unknown kind 'pigeon'; known are email, inbox"):
        transport_named("pigeon")
