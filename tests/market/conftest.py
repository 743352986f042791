"""Fixtures of the market's tests."""

import uuid

import pytest

from apps.market import cache


@pytest.fixture(autouse=True)
def _own_keys(monkeypatch):
    """Keep each test's latest quotes under keys of its own: a new run gives the same asset ids, and Redis remembers."""
    monkeypatch.setattr(cache, "_PREFIX", f"fintech:test:{uuid.uuid4().hex}:")
