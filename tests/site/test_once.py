"""A form of the site that is sent more than once creates once."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.signing import TimestampSigner
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import IdempotencyKey
from apps.accounts.services import IDEMPOTENCY_KEYS_KEPT, prune_idempotency_keys
from apps.portfolios.models import Transaction
from apps.site.once import new_key
from tests.builders import make_owner
from tests.portfolios.rows import make_portfolio
from tests.threads import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("acme")]
BUY = {"day": "2024-01-02", "asset": "acme", "quantity": "10", "amount": "1000", "currency": "eur"}


@pytest.fixture
def ada(ada):
    ada.groups.add(Group.objects.get(name="Owner"))
    return ada


def page_of(portfolio):
    return reverse("portfolio_transaction_add", args=[portfolio.pk])


def filled_in(client, portfolio, **fields):
    """Return what a browser sends of the form that it has got."""
    form = client.get(page_of(portfolio)).context["form"]
    return BUY | {"key": form["key"].value()} | fields


def refusals(answer):
    return answer.context["form"].non_field_errors()


@pytest.mark.parametrize("more", [{}, {"another": "1"}])
def test_the_second_time_leads_to_the_same_page_and_records_nothing(client, savings, more):
    form = filled_in(client, savings, **more)

    first, second = (client.post(page_of(savings), form) for _ in range(2))

    assert (first.status_code, first.url) == (second.status_code, second.url) == (302, first.url)
    assert Transaction.objects.count() == 1
    text = client.get(second.url).text
    assert "Recorded: buy of 2024-01-02." in text
    assert "This form was sent before, so nothing more was created." in text
    # A form of its own is another transaction, also where it says the same.
    client.post(page_of(savings), filled_in(client, savings))
    assert Transaction.objects.count() == 2


def test_what_is_no_longer_right_the_second_time_is_not_refused(client, savings):
    client.post(page_of(savings), filled_in(client, savings))
    form = filled_in(client, savings)
    address = f"{page_of(savings)}?what=sell"

    assert [client.post(address, form).status_code for _ in range(2)] == [302, 302]
    assert Transaction.objects.filter(kind="sell").count() == 1


def test_a_deleted_transaction_is_not_recorded_again_by_its_form(client, savings):
    form = filled_in(client, savings)
    client.post(page_of(savings), form)
    Transaction.objects.all().delete()

    assert client.post(page_of(savings), form).status_code == 302
    assert not Transaction.objects.exists()


@pytest.mark.parametrize("changed", ["quantity", "what", "portfolio"])
def test_something_else_in_the_same_form_is_recorded_only_once_it_is_sent_again(client, ada, savings, changed):
    form = filled_in(client, savings)
    client.post(page_of(savings), form)
    other = form | {"quantity": "11"} if changed == "quantity" else form
    place = page_of(make_portfolio(ada, "Other") if changed == "portfolio" else savings)
    place += "?what=delivery_in" if changed == "what" else ""

    answer = client.post(place, other)

    [why] = refusals(answer)
    assert why.startswith("This form was sent before with something else, which was recorded.")
    assert Transaction.objects.count() == 1
    again = other | {"key": answer.context["form"]["key"].value()}
    assert [client.post(place, again).status_code for _ in range(2)] == [302, 302]
    assert Transaction.objects.count() == 2


def test_a_form_that_was_refused_is_sent_again_with_its_key(client, savings):
    form = filled_in(client, savings, quantity="x")
    answer = client.post(page_of(savings), form)
    assert answer.context["form"]["key"].value() == form["key"]
    assert not IdempotencyKey.objects.exists()

    assert client.post(page_of(savings), form | {"quantity": "10"}).status_code == 302


def test_a_form_counts_as_long_as_what_it_created_is_known(client, savings, monkeypatch):
    form = filled_in(client, savings)
    client.post(page_of(savings), form)
    for after, is_known in ((timedelta(minutes=-1), True), (timedelta(minutes=1), False)):
        now = timezone.now() + IDEMPOTENCY_KEYS_KEPT + after
        prune_idempotency_keys(now=now)
        monkeypatch.setattr("django.core.signing.time.time", now.timestamp)
        answer = client.post(page_of(savings), form)
        assert (answer.status_code, IdempotencyKey.objects.exists()) == ((302, True) if is_known else (200, False))

    assert [why.partition(".")[0] for why in refusals(answer)] == ["This form is too old"]
    assert Transaction.objects.count() == 1
    assert client.post(page_of(savings), form | {"key": answer.context["form"]["key"].value()}).status_code == 302


@pytest.mark.parametrize(
    "key",
    [None, "", "x", "x:y:z", TimestampSigner(salt="other").sign("x"), "x" * 10_000],
    ids=["none", "empty", "a text", "like one", "of another kind", "long"],
)
def test_a_form_without_a_key_of_ours_records_nothing(client, savings, key):
    answer = client.post(page_of(savings), BUY if key is None else BUY | {"key": key})

    assert [why.partition(".")[0] for why in refusals(answer)] == ["This form is too old"]
    assert not Transaction.objects.exists()


def test_a_key_is_of_one_person(client, savings):
    form = BUY | {"key": new_key()}
    client.post(page_of(savings), form)
    eve = make_owner("eve")
    eve.groups.add(Group.objects.get(name="Owner"))
    client.force_login(eve)

    assert client.post(page_of(make_portfolio(eve)), form).status_code == 302
    assert Transaction.objects.count() == 2


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_double_click_records_once(client, ada, savings):
    form = filled_in(client, savings)

    def send():
        browser = Client()
        browser.cookies = client.cookies
        return browser.post(page_of(savings), form)

    first, second = at_once(send, send)

    assert (first.status_code, first.url) == (second.status_code, second.url) == (302, first.url)
    assert Transaction.objects.count() == 1
