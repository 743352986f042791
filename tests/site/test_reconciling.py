"""The page that compares a file of positions with what is computed."""

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify.models import Notification
from apps.portfolios.models import Reconciliation
from tests.builders import make_owner
from tests.portfolios.rows import bought, make_asset, make_portfolio, record

pytestmark = pytest.mark.django_db


@pytest.fixture
def savings(client):
    ada = make_owner()
    ada.groups.add(Group.objects.get(name="Owner"))
    client.force_login(ada)
    portfolio = make_portfolio(ada)
    record(portfolio, bought(make_asset()))
    return portfolio


def upload(client, portfolio, text, day="2024-06-01"):
    file = SimpleUploadedFile("broker.csv", text.encode())
    return client.post(reverse("portfolio_reconcile", args=[portfolio.pk]), {"file": file, "day": day}, follow=True)


def test_a_file_is_compared_and_its_difference_opens_an_alert_at_once(client, savings):
    text = upload(client, savings, "symbol,quantity\nACME,7\nOTHER,1\n").text
    assert "broker.csv, at the end of 2024-06-01" in text
    assert text.count("No asset has this name.") == 1
    alert = Alert.objects.get()
    assert "ACME: 7 by the file, 10 here" in alert.summary
    assert Notification.objects.get().event.alert == alert
    text = upload(client, savings, "symbol,quantity\nACME,10\n").text
    assert "Nothing differs." in text
    assert "Older files" in text
    assert Alert.objects.get().state == "resolved"


@pytest.mark.parametrize(
    ("text", "day", "said"),
    [
        ("x,y\n1,2\n", "2024-06-01", "The file has no columns of symbols and quantities"),
        ("symbol,quantity\nACME,7\n", "2999-01-01", "It is in the future."),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_stored(client, savings, text, day, said):
    assert said in upload(client, savings, text, day).text
    assert not Reconciliation.objects.exists()


def test_a_foreign_portfolio_and_none_get_the_same_bytes(client, savings):
    theirs = make_portfolio(make_owner("eve"), "EVES")
    for method in ("get", "post"):
        ask = getattr(client, method)
        foreign, missing = (ask(reverse("portfolio_reconcile", args=[pk])) for pk in (theirs.pk, theirs.pk + 1000))
        assert (foreign.status_code, foreign.content) == (404, missing.content)


def test_who_may_not_upload_sees_the_page_without_the_form(client, savings):
    savings.owner.groups.clear()
    address = reverse("portfolio_reconcile", args=[savings.pk])
    assert 'type="file"' not in client.get(address).text
    assert client.post(address, {"day": timezone.now().date()}).status_code == 403
    assert not Reconciliation.objects.exists()
