"""Fixtures that every test shares."""

import os

import pytest
from django.conf import settings
from hypothesis import settings as hypothesis_settings

from apps.api import rates
from apps.api.graphql import limits
from apps.market import cache, partitions
from apps.rules import services as rules

# How long an example takes depends on what else the machine does; `make bench` is where speed is measured. The same
# examples each time: a run says something about the change, not about the day.
hypothesis_settings.register_profile("repeatable", deadline=None, derandomize=True)
# For a long look by hand, at other examples each time: HYPOTHESIS_PROFILE=thorough pytest tests/rules
hypothesis_settings.register_profile("thorough", deadline=None, max_examples=3_000)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_configure(config):
    """Give each process of pytest-xdist a Redis database of its own, as pytest-django gives it a database."""
    if hasattr(config, "workerinput") and settings.REDIS_URL:
        url, _, database = settings.REDIS_URL.rpartition("/")
        settings.REDIS_URL = f"{url}/{int(database) - int(config.workerinput['workerid'].removeprefix('gw'))}"


@pytest.fixture(autouse=True)
def _cold_process():
    """Begin each test as a process that has just started: no warm engine, no known partition, an empty cache."""
    rules._warm.clear()
    cache._local.clear()
    rates.forget()
    partitions.forget()
    yield


@pytest.fixture(autouse=True)
def _quick_passwords(settings):
    """Make users in no time: the real hash takes a third of a second on purpose."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def at_any_cost(monkeypatch):
    """Answer a GraphQL query for everything that hangs on a row, which costs more than is answered."""
    monkeypatch.setattr(limits, "COST", 10**9)
