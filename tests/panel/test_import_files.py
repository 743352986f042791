"""The owners' page of files of transactions that wait to be confirmed."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.portfolios.importing import keep_file
from apps.portfolios.models import ImportFile
from tests.builders import make_operator

pytestmark = pytest.mark.django_db
LIST = "/admin/portfolios/importfile/"
HEADER = b"account,date,symbol,currency,price,quantity,type\n"
ROWS = b"MINE,2024-01-02,ACME,EUR,1,1,BUY\nMINE,soon,ACME,EUR,1,1,BUY\n"


@pytest.fixture
def ada(client):
    ada = make_operator("ada")
    ada.groups.set([Group.objects.get(name="Owner")])
    client.force_login(ada)
    return ada


def keep(owner, content=HEADER + ROWS, *, now=None):
    keep_file(owner=owner, name="mine.csv", content=content, now=now or timezone.now())


def page(owner):
    return f"{LIST}{ImportFile.objects.get(owner=owner).pk}/change/"


def test_without_a_file_the_list_says_where_one_comes_from(client, ada):
    assert "No file waits." in client.get(LIST).text


def test_a_file_is_shown_with_who_when_how_it_is_read_and_its_end(client, ada):
    keep(ada)
    listed, shown = client.get(LIST).text, client.get(page(ada)).text
    for text in (listed, shown):
        assert "mine.csv" in text
        assert "Waits to be confirmed" in text
    assert "MINE" in shown
    assert "soon" in shown
    with CaptureQueriesContext(connection) as asked:
        client.get(LIST)
    assert not [one for one in asked.captured_queries if '"content"' in one["sql"]]


def test_an_expired_file_and_one_that_cannot_be_read_say_so(client, ada):
    keep(ada, b"nothing", now=timezone.now() - timedelta(days=2))
    assert "Expired: nobody confirmed it" in client.get(LIST).text
    assert "It cannot be read" in client.get(page(ada)).text


def test_its_owner_deletes_it(client, ada):
    keep(ada)
    keep_file(owner=ada, name="sent.csv", content=HEADER, now=timezone.now(), is_by_api=True)
    listed = client.get(LIST).text
    assert "Waits to be confirmed by the API." in listed
    client.post(f"{LIST}{ImportFile.objects.get(is_by_api=False).pk}/delete/", {"post": "yes"})
    assert [one.name for one in ImportFile.objects.all()] == ["sent.csv"]
