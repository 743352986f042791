"""Fixtures of the providers' tests."""

import gzip

import pytest

from tests.servers import talking_servers
from tests.sources.providers.serving import read


@pytest.fixture
def serve():
    """Return a function that starts a server which gives each connection to `talk`, and returns its address."""
    with talking_servers(read) as start:
        yield lambda talk, *, scheme="http": f"{scheme}://127.0.0.1:{start(talk)}/quotes"


@pytest.fixture(scope="session")
def bomb():
    """Return few bytes that are 50 MB when they are unpacked."""
    return gzip.compress(b"[" + b" " * 50_000_000 + b"]")
