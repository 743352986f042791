"""What tests of several pages share. A module that needs more, such as permissions, overrides it."""

import pytest

from tests.builders import make_owner
from tests.portfolios.rows import make_asset, make_portfolio


@pytest.fixture
def ada(client):
    """Return a user who is signed in."""
    ada = make_owner()
    client.force_login(ada)
    return ada


@pytest.fixture
def acme():
    return make_asset()


@pytest.fixture
def savings(ada):
    return make_portfolio(ada)
