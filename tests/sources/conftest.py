"""Fixtures of the tests of sources."""

import time
import uuid

import pytest
from pytest_httpserver import HTTPServer

from apps.market import cache
from apps.sources.providers import http
from apps.sources.providers.protocol import ProviderUnavailable
from apps.sources.providers.registry import PROVIDERS
from tests.sources.pairs import LIMITS
from tests.sources.scripted import Scripted


@pytest.fixture(autouse=True)
def _own_keys(monkeypatch):
    """Keep each test's latest quotes under keys of its own: a new run gives the same asset ids, and Redis remembers."""
    monkeypatch.setattr(cache, "_PREFIX", f"fintech:test:{uuid.uuid4().hex}:")


@pytest.fixture
def slow_server():
    """A server of the test's own: leaving it waits for a call that was cut, which the next test would see otherwise."""
    with HTTPServer() as server:
        yield server


@pytest.fixture
def slow_failure_of(slow_server, monkeypatch):
    """Return a function that fetches where each call takes 0.2 s, of 0.3 s for all, and returns the failure's reason.

    handler: answers each of the paths.
    """

    def fetch(provider, request, *, handler, paths):
        monkeypatch.setattr(http, "ANSWER_SECONDS", 0.3)

        def answer_slowly(call):
            time.sleep(0.2)
            return handler(call)

        for path in paths:
            slow_server.expect_request(path).respond_with_handler(answer_slowly)
        with pytest.raises(ProviderUnavailable) as caught:
            provider.fetch(request)
        return caught.value.reason

    return fetch


@pytest.fixture
def scripted(monkeypatch):
    """Return a live provider under the name `scripted`."""
    provider = Scripted()
    monkeypatch.setitem(PROVIDERS, "scripted", provider)
    return provider


@pytest.fixture
def first(monkeypatch):
    """Return the provider that is asked first."""
    provider = Scripted(slug="first", limits=LIMITS)
    monkeypatch.setitem(PROVIDERS, "first", provider)
    return provider


@pytest.fixture
def second(monkeypatch):
    """Return the provider that is asked next."""
    provider = Scripted(slug="second", limits=LIMITS)
    monkeypatch.setitem(PROVIDERS, "second", provider)
    return provider
