"""Fixtures of the tests of health."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.market import partitions
from tests.builders import START


@pytest.fixture(autouse=True)
def _days_ahead(request):
    """Have a partition for the day after each that a test goes by."""
    if request.node.get_closest_marker("django_db") is not None:
        request.getfixturevalue("db")
        days = {(moment + timedelta(days=1)).date() for moment in (START, START.replace(year=2027), timezone.now())}
        partitions.ensure(days)
