"""The page of the drift from a target allocation."""

import re

import pytest
from django.urls import reverse

from apps.market.services import create_manual_asset
from tests.builders import make_owner
from tests.portfolios.rows import bought, close, make_asset, make_portfolio, record
from tests.site.test_portfolios import cells

pytestmark = pytest.mark.django_db


@pytest.fixture
def savings(client):
    """Half in ACME and half in BOLT on 1 January; ACME is then worth 3 of 4 parts twice."""
    ada = make_owner()
    client.force_login(ada)
    acme, bolt = make_asset("ACME"), make_asset("BOLT")
    close(bolt, "2024-01-01", "100")
    for day, price in (("01", "100"), ("02", "300"), ("03", "310"), ("04", "100"), ("05", "300")):
        close(acme, f"2024-01-{day}", price)
    portfolio = make_portfolio(ada)
    record(portfolio, bought(acme, "2024-01-01"), bought(bolt, "2024-01-01"))
    return portfolio


def drift(client, portfolio, **query):
    period = {"from": "2024-01-01", "to": "2024-01-05"}
    return client.get(reverse("portfolio_drift", args=[portfolio.pk]), period | query).text


def sentence(text):
    return re.search(r"<b>(.*?)</b>(.*?)</p>", text, re.DOTALL).groups()


def test_the_drift_from_the_first_day_and_from_a_target(client, savings):
    text = drift(client, savings)
    assert sentence(text) == (
        "Drift over 5 points would have notified you 2 times",
        " from 2024-01-01 to 2024-01-05, from the shares of the first day.",
    )
    assert cells(text) == [["2024-01-05", "BOLT", "25 %"], ["2024-01-02", "BOLT", "25 %"]]
    assert cells(text, 1) == [["ACME", "50 %", "75 %"], ["BOLT", "50 %", "25 %"]]
    text = drift(client, savings, target="acme 75, BOLT 20%", points="4.9")
    # 5 points of cash are missing on each day.
    assert sentence(text)[0] == "Drift over 4.9 points would have notified you 1 time"
    assert cells(text, 1) == [["ACME", "75 %", "75 %"], ["BOLT", "20 %", "25 %"], ["cash", "5 %", "0 %"]]
    assert sentence(drift(client, savings, points="30"))[0] == "Drift over 30 points would have notified you 0 times"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"target": "ACME"}, "Write each asset with its share in percent"),
        ({"target": "NONE 5"}, "There is no asset NONE."),
        ({"target": "ACME many"}, "many is not a number."),
        ({"target": "ACME 1e99"}, "1e99 is not a number."),
        ({"target": "ACME 60, BOLT 50"}, "100 % together at most"),
        ({"target": "ACME -1"}, "Shares are 0 or more"),
        ({"points": "0"}, "Points must be a number above 0"),
        ({"points": "NaN"}, "NaN is not a number."),
    ],
)
def test_what_is_no_target_is_said(client, savings, query, said):
    assert said in drift(client, savings, **query)


def test_a_portfolio_without_days_and_a_foreign_one(client, savings):
    empty = make_portfolio(savings.owner, "Empty")
    assert "There is nothing to show of these days." in drift(client, empty)
    theirs = make_portfolio(make_owner("eve"), "EVES")
    foreign, missing = (client.get(reverse("portfolio_drift", args=[pk])) for pk in (theirs.pk, theirs.pk + 1000))
    assert (foreign.status_code, foreign.content) == (404, missing.content)


def test_the_portfolios_page_says_how_often_it_would_have_notified(client, savings):
    address = reverse("portfolio_drift_sentence", args=[savings.pk])
    assert address in client.get(reverse("portfolio", args=[savings.pk])).text
    assert sentence(client.get(address).text)[0] == "Drift over 5 points would have notified you 2 times"
    empty = make_portfolio(savings.owner, "Empty")
    assert "no day yet" in client.get(reverse("portfolio_drift_sentence", args=[empty.pk])).text


def test_an_owners_own_asset_has_its_name_and_may_be_a_target(client, savings):
    house = create_manual_asset(owner_id=savings.owner_id, symbol="HOUSE", currency="EUR")
    close(house, "2024-01-01", "100")
    other = make_portfolio(savings.owner, "Other")
    record(other, bought(house, "2024-01-01"))
    assert ["HOUSE", "90 %", "100 %"] in cells(drift(client, other, target="HOUSE 90"), -1)
