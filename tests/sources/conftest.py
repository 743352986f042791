"""Fixtures of the tests of sources."""

import uuid

import pytest
from pytest_httpserver import HTTPServer

from apps.market import cache
from apps.sources.providers.registry import PROVIDERS
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
def scripted(monkeypatch):
    """Return a live provider under the name `scripted`."""
    provider = Scripted()
    monkeypatch.setitem(PROVIDERS, "scripted", provider)
    return provider
