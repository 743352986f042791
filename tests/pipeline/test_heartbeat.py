"""Calls to HEARTBEAT_URL: once a minute, while work is done."""

import socket

import pytest

from apps.health.domain import Code, Finding, Level, Subject
from apps.health.models import Check
from apps.pipeline.heartbeat import ping_if_due
from tests.builders import START, at

pytestmark = pytest.mark.django_db


@pytest.fixture
def pinged(httpserver, settings):
    """Return a function that says how often the heartbeat was called."""
    httpserver.expect_request("/ping").respond_with_data("OK")
    settings.HEARTBEAT_URL = httpserver.url_for("/ping")
    return lambda: len(httpserver.log)


def test_it_is_called_once_a_minute(pinged):
    for second in (0, 10, 59):
        ping_if_due([], now=at(second))
    assert pinged() == 1
    ping_if_due([], now=at(60))
    assert pinged() == 2


def test_it_is_called_again_when_the_clock_was_set_back(pinged):
    ping_if_due([], now=at(0))
    ping_if_due([], now=at(-3_600))
    assert pinged() == 2


@pytest.mark.parametrize("code", [Code.NO_WORKER, Code.NOT_FETCHED, Code.NOT_EVALUATED, Code.CANARY_MISSED])
def test_it_is_not_called_while_no_work_is_done(pinged, code):
    ping_if_due([Finding(Subject.SYSTEM, 0, code, Level.STOPPED)], now=START)
    assert pinged() == 0


def test_a_channel_that_fails_does_not_stop_it(pinged):
    ping_if_due([Finding(Subject.CHANNEL, 1, Code.NOT_DELIVERED, Level.STOPPED)], now=START)
    assert pinged() == 1


def test_a_monitor_that_refuses_is_called_again_at_the_next_check(httpserver, settings):
    httpserver.expect_ordered_request("/ping").respond_with_data("no", status=503)
    httpserver.expect_ordered_request("/ping").respond_with_data("OK")
    settings.HEARTBEAT_URL = httpserver.url_for("/ping")
    ping_if_due([], now=at(0))
    assert not Check.objects.filter(pinged_at__isnull=False).exists()
    ping_if_due([], now=at(10))
    assert Check.objects.get().pinged_at == at(10)


def test_a_monitor_that_is_away_does_no_harm(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings.HEARTBEAT_URL = f"http://127.0.0.1:{port}/"
    ping_if_due([], now=START)
    assert not Check.objects.filter(pinged_at__isnull=False).exists()


def test_without_an_address_nothing_is_called(settings):
    settings.HEARTBEAT_URL = ""
    ping_if_due([], now=START)
    assert not Check.objects.exists()
