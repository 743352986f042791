"""The pages that list, add, correct and delete transactions."""

import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, Permission
from django.urls import reverse

from apps.portfolios.domain.transactions import Event, Kind, fields_of
from apps.portfolios.models import Transaction, TransactionChange
from apps.portfolios.services import correct_transaction
from apps.site.once import new_key
from apps.site.transaction_forms import ABOUT, WHATS
from tests.builders import make_owner
from tests.portfolios.rows import NOW, bought, columns, make_asset, make_portfolio, record, sold

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("acme")]
BUY = {"day": "2024-01-02", "asset": "acme", "quantity": "10", "amount": "1 000,50", "currency": "eur"}


@pytest.fixture
def ada(ada):
    ada.groups.add(Group.objects.get(name="Owner"))
    return ada


def address(portfolio, name="s", row=None):
    return reverse(f"portfolio_transaction{name}", args=[portfolio.pk, *([row.pk] if row is not None else [])])


def add(client, portfolio, what="buy", **fields):
    return client.post(f"{address(portfolio, '_add')}?what={what}", {"key": new_key()} | fields)


def errors(answer):
    """Return what stands beside each field of a form, and what beside none."""
    form = answer.context["form"]
    return {name: list(texts) for name, texts in form.errors.items()}


def test_a_transaction_is_recorded_as_people_type_it(client, savings, acme):
    answer = add(client, savings, **BUY, fee="2,5", time="14:30", notes="first")
    assert answer.url == address(savings)
    row = Transaction.objects.get()
    said = (row.kind, row.asset, row.quantity, row.amount, row.currency, row.fee, row.notes, row.has_time)
    assert said == ("buy", acme, 10, Decimal("1000.50"), "EUR", Decimal("2.5"), "first", True)
    assert row.at.isoformat() == "2024-01-02T14:30:00+00:00"
    text = client.get(answer.url).text
    assert "Recorded: buy of 2024-01-02." in text
    assert "1 transaction." in text
    assert f'href="{address(savings, "", row)}">2024-01-02</a>' in text
    # Another one of the same kind comes next.
    answer = add(client, savings, "sell", **BUY | {"quantity": "1", "day": "2024-02-01"}, another="1")
    assert answer.url == f"{address(savings, '_add')}?what=sell"
    assert Transaction.objects.count() == 2


def test_all_that_is_wrong_stands_beside_its_field_at_once(client, savings):
    wrong = {
        "day": "2024-13-02",
        "asset": "NONE",
        "quantity": "1.005",
        "amount": "ten",
        "currency": "QQQ",
        "fee": "-1",
        "fee_currency": "?",
        "rate": "1,005",
        "tax": "1.2.3",
    }
    answer = add(client, savings, **wrong)
    found = errors(answer)
    assert found.keys() == wrong.keys()
    assert found["quantity"] == ["1.005 can be read in two ways: write 1.0050 or 1005."]
    assert found["rate"] == ["1,005 can be read in two ways: write 1.0050 or 1005."]
    assert found["amount"] == ["ten is not a number; write it like 1000 or 0.995."]
    assert found["asset"][0].startswith("There is no asset NONE.")
    assert found["currency"][0].startswith("QQQ is not a known currency")
    assert found["fee"] == ["It must be 0 or more."]
    # What was typed stays.
    assert 'value="1.005"' in answer.text
    assert not Transaction.objects.exists()
    # What the service needs of a kind, and what it knows of the others, beside the fields too.
    assert errors(add(client, savings)).keys() == {"day", "asset", "quantity", "amount", "currency"}
    found = errors(add(client, savings, "sell", **BUY))
    assert found == {"quantity": ["Only 0 is held on 2024-01-02, so 10 cannot leave."]}
    assert errors(add(client, savings, **BUY | {"day": "2999-01-01"})).keys() == {"day"}
    assert not Transaction.objects.exists()


def test_what_a_field_is_described_by_is_on_the_page_and_a_wrong_field_is_not_folded_away(client, savings):
    folded = re.compile("<details( open)?>")
    assert folded.search(client.get(address(savings, "_add")).text)[1] is None
    text = add(client, savings, **BUY | {"quantity": "x"}, rate="0").text
    assert folded.search(text)[1] == " open"
    described = {one for names in re.findall(r'aria-describedby="([^"]*)"', text) for one in names.split()}
    assert described <= set(re.findall(r' id="([^"]*)"', text))
    assert {"id_quantity_error", "id_rate_error", "id_rate_helptext"} <= described
    assert "id_amount_error" not in described


def test_every_kind_has_a_form_with_its_fields_and_no_others(client, ada):
    with_cash = make_portfolio(ada, "Cash", tracks_cash=True)
    assert WHATS.keys() == ABOUT.keys() == {kind.value for kind in Kind if kind != Kind.EVENT} | {*map(str, Event)}
    always = {"key", "day", "time", "notes", "group_id"}
    for what in WHATS:
        form = client.get(f"{address(with_cash, '_add')}?what={what}").context["form"]
        kind, event = (Kind.EVENT, Event(what)) if what in list(Event) else (Kind(what), None)
        assert form.fields.keys() - always == fields_of(kind, event) - {"event"}, what
        assert all(field.help_text or name not in ("asset", "amount", "rate") for name, field in form.fields.items())
    # Without cash nothing is offered that needs it.
    without = make_portfolio(ada, "None")
    offered = client.get(address(without, "_add")).context["whats"]
    assert {what for what, _ in offered} == WHATS.keys() - {"deposit", "withdrawal", "conversion"}
    assert client.get(f"{address(without, '_add')}?what=deposit").context["what"] == "buy"


def test_a_transaction_of_each_kind_is_shown_in_its_form_as_it_was_recorded(client, ada, acme):
    bolt, other = make_asset("BOLT"), make_portfolio(ada, "Other", tracks_cash=True)
    cash = make_portfolio(ada, "Cash", tracks_cash=True)
    money = {"amount": "1.005", "currency": "EUR"}
    ratio = {"asset": acme, "numerator": 2, "denominator": 1}
    rows = record(
        cash,
        columns("2024-01-01", "delivery_in", asset=acme, quantity="100", **money, fee="1", fee_currency="USD")
        | {"acquired_at": datetime(2020, 5, 6, 7, 8, 9, tzinfo=UTC)},
        bought(acme) | {"at": datetime(2024, 1, 1, 7, 8, 9, 123456, tzinfo=UTC), "has_time": True},
        columns("2024-01-02", "conversion", **money, counter_amount="2", counter_currency="USD", rate="1"),
        columns("2024-01-03", "transfer", asset=acme, quantity="1.234", to_portfolio=other),
        columns("2024-01-04", "event", event="split", **ratio),
        columns("2024-01-05", "event", event="spin_off", **ratio, to_asset=bolt, cost_share="0.25"),
        columns("2024-01-06", "sell", asset=acme, quantity="1", **money, fee_asset=bolt, fee_quantity="1", fee="2"),
    )
    for row in rows:
        page = client.get(address(cash, "_correct", row))
        form = page.context["form"]
        given = {name: form[name].value() for name in form.fields}
        answer = client.post(address(cash, "_correct", row), {k: v for k, v in given.items() if v is not None})
        assert (answer.status_code, answer.url if answer.status_code == 302 else errors(answer)) == (
            302,
            address(cash, "", row),
        )
    # Nothing has changed, so nothing is kept.
    assert not TransactionChange.objects.exists()


def test_a_correction_keeps_who_when_and_what_it_was_on_its_page(client, savings, ada):
    add(client, savings, **BUY)
    row = Transaction.objects.get()
    bolt = make_asset("BOLT")
    assert "It was never corrected." in client.get(address(savings, "", row)).text
    answer = client.post(address(savings, "_correct", row), BUY | {"asset": "BOLT", "quantity": "5"}, follow=True)
    row.refresh_from_db()
    assert (row.asset, row.quantity) == (bolt, 5)
    assert "asset: ACME; quantity: 10" in " ".join(answer.text.split())
    assert f"<td>{ada.username}</td>" in answer.text
    # It may become another kind: what that does not have is empty then.
    record(savings, bought(bolt, day="2023-01-01"))
    dividend = {"day": "2024-01-02", "asset": "BOLT", "amount": "7", "currency": "EUR"}
    client.post(f"{address(savings, '_correct', row)}?what=dividend", dividend)
    row.refresh_from_db()
    assert (row.kind, row.quantity, row.amount) == ("dividend", None, 7)


def test_a_change_that_makes_another_transaction_wrong_is_refused_with_which_one(client, savings, acme):
    [buy, _] = record(savings, bought(acme), sold(acme))
    answer = client.post(address(savings, "_correct", buy), BUY | {"quantity": "3"})
    [said] = errors(answer)["__all__"]
    assert said.startswith("With this, the sell of 2024-02-01 (ACME) would be wrong.")
    answer = client.post(address(savings, "_delete", buy))
    assert "It is not deleted." in answer.text
    assert "the sell of 2024-02-01 (ACME) would be wrong" in answer.text
    assert Transaction.objects.count() == 2


def test_a_deleted_transaction_is_kept_in_the_list_with_what_it_was(client, savings, ada, acme):
    [row] = record(savings, bought(acme))
    assert "Delete: buy of 2024-01-02?" in client.get(address(savings, "_delete", row)).text
    assert Transaction.objects.exists()
    text = client.post(address(savings, "_delete", row), follow=True).text
    assert not Transaction.objects.exists()
    assert "Deleted: buy of 2024-01-02." in text
    assert "No transactions yet." in text
    assert f"<td>{ada.username}</td>" in text
    assert "kind: buy; " in text
    assert "asset: ACME; quantity: 10" in text
    assert client.get(address(savings, "", row)).status_code == 404


def test_the_list_has_pages_and_is_narrowed_by_each_field(client, savings, ada, acme):
    bolt = make_asset("BOLT")
    record(savings, *[bought(acme, notes=f"n{number}") for number in range(55)], sold(acme))
    record(savings, bought(bolt, day="2024-03-01", notes="gift"))

    def rows(query=""):
        page = client.get(f"{address(savings)}{query}")
        return page.context["page"].paginator.count, len(page.context["transactions"])

    assert (rows(), rows("?page=2"), rows("?page=x"), rows("?page=99")) == ((57, 50), (57, 7), (57, 50), (57, 7))
    assert 'rel="next"' in client.get(address(savings)).text
    assert rows("?what=sell") == (1, 1)
    assert rows("?asset=bolt") == (1, 1)
    assert rows("?since=2024-02-01&until=2024-02-28") == (1, 1)
    assert rows("?text=GIFT") == (1, 1)
    assert (rows("?currency=eur"), rows("?currency=usd")) == ((57, 50), (0, 0))
    assert rows("?what=buy&asset=acme&page=2") == (55, 5)
    assert "what=buy&amp;asset=acme&amp;page=1" in client.get(f"{address(savings)}?what=buy&asset=acme&page=2").text
    text = client.get(f"{address(savings)}?asset=NONE").text
    assert "No transaction matches the filter." in text
    # What cannot be read narrows nothing, and is said.
    answer = client.get(f"{address(savings)}?since=x&what=x")
    assert answer.context["page"].paginator.count == 57
    assert "From: Enter a valid date." in answer.text


def test_a_transfer_is_shown_in_both_portfolios_and_corrected_in_the_one_that_it_leaves(client, savings, ada, acme):
    other = make_portfolio(ada, "Other")
    [_, row] = record(
        savings, bought(acme), columns("2024-02-01", "transfer", asset=acme, quantity="1", to_portfolio=other)
    )
    text = client.get(address(other, "", row)).text
    assert f'href="{address(savings, "", row)}"' in text
    assert address(other, "_correct", row) not in text
    for name in ("_correct", "_delete"):
        assert client.get(address(other, name, row)).status_code == 404
        assert client.get(address(savings, name, row)).status_code == 200


def test_a_foreign_transaction_and_none_are_the_same(client, savings, acme):
    eve = make_owner("eve")
    theirs = make_portfolio(eve, "Hidden")
    [row] = record(theirs, bought(acme))
    [own] = record(savings, bought(acme))
    for name in ("s", "_add"):
        foreign, missing = (client.get(reverse(f"portfolio_transaction{name}", args=[pk])) for pk in (theirs.pk, 10**6))
        assert (foreign.status_code, foreign.content) == (404, missing.content)
    for name in ("", "_correct", "_delete"):
        view = f"portfolio_transaction{name}"
        for method in (client.get, client.post) if name else (client.get,):
            keys = (
                (theirs.pk, row.pk),
                (savings.pk, row.pk),
                (savings.pk, 10**6),
                (10**6, own.pk),
                (theirs.pk, own.pk),
            )
            answers = [method(reverse(view, args=key)) for key in keys]
            assert {(one.status_code, one.content) for one in answers} == {(404, answers[2].content)}
    # Nor is a portfolio of somebody else a target of a transfer.
    found = errors(add(client, savings, "transfer", **BUY, to_portfolio=theirs.pk))
    assert "Select a valid choice" in found["to_portfolio"][0]
    assert Transaction.objects.count() == 2


def test_each_page_needs_its_permission(client, savings, ada, acme):
    [row] = record(savings, bought(acme))
    ada.groups.clear()
    text = client.get(address(savings)).text
    assert "Add a transaction" not in text
    for name, of in (("_add", None), ("_correct", row), ("_delete", row)):
        assert [method(address(savings, name, of)).status_code for method in (client.get, client.post)] == [403, 403]
    assert client.get(address(savings, "", row)).status_code == 200
    for codename, name, of in (
        ("add", "_add", None),
        ("change", "_correct", row),
        ("delete", "_delete", row),
    ):
        ada.user_permissions.set([Permission.objects.get(codename=f"{codename}_transaction")])
        assert client.get(address(savings, name, of)).status_code == 200
    client.logout()
    for name, of in (("s", None), ("_add", None), ("", row), ("_correct", row), ("_delete", row)):
        assert client.get(address(savings, name, of)).status_code == 302


def test_an_empty_list_says_what_to_do_next(client, savings, ada):
    text = client.get(address(savings)).text
    assert f'href="{address(savings, "_add")}">Record your first purchase</a>' in text
    assert reverse("portfolio_import", args=[savings.pk]) in text
    ada.groups.clear()
    assert "ask whoever runs this site" in client.get(address(savings)).text


def test_the_pages_ask_as_much_for_many_transactions_as_for_few(client, savings, acme, django_assert_max_num_queries):
    rows = record(savings, *[bought(acme) for _ in range(60)])
    for _ in range(3):
        for number in (1, 2):
            given = {"row": rows[0], "columns": {"quantity": Decimal(number)}, "by": None, "now": NOW}
            correct_transaction(**given)
    for where in (address(savings), address(savings, "", rows[0])):
        with django_assert_max_num_queries(12):
            assert client.get(where).status_code == 200
