"""Fixtures of the providers' tests."""

import pytest

from tests.servers import talking_servers
from tests.sources.providers.serving import read


@pytest.fixture
def serve():
    """Return a function that starts a server which gives each connection to `talk`, and returns its address."""
    with talking_servers(read) as start:
        yield lambda talk, *, scheme="http": f"{scheme}://127.0.0.1:{start(talk)}/quotes"
