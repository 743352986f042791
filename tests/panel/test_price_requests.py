"""The operators' page of what owners ask for."""

from datetime import date

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.portfolios.models import PriceRequest
from tests.builders import make_operator, make_owner
from tests.portfolios.rows import close, make_asset

pytestmark = pytest.mark.django_db
LIST = "/admin/portfolios/pricerequest/"


@pytest.fixture
def grace(client):
    grace = make_operator("grace")
    grace.groups.add(Group.objects.get(name="Operator"))
    client.force_login(grace)
    return grace


def ask(symbol, owner=None, since=date(2024, 1, 2)):
    owner = owner or make_owner(f"asks for {symbol}"[:20])
    return PriceRequest.objects.create(owner=owner, symbol=symbol, since=since, asked_at=timezone.now())


def test_a_request_says_what_to_do_and_not_who_asks(client, grace):
    ada = make_owner("adalovelace")
    close(make_asset("LATE"), "2024-03-01", "1")
    close(make_asset("GOOD"), "2024-01-01", "1")
    make_asset("BARE")
    rows = [ask(symbol, ada) for symbol in ("GONE", "LATE", "GOOD", "BARE", "A; rm x")]
    text = client.get(LIST).text
    assert "Add an asset GONE with a feed and a listing" in text
    assert "Its prices begin on 2024-03-01. Fetch its past: manage.py backfill LATE --from 2024-01-02" in text
    assert "It has no prices yet. Fetch its past: manage.py backfill BARE --from 2024-01-02" in text
    assert "Nothing: it has these prices. Delete the request." in text
    # What a file calls an asset may be pasted into a shell.
    assert "manage.py backfill &#x27;A; rm x&#x27; --from" in text
    texts = [text, *(client.get(f"{LIST}{row.pk}/change/").text for row in rows)]
    assert [one for one in texts if "adalovelace" in one] == []


def test_a_list_costs_the_same_however_long(client, grace):
    ask("ONE")
    with CaptureQueriesContext(connection) as few:
        client.get(LIST)
    for number in range(5):
        ask(f"MORE{number}")
    with CaptureQueriesContext(connection) as many:
        client.get(LIST)
    assert len(few) == len(many)


def test_an_owner_sees_no_requests(client):
    ada = make_operator("ada")
    ada.groups.set([Group.objects.get(name="Owner")])
    client.force_login(ada)
    assert client.get(LIST).status_code == 403


def test_who_has_answered_deletes_it(client, grace):
    row = ask("GONE")
    client.post(f"{LIST}{row.pk}/delete/", {"post": "yes"})
    assert not PriceRequest.objects.exists()
