"""The inbox: delivered by being delivered."""

import pytest

from apps.notify.transports.inbox import Inbox
from apps.notify.transports.protocol import ChannelInvalid, Receipt, RenderedMessage
from apps.notify.transports.registry import TRANSPORTS, transport_named

RENDERED = RenderedMessage(id="1", subject="Peg: USDC-USD", text="It broke.", url="https://fintech.example/message/1")


def test_an_inbox_has_nothing_to_set():
    assert Inbox().validate({}) == {}
    with pytest.raises(ChannelInvalid, match="unknown setting 'to'; a channel of kind inbox has nothing"):
        Inbox().validate({"to": "ada@example.org"})


def test_nothing_in_an_inbox_waits_for_others():
    assert Inbox().defaults.group_wait_seconds == 0


def test_sending_says_that_it_is_there():
    assert transport_named("inbox").send(RENDERED, {}) == Receipt("in the inbox")
    assert Inbox().preview(RENDERED, {}) == "Peg: USDC-USD\n\nIt broke."


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ChannelInvalid) as refusal:
        transport_named("pigeon")

    assert str(refusal.value) == f"unknown kind 'pigeon'; known are {', '.join(sorted(TRANSPORTS))}"
