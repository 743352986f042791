"""The page that imports transactions."""

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from apps.portfolios.models import Transaction
from tests.builders import make_owner
from tests.portfolios.domain.test_ghostfolio import ROW, in_json
from tests.portfolios.rows import make_asset, make_portfolio

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client):
    ada = make_owner()
    ada.user_permissions.add(Permission.objects.get(codename="add_transaction"))
    client.force_login(ada)
    return ada


@pytest.fixture
def savings(ada):
    make_asset()
    return make_portfolio(ada)


def send(client, portfolio, content, **fields):
    file = SimpleUploadedFile("ghostfolio.json", content)
    return client.post(reverse("portfolio_import", args=[portfolio.pk]), {"file": file, "account": ""} | fields)


def test_to_look_records_nothing_and_shows_what_is_read(client, savings):
    text = send(client, savings, in_json(ROW, ROW), only_look="on").text
    assert "2 would be recorded, 0 were there already." in text
    assert "<td>2024-01-02 00:00</td><td>buy</td><td>ACME</td><td>Broker</td>" in text
    assert not Transaction.objects.exists()


def test_a_file_is_recorded_once(client, savings):
    assert "2 recorded, 0 were there already." in send(client, savings, in_json(ROW, ROW)).text
    assert "0 recorded, 2 were there already." in send(client, savings, in_json(ROW, ROW)).text
    assert Transaction.objects.filter(portfolio=savings).count() == 2


def test_wrong_rows_are_listed_and_nothing_is_recorded(client, savings):
    text = send(client, savings, in_json(ROW, ROW | {"symbol": "<b>"})).text
    assert "1 row is wrong, so nothing is recorded" in text
    assert "<td>2</td><td>symbol: there is no asset &lt;b&gt;; ask an operator to add it.</td>" in text
    assert not Transaction.objects.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "The file is no valid JSON."),
        (b"", "The submitted file is empty."),
        (b" " * 5_000_001, "The file has more than 5 MB; split it."),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_beside_its_field(client, savings, content, message):
    assert message in send(client, savings, content).text


def test_a_foreign_portfolio_is_none_and_who_may_add_nothing_imports_nothing(client, ada, savings):
    theirs = make_portfolio(make_owner("eve"))
    assert send(client, theirs, in_json(ROW)).status_code == 404
    ada.user_permissions.clear()
    assert send(client, savings, in_json(ROW)).status_code == 403
    assert client.get(reverse("portfolio_import", args=[savings.pk])).status_code == 403
    client.logout()
    assert send(client, savings, in_json(ROW)).status_code == 302
    assert not Transaction.objects.exists()
