"""What every benchmark runs in."""

import gc

import pytest


@pytest.fixture(autouse=True)
def _frozen_heap():
    """Keep the collector off what is loaded, as web and worker processes do when they start: else it would walk what
    pytest has collected in the middle of each measurement."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
