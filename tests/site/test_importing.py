"""The pages that import transactions."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from apps.market.models import Asset
from apps.portfolios.domain.files import read_activities
from apps.portfolios.importing import prune_import_files
from apps.portfolios.models import ImportFile, PriceRequest, Transaction
from apps.site.forms import mapping_field
from tests.builders import make_owner
from tests.portfolios.domain.test_ghostfolio import ROW, in_json
from tests.portfolios.rows import bought, close, make_asset, make_portfolio, record

pytestmark = pytest.mark.django_db
ACCOUNT = mapping_field("account", "Broker")


@pytest.fixture
def ada(ada):
    ada.user_permissions.add(Permission.objects.get(codename="add_transaction"))
    return ada


@pytest.fixture
def savings(ada):
    make_asset()
    return make_portfolio(ada)


def send(client, portfolio, content):
    file = SimpleUploadedFile("ghostfolio.json", content)
    return client.post(reverse("portfolio_import", args=[portfolio.pk]), {"file": file})


def confirm(client, portfolio, **fields):
    """Send the form of the second page, with its own values but for these."""
    address = reverse("portfolio_import_confirm", args=[portfolio.pk])
    page = client.get(address).text
    given = dict(re.findall(r'<input type="text" name="(symbol_\w+)" value="([^"]*)"', page))
    chosen = re.findall(r'<select name="(account_\w+)"[^>]*>.*?<option value="([^"]*)" selected', page, re.DOTALL)
    return client.post(address, given | dict(chosen) | fields)


def said(text):
    """Return what the notices say."""
    found = re.findall(r'<p class="notice"[^>]*>(.*?)</p>', text, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", "", one).split()) for one in found]


def test_a_file_records_nothing_before_it_is_confirmed(client, savings):
    answer = send(client, savings, in_json(ROW, ROW))
    assert answer.url == reverse("portfolio_import_confirm", args=[savings.pk])
    text = client.get(answer.url).text
    assert said(text) == ["Savings: 2 would be recorded, 0 were there already."]
    assert "2 rows, read as Ghostfolio." in text
    assert "<td>2024-01-02 00:00</td><td>buy</td><td>ACME</td><td>Broker</td>" in text
    assert said(confirm(client, savings).text) == ["Savings: 2 would be recorded, 0 were there already."]
    assert not Transaction.objects.exists()


def test_a_file_is_recorded_once(client, savings):
    for added, known in ((2, 0), (0, 2)):
        send(client, savings, in_json(ROW, ROW))
        text = confirm(client, savings, record="1").text
        assert said(text) == [f"Savings: {added} recorded, {known} were there already. See Savings"]
        assert not ImportFile.objects.exists()
    assert Transaction.objects.filter(portfolio=savings).count() == 2


def test_accounts_go_to_portfolios_and_symbols_to_assets(client, ada, savings):
    other, bolt = make_portfolio(ada, "Other"), make_asset("BOLT")
    send(client, savings, in_json(ROW, ROW | {"accountId": "a2", "symbol": "XX1"}, ROW | {"accountId": "a3"}))
    accounts = {ACCOUNT: "", mapping_field("account", "a2"): other.pk, mapping_field("account", "a3"): savings.pk}
    symbol = mapping_field("symbol", "XX1")
    mapped = accounts | {symbol: "bolt", "record": "1"}
    assert "There is no asset NONE." in confirm(client, savings, **mapped | {symbol: "NONE"}).text
    assert not Transaction.objects.exists()
    assert said(confirm(client, savings, **mapped).text) == [
        "Savings: 1 recorded, 0 were there already. See Savings",
        "Other: 1 recorded, 0 were there already. See Other",
        "1 row of accounts that are left out.",
    ]
    assert {(row.portfolio.name, row.asset.symbol) for row in Transaction.objects.all()} == {
        ("Savings", "ACME"),
        ("Other", bolt.symbol),
    }


def test_wrong_rows_are_listed_and_nothing_is_recorded_in_any_portfolio(client, ada, savings):
    other = make_portfolio(ada, "Other")
    send(client, savings, in_json(ROW, ROW | {"accountId": "a2", "type": "SELL"}, ROW | {"symbol": "<b>"}))
    text = confirm(client, savings, **{ACCOUNT: savings.pk, mapping_field("account", "a2"): other.pk}, record="1").text
    assert "2 rows are wrong, so nothing is recorded" in text
    assert '<td>2</td><td class="text">quantity: Only 0 is held on 2024-01-02, so 2 cannot leave.</td>' in text
    missing = "symbol: there is no asset &lt;b&gt;; choose one for it, or ask an operator to add it."
    assert f'<td>3</td><td class="text">{missing}</td>' in text
    assert not Transaction.objects.exists()
    assert ImportFile.objects.exists()
    # The button to record appears once the corrected file was checked and has no errors.
    assert 'name="record"' not in text
    send(client, savings, in_json(ROW))
    assert 'name="record"' in confirm(client, savings, **{ACCOUNT: savings.pk}).text


def test_what_is_wrong_with_a_row_that_becomes_two_transactions_is_listed_once(client, savings):
    header = "Entrada/Saída,Data,Movimentação,Produto,Instituição,Quantidade,Preço unitário,Valor da Operação"
    row = "Credito,02/01/2024,Bonificação em Ativos,ITSA4 - Itausa,XP,1,5,-"
    send(client, savings, f"{header}\n{row}".encode())
    assert "1 row is wrong, so nothing is recorded" in confirm(client, savings).text


def test_rows_that_are_left_out_are_listed_with_why(client, savings):
    header = "Entrada/Saída,Data,Movimentação,Produto,Instituição,Quantidade,Preço unitário,Valor da Operação"
    rows = [
        "Credito,02/01/2024,Cisão,ACME - Acme,XP,100,-,-",
        "Credito,02/01/2024,Rendimento,ACME - Acme,XP,1,5,5",
        *["Credito,02/01/2024,Rendimento,ACME - Acme,XP,1,-,-"] * 12,
    ]
    send(client, savings, "\n".join([header, *rows]).encode())
    text = confirm(client, savings).text
    assert "14 rows, read as B3." in text
    assert "13 rows left out" in text
    assert '<td class="number">1</td><td class="text">Cisão: the file has neither the ratio nor' in text
    why = "Rendimento: the file has no amount for it. Record it by hand."
    which = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more"
    assert f'<td class="number">12</td><td class="text">{why}</td><td class="text">{which}</td>' in text


def test_a_split_is_recorded_once_it_is_ticked(client, savings):
    record(savings, bought(Asset.objects.get(), quantity="100"))
    header = "Entrada/Saída,Data,Movimentação,Produto,Instituição,Quantidade,Preço unitário,Valor da Operação"
    sale = "Credito,03/06/2024,Leilão de Fração,ACME - Acme,XP,150,1,150"
    send(client, savings, f"{header}\nCredito,02/05/2024,Desdobro,ACME - Acme,XP,100,-,-\n{sale}".encode())
    text = confirm(client, savings).text
    offer = "Desdobro of ACME on 2024-05-02: 100 became 200, a split of 2 for 1, in Savings"
    assert f'<input type="checkbox" name="split" value="1:2:1"> {offer}' in text
    # What is sold after it is wrong without it.
    assert ("1 row left out" in text, "1 row is wrong" in text) == (True, True)
    text = confirm(client, savings, split="1:2:1").text
    assert f'<input type="checkbox" name="split" value="1:2:1" checked> {offer}' in text
    assert said(text) == ["Savings: 2 would be recorded, 0 were there already."]
    assert not Transaction.objects.filter(event="split").exists()
    confirm(client, savings, split="1:2:1", record="1")
    assert Transaction.objects.get(event="split").numerator == 2


def test_the_rows_of_a_file_are_counted_and_not_what_they_come_to(client, savings):
    header = "txid,refid,time,type,subtype,aclass,asset,amount,fee,balance"
    legs = (("L1", "ZUSD,-60"), ("L2", "ACME,1"))
    rows = [f"{txid},T1,2024-03-10 12:00:00,trade,,currency,{leg},0,0" for txid, leg in legs]
    send(client, savings, "\n".join([header, *rows]).encode())
    text = confirm(client, savings).text
    assert "2 rows, read as Kraken." in text
    assert said(text) == ["Savings: 1 would be recorded, 0 were there already."]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "The file is no valid JSON."),
        (b"", "The submitted file is empty."),
        (b" " * 5_000_001, "The file has more than 5 MB; split it."),
        (
            in_json(*[ROW | {"accountId": f"a{n}"} for n in range(101)]),
            "The file has more than 100 accounts; split it.",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_beside_its_field(client, savings, content, message):
    assert message in send(client, savings, content).text
    assert not ImportFile.objects.exists()


def test_a_foreign_portfolio_is_none_and_who_may_add_nothing_imports_nothing(client, ada, savings):
    theirs = make_portfolio(make_owner("eve"), "EVES")
    address = reverse("portfolio_import_confirm", args=[savings.pk])
    assert client.get(address).url == reverse("portfolio_import", args=[savings.pk])
    assert send(client, theirs, in_json(ROW)).status_code == 404
    send(client, savings, in_json(ROW))
    assert "EVES" not in client.get(address).text
    assert "Select a valid choice" in confirm(client, savings, **{ACCOUNT: theirs.pk}, record="1").text
    assert client.get(reverse("portfolio_import_confirm", args=[theirs.pk])).status_code == 404
    ada.user_permissions.clear()
    assert [client.get(address).status_code, send(client, savings, in_json(ROW)).status_code] == [403, 403]
    client.logout()
    assert [client.get(address).status_code, send(client, savings, in_json(ROW)).status_code] == [302, 302]
    assert not Transaction.objects.exists()


def test_a_kept_file_that_can_no_longer_be_read_is_dropped(client, savings):
    send(client, savings, in_json(ROW))
    ImportFile.objects.update(content=b"{")
    address = reverse("portfolio_import_confirm", args=[savings.pk])
    assert client.get(address).url == reverse("portfolio_import", args=[savings.pk])
    assert not ImportFile.objects.exists()


def test_a_file_that_nobody_confirms_is_dropped_after_a_day(client, savings):
    send(client, savings, in_json(ROW))
    assert prune_import_files(now=timezone.now() + timedelta(hours=23)) == 0
    later = timezone.now() + timedelta(hours=25)
    assert [prune_import_files(now=later, dry_run=dry_run) for dry_run in (True, False)] == [1, 1]
    assert not ImportFile.objects.exists()


def test_a_portfolio_is_made_for_an_account_when_the_file_is_recorded(client, ada, savings):
    ada.user_permissions.add(Permission.objects.get(codename="add_portfolio"))
    send(client, savings, in_json(ROW, ROW | {"accountId": "a2"}))
    mapped = {ACCOUNT: "new", "new_base_currency": "usd", "new_tracks_cash": "on", "new_method": "average"}
    text = confirm(client, savings, **mapped).text
    assert said(text) == [
        "Savings: 1 would be recorded, 0 were there already.",
        "Broker: 1 would be recorded, 0 were there already.",
    ]
    # What it is made with is folded away until a portfolio is to be made.
    assert "<details open>" in text
    assert "<details>" in confirm(client, savings).text
    assert ada.portfolios.count() == 1
    assert "Broker: 1 recorded" in said(confirm(client, savings, **mapped, record="1").text)[1]
    made = ada.portfolios.get(name="Broker")
    settings = (made.base_currency, made.tracks_cash, made.method, made.transactions.count())
    assert settings == ("USD", True, "average", 1)


def test_nothing_is_made_where_a_row_is_wrong_a_name_is_taken_or_it_is_not_allowed(client, ada, savings):
    send(client, savings, in_json(ROW, ROW | {"accountId": "a2", "type": "SELL"}))
    assert "Select a valid choice" in confirm(client, savings, **{ACCOUNT: "new"}, record="1").text
    ada.user_permissions.add(Permission.objects.get(codename="add_portfolio"))
    asked = {ACCOUNT: "new", "new_base_currency": "USD", "record": "1"}
    assert "1 row is wrong" in confirm(client, savings, **asked).text
    assert "is not a known currency" in confirm(client, savings, **asked | {"new_base_currency": "QQQ"}).text
    assert "A portfolio needs one." in confirm(client, savings, **asked | {"new_base_currency": ""}).text
    assert "Select a valid choice" in confirm(client, savings, **asked | {"new_method": "LIFO"}).text
    make_portfolio(ada, "Broker")
    assert "There is a portfolio Broker already" in confirm(client, savings, **asked).text
    assert sorted(ada.portfolios.values_list("name", flat=True)) == ["Broker", "Savings"]
    assert not Transaction.objects.exists()


def test_operators_are_asked_for_what_has_no_asset_or_no_past(client, ada, savings):
    close(make_asset("LATE"), "2024-03-01", "1")
    close(make_asset("GOOD"), "2024-01-01", "1")
    rows = [ROW | {"symbol": symbol} for symbol in ("GONE", "LATE", "GOOD")]
    send(client, savings, in_json(*rows, ROW | {"symbol": "GONE", "date": "2023-05-01"}))
    text = confirm(client, savings).text
    for asset, day, why in (
        ("GONE", "2023-05-01", "There is no such asset."),
        ("LATE", "2024-01-02", "Prices begin on 2024-03-01."),
    ):
        assert f"<td>{asset}</td><td>{day}</td><td>{why}</td>" in text
    assert "<td>GOOD</td><td>2024-01-02</td><td>" not in text
    assert not PriceRequest.objects.exists()
    for _ in range(2):
        assert "The operators were asked for them." in confirm(client, savings, ask="1").text
    asked = PriceRequest.objects.values_list("owner", "symbol", "currency", "since")
    assert {(*row[:3], str(row[3])) for row in asked} == {
        (ada.pk, "GONE", "USD", "2023-05-01"),
        (ada.pk, "LATE", "USD", "2024-01-02"),
    }
    assert not Transaction.objects.exists()


SHORT = "date,symbol,price,quantity\n"


def test_a_file_without_currency_and_kind_takes_those_of_the_page(client, savings):
    send(client, savings, f"{SHORT}2024-01-02,ACME,5,2\n".encode())
    text = client.get(reverse("portfolio_import_confirm", args=[savings.pk])).text
    assert said(text) == ["Savings: 1 would be recorded, 0 were there already."]
    assert re.search(r'<input type="text" name="currency" value="EUR"', text)
    assert '<option value="buy" selected>purchases</option>' in text
    assert "QQQ is not a known currency" in confirm(client, savings, currency="qqq", kind="buy", record="1").text
    assert not Transaction.objects.exists()
    confirm(client, savings, currency="usd", kind="dividend", record="1")
    row = Transaction.objects.get()
    assert (row.kind, row.currency, row.amount) == ("dividend", "USD", 10)


def test_fields_are_asked_for_where_the_file_leaves_them_open(client, savings):
    send(client, savings, in_json(ROW))
    text = client.get(reverse("portfolio_import_confirm", args=[savings.pk])).text
    asked = set(re.findall(r' name="(currency|kind|date_order|leave_out)"', text))
    assert asked == {"leave_out"}


def test_the_order_of_dates_is_chosen_where_the_file_leaves_it_open(client, savings):
    send(client, savings, f"{SHORT}10/03/2023,ACME,5,2\n".encode())
    given = {"currency": "EUR", "kind": "buy"}
    text = confirm(client, savings, **given, date_order="day_first").text
    # What the page before did not ask for is chosen as on a first page.
    assert re.search(rf'name="{mapping_field("symbol", "ACME")}" value="ACME"', text)
    assert f'<option value="{savings.pk}" selected>Savings</option>' in text
    text = confirm(client, savings, **given, record="1").text
    assert "10/03/2023 is 2023-03-10 with the day first, and 2023-10-03 with the month first" in text
    assert not Transaction.objects.exists()
    confirm(client, savings, **given, date_order="month_first", record="1")
    assert f"{Transaction.objects.get().at:%Y-%m-%d}" == "2023-10-03"


def leave_out_of(text):
    """Return the rows that the page would leave out."""
    return re.search(r'name="leave_out"(?: value="([^"]*)")?', text)[1]


def test_rows_are_left_out_on_purpose_and_named(client, savings):
    sale = ROW | {"date": "2024-02-01", "type": "SELL", "quantity": 5}
    rows = [ROW, ROW | {"type": "LOAN"}, ROW | {"date": "soon"}, sale, ROW | {"quantity": 3}]
    send(client, savings, in_json(*rows))
    text = confirm(client, savings).text
    ticks = set(re.findall(r'<input type="checkbox" name="leave" value="(\d+)" form="mapping"', text))
    assert (ticks, "2 rows are wrong" in text, "Leave out 2 wrong rows" in text) == ({"2", "3"}, True, True)
    # One ticked row leaves the other wrong, and a sale needs its purchase.
    text = confirm(client, savings, leave=["2"], record="1").text
    assert (leave_out_of(text), "1 row is wrong" in text) == ("2", True)
    text = confirm(client, savings, leave=["1"], leave_out="2", leave_wrong="1").text
    assert (leave_out_of(text), "1 row is wrong" in text) == ("1-4", False)
    assert said(text) == ["Savings: 1 would be recorded, 0 were there already."]
    assert 'name="record"' in text
    assert not Transaction.objects.exists()
    text = confirm(client, savings, leave_out="2-3", record="1").text
    assert said(text) == ["Savings: 3 recorded, 0 were there already. See Savings"]
    assert "2 rows left out" in text
    for why, row in (("You left it out: type: LOAN is not known", 2), ("You left it out: date: soon is no", 3)):
        assert re.search(rf'<td class="text">{why}[^<]*</td><td class="text">{row}</td>', text)
    assert Transaction.objects.count() == 3


def test_what_is_left_out_of_right_rows_makes_wrong_what_needs_it(client, savings):
    sale = ROW | {"date": "2024-02-01", "type": "SELL"}
    send(client, savings, in_json(ROW, ROW | {"date": "soon"}, sale))
    text = confirm(client, savings, leave_out="1, 2", record="1").text
    assert '<td>3</td><td class="text">quantity: Only 0 is held on 2024-02-01, so 2 cannot leave.</td>' in text
    assert not Transaction.objects.exists()


def test_choices_of_assets_stay_where_other_rows_are_left_out(client, ada, savings):
    bolt = make_asset("BOLT")
    send(client, savings, in_json(ROW | {"symbol": "AAA"}, ROW | {"symbol": "XX1"}))
    symbol = mapping_field("symbol", "XX1")
    text = confirm(client, savings, leave_out="1", **{symbol: "BOLT"}).text
    assert re.search(rf'name="{symbol}" value="BOLT"', text)
    confirm(client, savings, leave_out="1", **{symbol: "BOLT"}, record="1")
    assert Transaction.objects.get().asset == bolt


@pytest.mark.parametrize("written", ["x", "0", "3-2", "1-50001", "-1", "1;2"])
def test_what_is_no_row_is_refused_beside_its_field(client, savings, written):
    send(client, savings, in_json(ROW))
    text = confirm(client, savings, leave_out=f"1, {written}", leave=["7", "x", "0" * 9], record="1").text
    assert f"{written} is no row of a file; write numbers like 3, 5-8." in text
    assert not Transaction.objects.exists()


def test_the_sample_file_is_read_without_an_error(client, savings):
    text = client.get(reverse("portfolio_import", args=[savings.pk])).text
    address = re.search(r'<a href="(/static/site/transactions\.csv[^"]*)" download>', text)[1]
    content = b"".join(client.get(address).streaming_content)
    read = read_activities(content)
    assert (read.errors, read.asks, len(read.rows)) == ([], frozenset(), read.row_count)
    assert read.row_count > 2
