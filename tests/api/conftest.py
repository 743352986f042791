"""What every test of the API shares."""

import json

import pytest
from django.core.serializers.json import DjangoJSONEncoder

from tests.api.asking import URL
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

    def post(query, variables=None, *, user=None, **headers):
        if user is not None:
            client.force_login(user)
        body = {"query": query} | ({"variables": variables} if variables is not None else {})
        return client.post(
            URL, json.dumps(body, cls=DjangoJSONEncoder), content_type="application/json", headers=headers
        )

    return post
