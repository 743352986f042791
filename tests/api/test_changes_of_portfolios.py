"""Portfolios and transactions changed by the API."""

from decimal import Decimal

import pytest

from apps.portfolios.models import Portfolio, Transaction, TransactionChange
from tests.api.asking import codes
from tests.portfolios.rows import bought, make_asset, make_portfolio, record, sold

pytestmark = pytest.mark.django_db

CREATE = """mutation ($name: String!, $baseCurrency: String!, $method: LotMethod, $tracksCash: Boolean) {
  createPortfolio(
    idempotencyKey: "k", name: $name, baseCurrency: $baseCurrency, method: $method, tracksCash: $tracksCash
  ) { portfolio { id name baseCurrency method tracksCash } errors { field code } }
}"""
UPDATE = """mutation ($id: UUID!, $name: String, $baseCurrency: String, $method: LotMethod, $tracksCash: Boolean) {
  updatePortfolio(
    id: $id, name: $name, baseCurrency: $baseCurrency, method: $method, tracksCash: $tracksCash
  ) { portfolio { name baseCurrency method tracksCash } errors { field code } }
}"""
RECORD = """mutation ($key: String = "k", $portfolio: UUID!, $transactions: [TransactionInput!]!) {
  recordTransactions(idempotencyKey: $key, portfolio: $portfolio, transactions: $transactions) {
    transactions { id kind quantity amount asset { symbol } } errors { field code message }
  }
}"""
CORRECT = """mutation ($id: UUID!, $transaction: TransactionInput!) {
  correctTransaction(id: $id, transaction: $transaction) {
    transaction { quantity amount notes rate } errors { field code }
  }
}"""
DELETE = "mutation ($id: UUID!) { deleteTransaction(id: $id) { deletedId errors { field code message } } }"
BOUGHT = {"kind": "BUY", "at": "2024-01-02T10:00:00Z", "asset": "ACME", "quantity": "10", "amount": "1000.5"}
BOUGHT |= {"currency": "EUR"}


@pytest.fixture(autouse=True)
def acme():
    return make_asset()


@pytest.fixture
def portfolio(ada):
    return make_portfolio(ada)


def answered(response):
    """Return the payload of the one mutation of an answer."""
    [payload] = response.json()["data"].values()
    return payload


def faults(response):
    return [(one["field"], one["code"]) for one in answered(response)["errors"]]


def test_a_portfolio_is_made_changed_and_deleted(ask, ada):
    asked = {"name": "Savings", "baseCurrency": "EUR", "tracksCash": True}
    first, repeated = (answered(ask(CREATE, asked, user=ada)) for _ in range(2))
    row = Portfolio.objects.get()
    expected = {"name": "Savings", "baseCurrency": "EUR", "method": "FIFO", "tracksCash": True}
    assert first == repeated == {"portfolio": {"id": str(row.public_id)} | expected, "errors": []}

    changed = answered(ask(UPDATE, {"id": row.public_id, "name": "Other"}))["portfolio"]
    assert changed == {"name": "Other", "baseCurrency": "EUR", "method": "FIFO", "tracksCash": True}
    changed = answered(ask(UPDATE, {"id": row.public_id, "tracksCash": False}))["portfolio"]
    assert changed == {"name": "Other", "baseCurrency": "EUR", "method": "FIFO", "tracksCash": False}
    gone = f'mutation {{ deletePortfolio(id: "{row.public_id}") {{ deletedId errors {{ code }} }} }}'
    assert answered(ask(gone)) == {"deletedId": str(row.public_id), "errors": []}
    assert faults(ask(gone.replace("{ code }", "{ field code }"))) == [("id", "NOT_FOUND")]


def test_what_is_wrong_with_a_portfolio_is_named(ask, ada, portfolio):
    def made(**more):
        return faults(ask(CREATE, {"name": "new", "baseCurrency": "EUR"} | more, user=ada))

    assert made(baseCurrency="ZZZZ") == [("baseCurrency", "INVALID")]
    assert made(name="") == [("name", "REQUIRED")]
    assert made(name=portfolio.name) == [("name", "TAKEN")]
    assert Portfolio.objects.count() == 1


def test_transactions_are_recorded_exactly_and_once(ask, ada, portfolio):
    later = BOUGHT | {"kind": "SELL", "at": "2024-02-02T10:00:00Z"}
    asked = {"portfolio": portfolio.public_id, "transactions": [BOUGHT, later]}
    first, repeated = (answered(ask(RECORD, asked, user=ada)) for _ in range(2))

    assert (first, first["errors"], Transaction.objects.count()) == (repeated, [], 2)
    assert [one["kind"] for one in first["transactions"]] == ["BUY", "SELL"]
    assert first["transactions"][0]["amount"] == "1000.5"
    assert Transaction.objects.earliest("at").amount == Decimal("1000.5")


def test_of_wrong_transactions_none_is_recorded_and_each_is_named(ask, ada, portfolio):
    def recorded(*rows):
        return faults(ask(RECORD, {"portfolio": portfolio.public_id, "transactions": rows}, user=ada))

    assert recorded() == [("transactions", "REQUIRED")]
    assert recorded(BOUGHT, BOUGHT | {"asset": "NONE"}) == [("transactions[1].asset", "NOT_FOUND")]
    assert recorded(BOUGHT, BOUGHT | {"quantity": "0"}) == [("transactions[1].quantity", "INVALID")]
    assert recorded(BOUGHT | {"quantity": "-1"}) == [("transactions[0].quantity", "INVALID")]
    assert recorded(BOUGHT | {"at": "9999-01-01T00:00:00Z"}) == [("transactions[0].at", "INVALID")]
    assert recorded(BOUGHT, BOUGHT | {"kind": "SELL", "quantity": "11"}) == [("transactions[1].quantity", "INVALID")]
    assert recorded(BOUGHT | {"kind": None}) == [("transactions[0].kind", "INVALID")]
    assert not Transaction.objects.exists()


@pytest.mark.parametrize(
    "number",
    [
        *("NaN", "Infinity", "1e5", "1_000", "1,5", "１２", " 5 ", "", "0x10", "-", ".5", "5.", "9" * 5_001),
        *(0.1, 5, True, [], {}),
    ],
)
def test_what_is_no_exact_number_is_refused(ask, ada, portfolio, number):
    answer = ask(RECORD, {"portfolio": portfolio.public_id, "transactions": [BOUGHT | {"quantity": number}]}, user=ada)
    assert (answer.status_code, codes(answer)) == (400, ["BAD_USER_INPUT"])


def test_a_transaction_is_corrected_and_what_it_was_is_kept(ask, ada, portfolio, acme):
    [row] = record(portfolio, bought(acme, notes="first"))
    asked = {"id": row.public_id, "transaction": {"quantity": "11", "notes": None, "rate": None}}
    corrected = answered(ask(CORRECT, asked, user=ada))

    assert corrected["transaction"] == {"quantity": "11", "amount": "1000", "notes": "", "rate": None}
    assert TransactionChange.objects.get().by == ada
    wrong = {"id": row.public_id, "transaction": {"quantity": "0"}}
    assert faults(ask(CORRECT, wrong)) == [("transaction.quantity", "INVALID")]


def test_what_others_stand_on_is_not_deleted(ask, ada, portfolio, acme):
    buy, sale = record(portfolio, bought(acme), sold(acme))
    [fault] = answered(ask(DELETE, {"id": buy.public_id}, user=ada))["errors"]
    assert (fault["field"], fault["code"]) == (None, "CONFLICT")
    assert fault["message"].startswith(f"With this, the transaction {sale.public_id} would be wrong. ")
    assert answered(ask(DELETE, {"id": sale.public_id})) == {"deletedId": str(sale.public_id), "errors": []}


def test_a_portfolio_that_others_transfer_to_stays(ask, ada, portfolio, acme):
    other = make_portfolio(ada, "other")
    record(portfolio, bought(acme))
    asked = BOUGHT | {"kind": "TRANSFER", "at": "2024-03-01T00:00:00Z", "toPortfolio": other.public_id}
    del asked["amount"], asked["currency"]
    assert faults(ask(RECORD, {"portfolio": portfolio.public_id, "transactions": [asked]}, user=ada)) == []
    gone = f'mutation {{ deletePortfolio(id: "{other.public_id}") {{ deletedId errors {{ field code }} }} }}'
    assert faults(ask(gone)) == [(None, "CONFLICT")]
