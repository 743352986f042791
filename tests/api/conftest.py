"""What every test of the API shares."""

import pytest

from tests.api.asking import asking_by
from tests.builders import make_member


@pytest.fixture(autouse=True)
def _no_redis(settings):
    """Prices come from the rows: a Redis may still hold those of another test's assets."""
    settings.REDIS_URL = ""


@pytest.fixture(autouse=True)
def _closed_market(settings):
    """The market is for those who are signed in, unless a test opens it."""
    settings.MARKET_IS_PUBLIC = False


@pytest.fixture
def ada():
    """Return somebody who may do what owners may."""
    return make_member("ada")


@pytest.fixture
def ask(client):
    """Return a function that posts a query, as the client's user, and returns the response."""
    return asking_by(client)
