"""The portfolio of the demo."""

from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.pipeline.demo_portfolio import own_something
from apps.pipeline.management.commands.demo import SETUP
from apps.setup.loading import load_setup, read_setup
from apps.tracing import new_trace_id
from tests.builders import make_owner
from tests.portfolios.rows import quote

pytestmark = pytest.mark.django_db


def test_the_demos_portfolio_is_worth_something_and_nothing_of_it_is_missing(client):
    ada = make_owner()
    load_setup(read_setup(SETUP), owner=ada, now=timezone.now(), trace_id=new_trace_id())
    portfolio = own_something(ada, now=timezone.now())
    position = portfolio.positions.get()
    assert (position.asset.symbol, position.quantity) == ("BTC-USD", Decimal("0.7"))
    quote(position.asset, "20000", at=timezone.now())
    client.force_login(ada)
    text = client.get(reverse("portfolio", args=[portfolio.pk])).text
    # 20000 - 10195.19 + 3947.45 - 8220.21 of cash, and 0.7 · 20000.
    assert "<dd>19\u202f532.05 USD</dd>" in text
    assert "not known" not in text
    assert "sold in fear" in text
