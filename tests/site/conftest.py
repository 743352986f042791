"""What tests of several pages share. A module that needs more, such as permissions, overrides it."""

import pytest

from tests.builders import make_owner
from tests.site.oidc_provider import CLIENT, SECRET, provider_running


@pytest.fixture
def ada(client):
    """Return a user who is signed in."""
    ada = make_owner()
    client.force_login(ada)
    return ada


@pytest.fixture(scope="module")
def running():
    with provider_running() as provider:
        yield provider


@pytest.fixture
def provider(running, settings):
    """The provider, as it is in the beginning, and the site's settings for it."""
    running.begin_anew()
    settings.OIDC_ISSUER = running.issuer
    settings.OIDC_NAME = "Example ID"
    settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = CLIENT, SECRET
    settings.OIDC_MATCH_EMAIL, settings.PASSWORD_SIGN_IN = False, True
    settings.SITE_URL = "http://testserver"
    settings.OUTBOUND_ALLOW = []
    return running
