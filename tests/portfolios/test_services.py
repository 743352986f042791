"""Transactions recorded, corrected and deleted, and the copy of what they come to."""

from decimal import Decimal
from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.portfolios.bulk import insert
from apps.portfolios.copying import differences, stored_copy
from apps.portfolios.models import (
    LedgerCopy,
    LotCopy,
    Portfolio,
    Position,
    Transaction,
    TransactionChange,
    UsedPrice,
    UsedRate,
)
from apps.portfolios.queries import portfolios_seen_by, transactions_seen_by
from apps.portfolios.services import (
    PortfolioStays,
    TransactionsRefused,
    change_portfolio,
    copies_now,
    correct_transaction,
    delete_portfolio,
    delete_transactions,
    refresh,
)
from tests.builders import make_owner
from tests.portfolios.rows import NOW, bought, close, columns, make_asset, make_portfolio, record, sold, split_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_owner()


def refused(call, *args, **kwargs):
    """Return (key, field, message) of what is refused."""
    with pytest.raises(TransactionsRefused) as error:
        call(*args, **kwargs)
    return [tuple(one) for one in error.value.refusals]


def is_right(portfolio):
    """Tell whether the stored copy is what the transactions come to."""
    return differences(stored_copy(portfolio), copies_now(portfolio)[portfolio.pk]) == []


def test_a_purchase_and_a_sale_make_a_position_with_its_lot(savings, acme):
    record(savings, bought(acme, fee="10"), sold(acme, fee="2"))
    position, lot = Position.objects.get(), LotCopy.objects.get()
    assert (position.quantity, position.realised, position.costs) == (6, 100, 6)
    assert (lot.quantity, lot.bought, lot.cost, lot.base_fees) == (6, 10, 600, 6)
    assert LedgerCopy.objects.get().flows == [["2024-01-02", "1010"], ["2024-02-01", "-498"]]
    assert is_right(savings)


def test_a_number_is_stored_to_its_last_digit(savings, acme):
    record(savings, bought(acme, quantity="12345678901234567.123456789012345678", amount="0.000000000000000001"))
    row = Transaction.objects.get()
    assert row.quantity == Decimal("12345678901234567.123456789012345678")
    assert row.amount == Decimal("0.000000000000000001")


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"quantity": "0"}, "quantity", "It must be more than 0."),
        ({"day": "2025-01-01"}, "at", "It is in the future; record it when it has happened."),
        (
            {"currency": "XYZ"},
            "currency",
            "XYZ is not a known currency: use an ISO 4217 code, or that of an asset's price.",
        ),
        ({"quantity": "1e30"}, "quantity", "Ensure that there are no more than 20 digits before the decimal point."),
    ],
)
def test_what_is_wrong_is_refused_beside_its_field_and_nothing_is_recorded(savings, acme, values, field, message):
    rows = [bought(acme), bought(acme, **values)]
    assert refused(record, savings, *rows) == [(2, field, message)]
    assert not Transaction.objects.exists()


def test_selling_more_than_is_held_is_refused_and_nothing_is_recorded(savings, acme):
    rows = [bought(acme), sold(acme, quantity="11")]
    message = "Only 10 is held on 2024-02-01, so 11 cannot leave."
    assert refused(record, savings, *rows) == [(2, "quantity", message)]
    assert not Transaction.objects.exists()
    assert not Position.objects.exists()


def test_statements_do_not_grow_with_rows(savings, acme):
    def statements(rows):
        with CaptureQueriesContext(connection) as asked:
            record(savings, *rows)
        return len(asked)

    record(savings, bought(acme))
    assert statements([bought(acme)] * 20) == statements([bought(acme)] * 2)


def test_to_record_nothing_records_nothing(savings):
    assert record(savings) == []


def test_a_correction_that_makes_another_row_wrong_names_that_row(savings, acme, ada):
    purchase, sale = record(savings, bought(acme), sold(acme))
    message = "Only 3 is held on 2024-02-01, so 4 cannot leave."
    change = {"row": purchase, "columns": {"quantity": Decimal(3)}, "by": ada, "now": NOW}
    assert refused(correct_transaction, **change) == [(-sale.pk, "quantity", message)]
    assert refused(delete_transactions, rows=[purchase], by=ada, now=NOW)[0][0] == -sale.pk
    assert Transaction.objects.get(pk=purchase.pk).quantity == 10
    assert not TransactionChange.objects.exists()


def test_a_correction_keeps_who_when_and_what_it_was(savings, acme, ada):
    [row] = record(savings, bought(acme, notes="first"))
    correct_transaction(row=row, columns={"quantity": Decimal("7.5"), "notes": ""}, by=ada, now=NOW)
    change = TransactionChange.objects.get()
    assert (change.kind, change.row, change.by, change.by_name, change.at) == ("corrected", row.pk, ada, "ada", NOW)
    assert (change.before["quantity"], change.before["notes"], change.before["asset_id"]) == ("10", "first", acme.pk)
    assert change.before["at"] == "2024-01-02T12:00:00+00:00"
    assert Position.objects.get().quantity == Decimal("7.5")
    assert is_right(savings)


def test_a_correction_that_changes_nothing_keeps_nothing(savings, acme, ada):
    [row] = record(savings, bought(acme))
    correct_transaction(row=row, columns={"quantity": Decimal("10.00")}, by=ada, now=NOW)
    assert not TransactionChange.objects.exists()


def test_a_deleted_transaction_stays_in_the_history(savings, acme, ada):
    first, second = record(savings, bought(acme), bought(acme, quantity="1"))
    assert delete_transactions(rows=[first], by=ada, now=NOW) == 1
    assert TransactionChange.objects.values_list("kind", "row").get() == ("deleted", first.pk)
    assert Position.objects.get().quantity == 1
    assert Transaction.objects.get() == second


def test_a_transaction_of_an_external_id_is_there_once(savings, acme):
    record(savings, bought(acme, external_id="A1"))
    message = "The portfolio has a transaction of this external id."
    rows = [bought(acme, external_id="A2"), bought(acme, external_id="A1")]
    assert refused(record, savings, *rows) == [(2, "external_id", message)]
    assert refused(record, savings, *[bought(acme, external_id="A3")] * 2) == [(2, "external_id", message)]


def test_an_event_of_an_asset_day_and_kind_is_there_once(savings, acme):
    split = columns("2024-03-01", "event", event="split", asset=acme, numerator=2, denominator=1)
    record(savings, bought(acme), split)
    message = "The portfolio has this event of this asset on this day already."
    assert refused(record, savings, split) == [(1, "event", message)]
    assert Position.objects.get().quantity == 20


@pytest.mark.parametrize(
    "values",
    [
        {"quantity": Decimal(0)},
        {"quantity": Decimal(-1)},
        {"amount": Decimal("-0.5")},
        {"fee": Decimal(-1)},
        {"rate": Decimal(0)},
        {"kind": "gift"},
        {"event": "split"},
        {"asset": None},
        {"kind": "transfer"},
        {"numerator": 1},
    ],
)
def test_the_database_refuses_what_must_not_be(savings, acme, values):
    [row] = record(savings, bought(acme))
    with pytest.raises(IntegrityError), transaction.atomic():
        Transaction.objects.filter(pk=row.pk).update(**values)


def test_the_databases_rules_let_small_and_large_numbers_through(savings, acme):
    [row] = record(savings, bought(acme))
    for number in ("0.000000000000000001", "99999999999999999999"):
        assert Transaction.objects.filter(pk=row.pk).update(quantity=Decimal(number), rate=Decimal(number)) == 1


def test_a_split_of_the_feed_counts_and_wins_over_a_typed_one(savings, acme):
    typed = columns("2024-03-01", "event", event="split", asset=acme, numerator=3, denominator=1)
    record(savings, bought(acme), typed)
    assert Position.objects.get().quantity == 30
    split_of(acme, "2024-03-01")
    assert refresh(portfolio=savings) == []
    assert Position.objects.get().quantity == 20
    assert LotCopy.objects.values_list("bought", "numerator", "denominator").get() == (10, "2", "1")
    assert is_right(savings)


def test_a_copy_that_knows_all_splits_is_not_written_anew(savings, acme):
    record(savings, bought(acme))
    LotCopy.objects.update(cost=Decimal(1))
    assert refresh(portfolio=savings) == []
    assert LotCopy.objects.get().cost == 1


def test_only_positions_that_differ_are_written(savings, acme):
    other = make_asset("OTHER")
    record(savings, bought(acme), bought(other))
    before = dict(Position.objects.values_list("asset", "pk"))
    record(savings, bought(other, day="2024-01-03"))
    after = dict(Position.objects.values_list("asset", "pk"))
    assert after[acme.pk] == before[acme.pk]
    assert after[other.pk] != before[other.pk]
    assert LotCopy.objects.filter(position=after[other.pk]).count() == 2
    assert is_right(savings)


def test_a_position_without_transactions_is_written_no_more(savings, acme):
    record(savings, bought(acme))
    delete_transactions(rows=Transaction.objects.all(), by=None, now=NOW)
    assert not Position.objects.exists()
    assert is_right(savings)


def test_a_row_that_the_database_refuses_is_an_error_of_django(savings, acme):
    columns = bought(acme, external_id="A1") | {"day": NOW.date()}
    with pytest.raises(IntegrityError), transaction.atomic():
        insert([Transaction(portfolio=savings, **columns) for _ in range(2)])


def test_a_rate_is_found_kept_and_explained(savings, acme):
    euro = make_asset("EUR-USD", "USD", base_currency="EUR")
    close(euro, "2024-01-01", "1.25")
    # Of the day itself, after the time of the transaction.
    close(euro, "2024-01-02", "2")
    record(savings, bought(acme, currency="USD"))
    found = UsedRate.objects.get()
    assert (found.currency, Decimal(found.rate), found.priced_at.date().day) == ("USD", Decimal("0.8"), 1)
    assert found.path == [["EUR-USD", "1.25", "2024-01-01T20:00:00+00:00", True]]
    assert LotCopy.objects.get().base_cost == 800
    assert LedgerCopy.objects.get().missing == []


def test_a_rate_that_is_missing_is_said_and_found_when_it_is_there(savings, acme):
    record(savings, bought(acme, currency="USD"))
    assert LotCopy.objects.get().base_cost is None
    assert LedgerCopy.objects.get().missing == [["rate", "USD", "2024-01-02"]]
    close(make_asset("USD-EUR", "EUR", base_currency="USD"), "2023-12-31", "0.9")
    call_command("portfolios", "--recompute", stdout=StringIO())
    assert LotCopy.objects.get().base_cost == 900
    assert LedgerCopy.objects.get().missing == []


def test_a_transfer_is_in_both_portfolios(savings, acme, ada):
    other = make_portfolio(ada, "Other", method="average")
    close(acme, "2024-02-28", "150")
    [_, moved] = record(
        savings, bought(acme), columns("2024-03-01", "transfer", asset=acme, quantity="4", to_portfolio=other)
    )
    assert {one.portfolio: one.quantity for one in Position.objects.all()} == {savings: 6, other: 4}
    assert LotCopy.objects.get(position__portfolio=other).cost == 400
    assert LedgerCopy.objects.get(portfolio=other).flows == [["2024-03-01", "600"]]
    assert UsedPrice.objects.get().price == 150
    assert is_right(savings)
    assert is_right(other)

    third = make_portfolio(ada, "Third")
    correct_transaction(row=moved, columns={"to_portfolio": third}, by=ada, now=NOW)

    assert {one.portfolio: one.quantity for one in Position.objects.all()} == {savings: 6, third: 4}
    assert is_right(other)


def test_a_transfer_to_another_owners_portfolio_is_refused(savings, acme):
    theirs = make_portfolio(make_owner("eve"))
    moved = columns("2024-03-01", "transfer", asset=acme, quantity="4", to_portfolio=theirs)
    message = "Choose a portfolio of the same owner."
    assert refused(record, savings, bought(acme), moved) == [(2, "to_portfolio", message)]


def test_a_portfolio_with_transfers_is_deleted_only_where_the_others_stay_right(savings, acme, ada):
    other = make_portfolio(ada, "Other")
    record(savings, bought(acme), columns("2024-03-01", "transfer", asset=acme, quantity="4", to_portfolio=other))
    with pytest.raises(PortfolioStays, match="Savings transfers to it"):
        delete_portfolio(portfolio=other)
    [sale] = record(other, sold(acme, day="2024-04-01"))
    with pytest.raises(PortfolioStays, match="Only 0 is held on 2024-04-01, so 4 cannot leave"):
        delete_portfolio(portfolio=savings)
    assert Portfolio.objects.count() == 2
    delete_transactions(rows=[sale], by=ada, now=NOW)
    delete_portfolio(portfolio=savings)
    assert (Portfolio.objects.get(), Position.objects.count()) == (other, 0)
    assert is_right(other)


def test_another_method_computes_anew(savings, acme):
    record(
        savings, bought(acme), bought(acme, day="2024-01-03", amount="2000"), sold(acme, quantity="10", amount="1500")
    )
    assert Position.objects.get().realised == 500
    change_portfolio(portfolio=savings, name="Average", base_currency="EUR", method="average")
    assert Position.objects.get().realised == 0
    assert Portfolio.objects.get().name == "Average"


def test_another_base_currency_needs_other_rates(savings, acme):
    record(savings, bought(acme, currency="USD", rate="0.5"))
    given = {"portfolio": savings, "name": "Savings", "method": "fifo"}
    with pytest.raises(ValidationError, match="have a rate into EUR"):
        change_portfolio(**given, base_currency="CHF")
    Transaction.objects.update(rate=None)
    change_portfolio(**given, base_currency="USD")
    assert LotCopy.objects.get().base_cost == 1000


def test_a_portfolio_in_an_unknown_currency_is_refused(ada):
    with pytest.raises(ValidationError, match="QQQ is not a known currency"):
        make_portfolio(ada, base="QQQ")
    make_asset("DOGE-QQQ", "QQQ")
    assert make_portfolio(ada, base="QQQ").base_currency == "QQQ"


def test_owners_see_their_own(savings, acme, ada):
    eve, root = make_owner("eve"), make_owner("root")
    root.is_superuser = True
    record(savings, bought(acme))
    assert (portfolios_seen_by(eve).count(), transactions_seen_by(eve).count()) == (0, 0)
    assert (portfolios_seen_by(ada).get(), transactions_seen_by(root).count()) == (savings, 1)


def test_deleting_a_user_removes_their_portfolios(savings, acme, ada):
    other = make_portfolio(ada, "Other")
    record(savings, bought(acme), columns("2024-03-01", "transfer", asset=acme, quantity="4", to_portfolio=other))
    ada.delete()
    for model in (Portfolio, Transaction, TransactionChange, Position, LotCopy, LedgerCopy, UsedRate, UsedPrice):
        assert not model.objects.exists()


def test_the_check_names_what_differs_and_recomputing_mends_it(savings, acme):
    record(savings, bought(acme))
    said = StringIO()
    call_command("portfolios", "--check", stdout=said)
    assert said.getvalue() == "1 portfolios compared, 0 wrong.\n"
    LotCopy.objects.update(cost=Decimal(1))
    Position.objects.update(quantity=Decimal(11))
    said = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("portfolios", "--check", stdout=said)
    assert ended.value.code == 1
    differs = f"ada: Savings: differs in position of asset {acme.pk}, lots of asset {acme.pk}\n"
    assert said.getvalue() == f"{differs}1 portfolios compared, 1 wrong.\n"
    call_command("portfolios", "--recompute", stdout=StringIO())
    assert is_right(savings)
