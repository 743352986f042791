"""The pages of portfolios and of their transactions."""

import re
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from apps.portfolios.models import LotCopy, Portfolio, Position, Transaction, TransactionChange
from apps.portfolios.services import correct_transaction
from apps.site.once import new_key
from tests.builders import make_operator, make_owner
from tests.portfolios.rows import bought, close, columns, make_asset, make_portfolio, record, sold, split_of

pytestmark = pytest.mark.django_db

MAY = [
    *(
        f"portfolios.{verb}_{row}"
        for row in ("portfolio", "transaction")
        for verb in ("view", "add", "change", "delete")
    ),
    "market.view_asset",
]


@pytest.fixture
def ada(client):
    ada = make_operator("ada", *MAY)
    client.force_login(ada)
    return ada


def page(row, name="change"):
    return reverse(f"admin:portfolios_{row._meta.model_name}_{name}", args=[row.pk])


def posted(portfolio, asset, **fields):
    """Return what a browser posts: a purchase."""
    empty = dict.fromkeys(
        [
            *("event", "rate", "fee_currency", "fee_asset", "fee_quantity", "tax_currency", "counter_amount"),
            *("counter_currency", "acquired_at_0", "acquired_at_1", "to_portfolio", "to_asset", "numerator"),
            *("denominator", "cost_share", "notes", "group_id", "external_id"),
        ],
        "",
    )
    given = {"portfolio": portfolio.pk, "kind": "buy", "at_0": "2024-01-02", "at_1": "09:30:00", "has_time": "on"}
    given |= {"asset": asset.pk, "quantity": "10", "amount": "1000", "currency": "EUR", "fee": "0", "tax": "0"}
    given |= {"key": new_key()}
    return empty | given | fields


def errors_of(answer):
    return {name: list(texts) for name, texts in answer.context["adminform"].form.errors.items()}


def add(client, portfolio, asset, **fields):
    return client.post(reverse("admin:portfolios_transaction_add"), posted(portfolio, asset, **fields))


def test_a_portfolio_is_made_and_changed(client, ada):
    given = {"owner": ada.pk, "name": "Savings", "base_currency": "EUR", "method": "fifo", "tracks_cash": "on"}
    assert client.post(reverse("admin:portfolios_portfolio_add"), given).status_code == 302
    made = Portfolio.objects.get()
    assert (made.owner, made.tracks_cash) == (ada, True)
    changed = {"name": "Old age", "base_currency": "USD", "method": "average", "tracks_cash": ""}
    assert client.post(page(made), changed).status_code == 302
    made.refresh_from_db()
    assert (made.name, made.base_currency, made.method, made.tracks_cash) == ("Old age", "USD", "average", False)
    # From the first transaction on, it tracks cash or does not.
    record(made, bought(make_asset()))
    said = ["It has transactions or series, so it goes on not tracking cash."]
    assert errors_of(client.post(page(made), changed | {"tracks_cash": "on"})) == {"tracks_cash": said}
    assert client.post(page(made), changed).status_code == 302


def test_a_change_of_what_cannot_be_computed_is_refused_with_why(client, savings, acme):
    record(savings, bought(acme), sold(acme))
    split_of(acme, "2024-01-15", 1, 10)
    changed = {"name": "Other", "base_currency": "EUR", "method": "fifo"}
    answer = client.post(page(savings), changed, follow=True)
    assert "Nothing is saved. With this, the sell of 2024-02-01 (ACME) would be wrong." in answer.text
    savings.refresh_from_db()
    assert savings.name == "Savings"


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        (
            {"base_currency": "QQQ"},
            {
                "base_currency": [
                    "QQQ is not a known currency: use an ISO 4217 code, or that of an asset's price.",
                ]
            },
        ),
        ({"name": "Savings"}, {"__all__": ["Portfolio with this Owner and Name already exists."]}),
    ],
)
def test_a_wrong_portfolio_is_refused_beside_its_field(client, ada, savings, fields, errors):
    given = {"owner": ada.pk, "name": "Other", "base_currency": "EUR", "method": "fifo"} | fields
    assert errors_of(client.post(reverse("admin:portfolios_portfolio_add"), given)) == errors
    assert Portfolio.objects.get() == savings


def test_a_portfolio_shows_its_positions_and_what_is_missing(client, savings, acme):
    record(savings, bought(acme), sold(acme, fee="2"), bought(make_asset("OTHER", "USD"), currency="USD"))
    tables = {table.title: table.rows for table in client.get(page(savings)).context["tables"]}
    [first, second] = tables["Positions (in EUR)"]
    assert first[1:] == ["6", "600", "100", "2", "0"]
    assert second[1:] == ["10", "not known: a rate is missing", "0", "0", "0"]
    assert tables["Missing"] == [["exchange rate of", "USD", "2024-01-02"]]


def test_computing_anew_finds_what_was_missing(client, savings, acme):
    record(savings, bought(acme, currency="USD"))
    close(make_asset("USD-EUR", "EUR", base_currency="USD"), "2023-12-31", "0.9")
    asked = {"action": "recompute", "_selected_action": [savings.pk]}
    answer = client.post(reverse("admin:portfolios_portfolio_changelist"), asked, follow=True)
    assert "Savings is computed anew." in answer.text
    assert LotCopy.objects.get().base_cost == 900


def test_a_split_that_makes_a_sale_wrong_is_said(client, savings, acme):
    record(savings, bought(acme), sold(acme))
    split_of(acme, "2024-01-15", 1, 10)
    answer = client.get(page(savings))
    [row] = {table.title: table.rows for table in answer.context["tables"]}["Cannot be computed"]
    assert row == ["Only 1 is held on 2024-02-01, so 4 cannot leave."]
    assert Position.objects.get().quantity == 6


def test_a_portfolio_is_deleted_with_its_transactions(client, savings, acme):
    record(savings, bought(acme))
    assert client.post(page(savings, "delete"), {"post": "yes"}).status_code == 302
    assert (Portfolio.objects.count(), Transaction.objects.count()) == (0, 0)


def test_a_portfolio_that_is_transferred_to_stays_and_says_why(client, ada, savings, acme):
    other = make_portfolio(ada, "Other")
    record(savings, bought(acme), columns("2024-03-01", "transfer", asset=acme, quantity="4", to_portfolio=other))
    answer = client.post(page(other, "delete"), {"post": "yes"}, follow=True)
    assert "The portfolio is not deleted. Savings transfers to it" in answer.text
    assert Portfolio.objects.count() == 2


def test_a_transaction_is_recorded(client, savings, acme):
    assert add(client, savings, acme, fee="1.5").status_code == 302
    row = Transaction.objects.get()
    assert (row.at.isoformat(), row.quantity, row.fee) == ("2024-01-02T09:30:00+00:00", 10, Decimal("1.5"))
    assert Position.objects.get().quantity == 10


def test_a_transaction_with_only_a_date_stands_at_noon(client, savings, acme):
    add(client, savings, acme, has_time="")
    assert Transaction.objects.get().at.hour == 12


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"quantity": "0"}, {"quantity": ["It must be more than 0."]}),
        ({"at_0": "2999-01-01"}, {"at": ["It is in the future; record it when it has happened."]}),
        (
            {"currency": "XYZ"},
            {"currency": ["XYZ is not a known currency: use an ISO 4217 code, or that of an asset's price."]},
        ),
        ({"kind": "sell"}, {"quantity": ["Only 0 is held on 2024-01-02, so 10 cannot leave."]}),
        (
            {"kind": "deposit"},
            {
                "kind": ["This portfolio does not track cash, so it has no deposit."],
                "asset": ["A transaction of this kind (deposit) has none; leave it empty."],
                "quantity": ["A transaction of this kind (deposit) has none; leave it empty."],
            },
        ),
    ],
)
def test_a_wrong_transaction_is_refused_beside_its_field(client, savings, acme, fields, errors):
    assert errors_of(add(client, savings, acme, **fields)) == errors
    assert not Transaction.objects.exists()


def test_a_correction_is_kept_and_shown(client, ada, savings, acme):
    [row] = record(savings, bought(acme, notes="first"))
    answer = client.post(page(row), posted(savings, acme, has_time="", at_1="12:00:00", quantity="8", notes="second"))
    assert answer.status_code == 302
    assert (Position.objects.get().quantity, TransactionChange.objects.get().by) == (8, ada)
    [table] = client.get(page(row)).context["tables"]
    assert [cells[1:] for cells in table.rows] == [["ada", "quantity: 10; notes: first"]]


def test_each_correction_shows_what_it_changed(client, ada, savings, acme):
    [row] = record(savings, bought(acme))
    for quantity in (9, 8):
        correct_transaction(row=row, columns={"quantity": Decimal(quantity)}, by=ada, now=timezone.now())
    [table] = client.get(page(row)).context["tables"]
    assert [cells[2] for cells in table.rows] == ["quantity: 9", "quantity: 10"]


def test_a_correction_that_makes_another_one_wrong_is_refused_with_its_name(client, savings, acme):
    purchase, _ = record(savings, bought(acme), sold(acme))
    errors = errors_of(client.post(page(purchase), posted(savings, acme, quantity="3")))
    said = "With this, the sell of 2024-02-01 (ACME) would be wrong. Only 3 is held on 2024-02-01, so 4 cannot leave."
    assert errors == {"__all__": [said]}
    answer = client.post(page(purchase, "delete"), {"post": "yes"}, follow=True)
    assert "The transaction is not deleted. With this, the sell of 2024-02-01 (ACME) would be wrong." in answer.text
    assert Transaction.objects.count() == 2


def test_a_transaction_is_deleted_and_kept_in_the_history(client, savings, acme):
    [row] = record(savings, bought(acme))
    assert client.post(page(row, "delete"), {"post": "yes"}).status_code == 302
    assert TransactionChange.objects.get().kind == "deleted"
    assert not Position.objects.exists()


def test_no_transaction_goes_into_another_owners_portfolio(client, ada, acme):
    theirs = make_portfolio(make_owner("eve"))
    assert set(errors_of(add(client, theirs, acme))) == {"portfolio"}
    assert not Transaction.objects.exists()


def test_a_list_costs_the_same_however_many_rows_there_are(client, savings, acme, django_assert_max_num_queries):
    def statements():
        with django_assert_max_num_queries(100) as asked:
            client.get(reverse("admin:portfolios_transaction_changelist"))
            client.get(reverse("admin:portfolios_portfolio_changelist"))
        return len(asked)

    record(savings, bought(acme))
    few = statements()
    record(savings, *[bought(acme)] * 10)
    assert statements() == few


def filled_in(client, portfolio, asset, **fields):
    """Return what a browser sends of the form that it has got."""
    form = client.get(reverse("admin:portfolios_transaction_add")).context["adminform"].form
    return posted(portfolio, asset, key=form["key"].value(), **fields)


@pytest.mark.parametrize("button", ["_save", "_addanother", "_continue"])
def test_a_form_that_is_sent_twice_records_once_and_leads_to_the_same_page(client, savings, acme, button):
    address = reverse("admin:portfolios_transaction_add")
    form = filled_in(client, savings, acme) | {button: "1"}

    first, second = (client.post(address, form) for _ in range(2))

    assert (first.status_code, first.url) == (second.status_code, second.url) == (302, first.url)
    assert (Transaction.objects.count(), LogEntry.objects.count()) == (1, 1)
    assert "This form was sent before, so nothing more was created." in client.get(second.url).text
    # A form of its own is another transaction, also where it says the same.
    assert client.post(address, filled_in(client, savings, acme)).status_code == 302
    assert Transaction.objects.count() == 2


def test_a_sale_of_everything_that_is_sent_twice_is_not_refused(client, savings, acme):
    record(savings, bought(acme))
    address, form = reverse("admin:portfolios_transaction_add"), filled_in(client, savings, acme, kind="sell")
    assert [client.post(address, form | {"at_0": "2024-02-02"}).status_code for _ in range(2)] == [302, 302]
    assert Transaction.objects.filter(kind="sell").count() == 1


def test_something_else_in_a_form_that_was_sent_is_recorded_only_once_it_is_sent_again(client, savings, acme):
    address, form = reverse("admin:portfolios_transaction_add"), filled_in(client, savings, acme)
    client.post(address, form)
    other = form | {"quantity": "11"}

    answer = client.post(address, other)

    [why] = errors_of(answer)["__all__"]
    assert why.startswith("This form was sent before with something else, which was recorded.")
    assert Transaction.objects.count() == 1
    again = other | {"key": answer.context["adminform"].form["key"].value()}
    assert [client.post(address, again).status_code for _ in range(2)] == [302, 302]
    assert Transaction.objects.count() == 2


def test_a_form_that_was_refused_is_sent_again_with_its_key(client, savings, acme):
    address, form = reverse("admin:portfolios_transaction_add"), filled_in(client, savings, acme, quantity="0")
    answer = client.post(address, form)
    assert answer.context["adminform"].form["key"].value() == form["key"]
    assert client.post(address, form | {"quantity": "10"}).status_code == 302


def test_a_form_without_a_key_of_ours_records_nothing(client, savings, acme):
    [why] = errors_of(add(client, savings, acme, key="x"))["__all__"]
    assert why.startswith("This form is too old.")
    assert not Transaction.objects.exists()


def test_the_key_of_a_form_is_in_it_and_in_no_row_of_fields(client, savings):
    text = client.get(reverse("admin:portfolios_transaction_add")).text
    assert (text.count('name="key"'), 'for="id_key"' in text) == (1, False)
    [within] = re.findall(r'<form[^>]* id="transaction_form".*?</form>', text, re.DOTALL)
    assert 'name="key"' in within


def test_a_correction_has_no_key_and_is_logged_with_what_it_changed(client, savings, acme):
    [row] = record(savings, bought(acme))
    assert "key" not in client.get(page(row)).context["adminform"].form.fields
    given = posted(savings, acme, has_time="", at_1="12:00:00", quantity="8")
    assert client.post(page(row), given).status_code == 302
    said = LogEntry.objects.get().get_change_message()
    assert ("Quantity" in said, "Key" in said) == (True, False)
