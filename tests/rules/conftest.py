"""What tests of rules share."""

from collections.abc import Iterator

import pytest

from tests.rules.sources import BOTH, running


@pytest.fixture(scope="module", params=BOTH)
def each_engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests of a module with the compiled engine, then with the one of Python."""
    with running(request.param):
        yield
