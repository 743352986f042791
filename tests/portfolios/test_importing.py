"""Files recorded in a portfolio."""

from collections import Counter
from decimal import Decimal
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.urls import reverse

from apps.market.models import AssetAlias
from apps.market.services import create_manual_asset
from apps.portfolios.domain.files import read_activities
from apps.portfolios.importing import ImportRefused, import_activities
from apps.portfolios.models import LedgerCopy, Position, Transaction
from apps.portfolios.queries import known_ids
from tests.builders import make_owner
from tests.portfolios.domain.test_ghostfolio import ROW, in_json
from tests.portfolios.making import noon
from tests.portfolios.rows import NOW, bought, columns, make_asset, make_portfolio, record, sold

pytestmark = pytest.mark.django_db


@pytest.fixture
def savings():
    return make_portfolio(make_owner())


def imported(tmp_path, *rows, status=0, **options):
    """Import a file of these rows, and return what is said."""
    file = tmp_path / "ghostfolio.json"
    file.write_bytes(in_json(*rows))
    said, given = StringIO(), {"owner": "ada", "portfolio": "Savings"} | options
    if status == 0:
        call_command("import_transactions", str(file), **given, stdout=said)
        return said.getvalue()
    with pytest.raises(SystemExit) as ended:
        call_command("import_transactions", str(file), **given, stdout=said)
    assert ended.value.code == status
    return said.getvalue()


def test_a_file_adds_its_rows_once(tmp_path, savings):
    make_asset()
    assert imported(tmp_path, ROW, ROW, dry_run=True) == "2 would be recorded, 0 were there already.\n"
    assert not Transaction.objects.exists()
    assert imported(tmp_path, ROW, ROW) == "2 recorded, 0 were there already.\n"
    assert imported(tmp_path, ROW, ROW) == "0 recorded, 2 were there already.\n"
    sale = ROW | {"type": "SELL", "date": "2024-02-01", "quantity": 1}
    assert imported(tmp_path, ROW, ROW, sale) == "1 recorded, 2 were there already.\n"
    assert Position.objects.get().quantity == 3


def test_an_alias_is_an_asset_too_and_an_account_may_be_chosen(tmp_path, savings):
    AssetAlias.objects.create(asset=make_asset("ACME-USD"), name="ACME")
    other = ROW | {"accountId": "a2"}
    assert imported(tmp_path, ROW, other, account="Broker") == "1 recorded, 0 were there already.\n"


def test_what_is_wrong_is_listed_by_row_and_nothing_is_recorded(tmp_path, savings):
    rows = [ROW, ROW | {"symbol": "NONE"}, ROW | {"quantity": "x"}]
    make_asset()
    assert imported(tmp_path, *rows, status=1).splitlines() == [
        "row 2: symbol: there is no asset NONE; choose one for it, or ask an operator to add it.",
        "row 3: quantity: x is not a number; write it like 1234.5.",
        "2 wrong, so nothing is recorded.",
    ]
    assert not Transaction.objects.exists()


def test_a_short_sale_is_listed_and_at_most_100_rows_are(tmp_path, savings):
    make_asset()
    short = ROW | {"type": "SELL"}
    lines = imported(tmp_path, *[short] * 120, status=1).splitlines()
    assert lines[0] == "row 1: quantity: Only 0 is held on 2024-01-02, so 2 cannot leave."
    assert (len(lines), lines[-1]) == (101, "120 wrong, so nothing is recorded.")


def test_what_cannot_be_read_is_refused_with_one_line(tmp_path, savings, capsys):
    assert imported(tmp_path, ROW, status=2, portfolio="None") == ""
    assert capsys.readouterr().err == "import_transactions: ada has no portfolio None\n"
    with pytest.raises(SystemExit):
        call_command("import_transactions", str(tmp_path / "none"), owner="ada", portfolio="Savings")
    assert capsys.readouterr().err == f"import_transactions: {tmp_path / 'none'}: No such file or directory\n"


def test_what_is_exported_for_ghostfolio_is_imported_as_the_same_rows(client):
    ada = make_owner()
    savings, copy, acme = make_portfolio(ada), make_portfolio(ada, "Copy"), make_asset()
    money = {"currency": "EUR", "notes": 'first, "of" all'}
    rows = [
        bought(acme, quantity="3", amount="1000", fee="1.5", notes="=1+1"),
        bought(acme, quantity="3", amount="1000", fee="1.5", notes="=1+1"),
        bought(acme, quantity="0.000000000000000007", amount="1"),
        bought(acme, day="2024-01-03", amount="0") | {"at": NOW, "has_time": True},
        sold(acme, quantity="1.234567890123456789", amount="333.333333333333333333"),
        columns("2024-03-01", "dividend", asset=acme, amount="10.01", **money),
        columns("2024-03-01", "interest", amount="0.07", **money),
        columns("2024-03-01", "fee", amount="2", **money),
    ]
    record(savings, *rows)
    client.force_login(ada)
    answer = client.get(reverse("portfolio_as_ghostfolio", args=[savings.pk]))
    assert (answer["X-Left-Out"], answer["Content-Type"]) == ("0", "application/json")
    assert import_activities(portfolio=copy, read=read_activities(answer.content), now=NOW)[0].added == len(rows)
    names = ("kind", "at", "has_time", "asset", "quantity", "amount", "currency", "fee", "notes")
    first, second = (Counter(one.transactions.values_list(*names)) for one in (savings, copy))
    assert first == second


def test_what_is_exported_as_csv_is_imported_as_the_same_rows(client):
    ada = make_owner()
    savings, copy = (make_portfolio(ada, name, tracks_cash=True) for name in ("Savings", "Copy"))
    acme, bolt, other = make_asset(), make_asset("BOLT"), make_portfolio(ada, "Other", tracks_cash=True)
    house = create_manual_asset(owner_id=ada.pk, symbol="HOUSE", currency="EUR")
    merger = {"event": "merger", "to_asset": bolt, "numerator": 3, "denominator": 2, "cost_share": "0.75"}
    record(
        savings,
        columns("2024-01-01", "deposit", amount="5000", currency="EUR", notes="=1+1", group_id="'g"),
        columns("2024-01-02", "conversion", amount="10", currency="EUR", counter_amount="11", counter_currency="USD"),
        bought(acme, fee="1.5", fee_currency="USD", tax="2", rate="1.000000000000000001", external_id="x-1"),
        bought(acme, quantity="0.000000000000000007", amount="1") | {"at": NOW, "has_time": True},
        bought(house, fee="5", fee_asset=acme, fee_quantity="0.1", day="2024-01-03"),
        columns("2024-02-01", "transfer", asset=acme, quantity="1", to_portfolio=other),
        columns(
            "2024-02-02",
            "delivery_in",
            asset=acme,
            quantity="1",
            amount="7",
            currency="EUR",
            acquired_at=noon("2024-01-15"),
        ),
        columns("2024-03-01", "event", asset=acme, amount="3", currency="EUR", **merger),
    )
    client.force_login(ada)
    exported = client.get(reverse("portfolio_download", args=[savings.pk])).content
    read = read_activities(exported)
    assert (read.errors, read.left_out) == ([], [])
    assert import_activities(portfolio=copy, read=read, now=NOW)[0].added == 8
    again = client.get(reverse("portfolio_download", args=[copy.pk])).content
    assert Counter(again.splitlines()) == Counter(exported.splitlines())
    # Typed rows have an id in the file, by which they are known again, in the portfolio that they were typed into too.
    for portfolio, file in ((copy, exported), (savings, exported), (savings, again)):
        assert import_activities(portfolio=portfolio, read=read_activities(file), now=NOW)[0][1:] == (0, 8, 0)
    assert known_ids(savings, {"x-1", "x-2", "transaction-1", f"transaction-{uuid4()}"}) == {"x-1"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("gift,2024-01-02T12:00:00+00:00,False,ACME,1,1,EUR,,,", "kind: gift is not known"),
        ("buy,soon,False,ACME,1,1,EUR,,,", "at: soon is not a date"),
        ("buy,2024-01-02T12:00:00+00:00,False,ACME,x,1,EUR,,,", "quantity: x is not a number"),
        ("event,2024-01-02T12:00:00+00:00,False,ACME,1,1,EUR,,,party", "event: party is not known"),
        ("transfer,2024-01-02T12:00:00+00:00,False,ACME,1,,,,Nowhere,", "to_portfolio: there is no portfolio Nowhere"),
        ("buy,2024-01-02T12:00:00+00:00,False,ACME,1,5,EUR,,,,7", "7 stands behind the last column"),
    ],
)
def test_a_wrong_row_of_the_own_csv_is_named(savings, row, said):
    make_asset()
    header = "kind,at,has_time,asset,quantity,amount,currency,external_id,to_portfolio,event"
    with pytest.raises(ImportRefused) as refused:
        import_activities(portfolio=savings, read=read_activities(f"{header}\n{row}\n".encode()), now=NOW)
    assert said in refused.value.errors[0].message


def test_what_ghostfolio_has_no_form_for_is_left_out_and_counted(client):
    ada, acme = make_owner(), make_asset()
    savings = make_portfolio(ada, tracks_cash=True)
    deposit = columns("2024-01-01", "deposit", amount="5", currency="EUR")
    abroad = bought(acme, fee="1", fee_currency="USD")
    record(savings, deposit, abroad, bought(acme, fee="1", tax="2"))
    client.force_login(ada)
    answer = client.get(reverse("portfolio_as_ghostfolio", args=[savings.pk]))
    [one] = answer.json()["activities"]
    assert (answer["X-Left-Out"], one["type"], one["unitPrice"], one["fee"]) == ("2", "BUY", 100, 3)


LEDGER = """txid,refid,time,type,subtype,aclass,asset,amount,fee,balance
L1,D1,2024-01-01 10:00:00,deposit,,currency,ZEUR,1000,0,1000
L2,T1,2024-01-02 10:00:00,trade,,currency,ZEUR,-800,2,198
L3,T1,2024-01-02 10:00:00,trade,,currency,XXBT,0.02,0,0.02
L4,T2,2024-01-03 10:00:00,trade,,currency,XXBT,-0.005,0,0.015
L5,T2,2024-01-03 10:00:00,trade,,currency,ZEUR,250,1,447
L6,E1,2024-01-04 10:00:00,transfer,spottostaking,currency,XXBT,-0.01,0,0.005
"""


@pytest.mark.parametrize(("tracks_cash", "cash", "added"), [(True, {"EUR": "447"}, 3), (False, {}, 2)])
def test_a_ledger_with_cash(tmp_path, tracks_cash, cash, added):
    make_asset("BTC")
    make_portfolio(make_owner(), "Coins", tracks_cash=tracks_cash)
    file, said = tmp_path / "ledgers.csv", StringIO()
    file.write_text(LEDGER)
    call_command("import_transactions", str(file), owner="ada", portfolio="Coins", stdout=said)
    assert said.getvalue().splitlines() == [
        "1 left out (row 6): transfer spottostaking of BTC: it moves between wallets at Kraken.",
        *(["1 left out: they move cash, and Coins does not track cash."] if not tracks_cash else []),
        f"{added} recorded, 0 were there already.",
    ]
    assert (Position.objects.get().quantity, LedgerCopy.objects.get().cash) == (Decimal("0.015"), cash)


PP = "Date,Type,Value,Transaction Currency,Gross Amount,Currency Gross Amount,Exchange Rate,Fees,Taxes,Shares,"
PP += "Ticker Symbol\n2024-01-02T00:00,Buy,-912.00,EUR,1000.00,USD,0.9,10.00,2.00,5,ACME"


@pytest.mark.parametrize(
    ("base", "tracks_cash", "rate", "cost", "cash"),
    [
        # The account in EUR paid it; what was bought cost USD.
        ("EUR", True, Decimal("0.9"), 900, {"EUR": "-912", "USD": "0"}),
        ("EUR", False, Decimal("0.9"), 900, {}),
        # A rate into EUR says nothing of another base currency.
        ("USD", False, None, 1000, {}),
    ],
)
def test_an_exchange_rate_of_a_file_counts_in_portfolios_of_its_currency(base, tracks_cash, rate, cost, cash):
    make_asset(currency="USD")
    portfolio = make_portfolio(make_owner(), base=base, tracks_cash=tracks_cash)
    read = read_activities(PP.encode())
    for added in (1 + tracks_cash, 0):
        done, _ = import_activities(portfolio=portfolio, read=read, now=NOW)
        assert (done.added, done.without_cash) == (added, 0 if tracks_cash else 1)
    row = Transaction.objects.get(kind="buy")
    assert (row.amount, row.currency, row.rate, row.fee_currency, row.tax_currency) == (1000, "USD", rate, "EUR", "EUR")
    position = Position.objects.get()
    assert (position.cost, position.cost_in) == (cost, {"USD": "1000"})
    assert LedgerCopy.objects.get(portfolio=portfolio).cash == cash


def test_the_command_takes_what_a_file_does_not_say(tmp_path, savings):
    make_asset()
    file, out = tmp_path / "short.csv", StringIO()
    file.write_text("date,symbol,price,quantity\n10/03/2023,ACME,5,2\n11/03/2023,ACME,x,2\n")
    given = {"owner": "ada", "portfolio": "Savings", "currency": "USD", "kind": "buy", "date_order": "month_first"}
    call_command("import_transactions", str(file), **given, leave_out=[2], stdout=out)
    assert out.getvalue().splitlines() == [
        "1 left out (row 2): You left it out: unitPrice: x is not a number; write it like 1234.5.",
        "1 recorded, 0 were there already.",
    ]
    row = Transaction.objects.get()
    assert (row.kind, row.currency, f"{row.at:%Y-%m-%d}") == ("buy", "USD", "2023-10-03")
