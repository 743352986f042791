"""The pages of portfolios outside the admin."""

import csv
import html
import io
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.portfolios.nights import last_day, record_night
from apps.portfolios.services import correct_transaction
from tests.builders import make_owner
from tests.portfolios.making import noon
from tests.portfolios.rows import (
    bought,
    close,
    columns,
    correct_closes,
    make_asset,
    make_portfolio,
    quote,
    record,
    sold,
    split_of,
)
from tests.site.portfolio_pages import cells, page

pytestmark = pytest.mark.django_db


def test_who_is_not_signed_in_is_sent_to_sign_in(client, savings):
    client.logout()
    names = (
        "portfolios",
        "portfolio",
        "performance",
        "portfolio_performance_part",
        "portfolio_nights",
        "portfolio_drift",
        "portfolio_drift_sentence",
        "portfolio_reconcile",
        "portfolio_download",
        "portfolio_as_ghostfolio",
    )
    for address in names:
        answer = client.get(reverse(address, args=[] if address == "portfolios" else [savings.pk]))
        assert (answer.status_code, answer.url.partition("?")[0]) == (302, reverse("login"))


def test_a_foreign_portfolio_and_none_get_the_same_bytes(client, ada, acme):
    theirs = make_portfolio(make_owner("eve"), "EVES")
    record(theirs, bought(acme))
    assert "EVES" not in client.get(reverse("portfolios")).text
    ways = (
        ("portfolio", []),
        ("performance", []),
        ("portfolio_performance_part", []),
        ("portfolio_nights", []),
        ("portfolio_drift", []),
        ("portfolio_drift_sentence", []),
        ("portfolio_download", []),
        ("portfolio_as_ghostfolio", []),
    )
    ways += (("holding", [acme.pk]), ("portfolio_parts", ["fees"]))
    for name, more in ways:
        foreign, missing = (client.get(reverse(name, args=[pk, *more])) for pk in (theirs.pk, theirs.pk + 1000))
        assert (foreign.status_code, foreign.content) == (404, missing.content)


def test_empty_pages_say_what_to_do(client, ada):
    assert "ask whoever runs this site for a place in the group Owner" in client.get(reverse("portfolios")).text
    savings = make_portfolio(ada)
    assert "No transactions yet." in page(client, "portfolio", savings).text
    assert "There is no day yet on which all that was held" in page(client, "performance", savings).text


def test_a_portfolio_shows_what_it_holds_and_how_its_value_came_about(client, savings, acme):
    record(savings, bought(acme, fee="10"), sold(acme, fee="2"))
    quote(acme, "150", at=timezone.now() - timedelta(hours=3))
    text = page(client, "portfolio", savings).text
    assert "<dd>900 EUR</dd>" in text
    assert "<dd>oldest price 3 h old</dd>" in text
    [row] = cells(text)
    assert row == ["ACME", "6", "150 EUR", "3 h", "900", "100 % 100 %", "600", "300", "294"]
    assert cells(text, 1) == [
        ["Came in from outside, less what went there", "512"],
        ["Gain of what was sold, before costs", "100"],
        ["Gain of what is held, before costs", "300"],
        ["Income", "0"],
        ["Fees", "-12"],
        ["Taxes", "0"],
        ["Currency gain on cash", "0"],
        ["Value", "900"],
    ]


def test_each_sum_opens_into_the_transactions_that_it_is_made_of(client, savings, acme):
    dividend = columns("2024-03-01", "dividend", asset=acme, amount="7", currency="EUR", notes="of spring")
    rows = record(savings, bought(acme, fee="10"), sold(acme, fee="2"), dividend)
    text = page(client, "portfolio", savings).text
    opened = set(re.findall(rf"/portfolios/{savings.pk}/of/(\w+)/", text))
    texts = {name: page(client, "portfolio_parts", savings, name).text for name in opened}
    assert "Nothing yet: no transaction adds to it." in texts.pop("taxes")
    found = {name: [tuple(row[:3]) for row in cells(text)] for name, text in texts.items()}
    received, purchase, sale = "dividend ACME of spring", "buy ACME", "sell ACME"
    days = {day[1]: day[0] for days in found.values() for day in days}
    assert found == {
        "flows": [
            (days[received], received, "-7"),
            (days[sale], sale, "-498"),
            (days[purchase], purchase, "1\u202f010"),
        ],
        "realised": [(days[sale], sale, "100")],
        "income": [("2024-03-01", received, "7")],
        "fees": [(days[sale], sale, "2"), (days[purchase], purchase, "10")],
    }
    assert {name: re.search("<b>(.*?)</b> in all", text)[1] for name, text in texts.items()} == {
        "flows": "505 EUR",
        "realised": "100 EUR",
        "income": "7 EUR",
        "fees": "12 EUR",
    }
    links = {text for name in found for text in re.findall(rf"/portfolios/{savings.pk}/transactions/\d+/", texts[name])}
    assert links == {reverse("portfolio_transaction", args=[savings.pk, row.pk]) for row in rows}
    assert {client.get(link).status_code for link in links} == {200}
    assert page(client, "portfolio_parts", savings, "booked").status_code == 404


def test_parts_say_by_which_price_and_exchange_rate(client, ada):
    euro, acme, other = (
        make_asset("EUR-USD", "USD", base_currency="EUR"),
        make_asset("ACME", "USD"),
        make_asset("OTHER"),
    )
    close(euro, "2024-01-01", "1.25")
    close(acme, "2024-01-31", "200", at=noon("2024-01-31"))
    savings, theirs = make_portfolio(ada), make_portfolio(ada, "Other")
    moved = columns("2024-02-02", "transfer", asset=acme, quantity="2", to_portfolio=theirs)
    brought = columns("2024-03-02", "delivery_in", asset=other, quantity="1", amount="5", currency="EUR")
    record(
        savings,
        bought(acme, currency="USD", fee="10"),
        sold(acme, currency="USD", rate="0.5", fee="4", fee_currency="EUR"),
        moved,
        brought,
    )
    by = "0.8: EUR-USD 1 / 1.25 of 2024-01-01 20:00"
    fees = cells(page(client, "portfolio_parts", savings, "fees").text)
    assert [row[2:] for row in fees] == [["4", "4 EUR", ""], ["8", "10 USD", by]]
    [sale] = cells(page(client, "portfolio_parts", savings, "realised").text)
    # 500 USD at 0.5 for 320 EUR; a part of 0.4 of the fee of the purchase, 8 EUR, and that of the sale.
    assert sale[2:] == [
        *("-70", "7.2", "-77.2", "4", "2024-01-02", "500 USD", "0.5, written", "400 USD"),
        *("320", "50", "-120"),
    ]
    flows = {row[1]: row[2:] for row in cells(page(client, "portfolio_parts", savings, "flows").text)}
    assert flows == {
        "delivery in OTHER": ["not known", "5 EUR", ""],
        "transfer ACME": ["-320", "2 × 200 USD of 2024-01-31 12:00", by],
        "sell ACME": ["-246", "500 USD, fee 4 EUR", "0.5, written"],
        "buy ACME": ["808", "1\u202f000 USD, fee 10 USD", by],
    }
    assert cells(page(client, "portfolio_parts", theirs, "flows").text)[0][2:] == [
        *("320", "2 × 200 USD of 2024-01-31 12:00", by)
    ]
    [moving] = [row for row in cells(page(client, "holding", savings, acme.pk).text, 3) if row[1] == "transfer"]
    assert moving[-1] == f"200 USD of 2024-01-31 12:00; {by}"


def test_what_was_sold_of_one_asset_is_listed(client, ada, savings, acme):
    other = make_asset("OTHER")
    record(savings, bought(acme, fee="10"), bought(other), sold(acme, fee="2"), sold(other, amount="404"))
    text = page(client, "holding", savings, acme.pk).text
    realised = {row[0]: row[1] for row in cells(text, 2)}
    assert realised["Gain of what was sold, before costs"] == "100"
    assert realised["Gain of what was sold, after costs"] == "94"
    address = re.search(r'href="(\S*/of/realised/\S*)"', text)[1]
    sales = client.get(address).text
    assert [row[1] for row in cells(sales)] == ["sell ACME"]
    assert "<b>100 EUR</b> in all, 94 after costs." in sales
    assert len(cells(page(client, "portfolio_parts", savings, "realised").text)) == 2
    # What it never held, and the flows, which are of no asset.
    for name, pk in (("realised", 999_999), ("realised", "x"), ("flows", acme.pk)):
        assert page(client, "portfolio_parts", savings, name, asset=pk).status_code == 404


def test_parts_come_500_at_a_time(client, savings, acme):
    record(savings, *(columns("2024-01-02", "fee", asset=acme, amount=str(n), currency="EUR") for n in range(1, 503)))
    first = page(client, "portfolio_parts", savings, "fees").text
    more = html.unescape(re.search(r'href="(\?newer[^"]*)">Older ones \((\d+)\)', first)[1])
    second = client.get(reverse("portfolio_parts", args=[savings.pk, "fees"]) + more).text
    amounts = [int(row[2]) for text in (first, second) for row in cells(text)]
    assert (len(cells(first)), sorted(amounts)) == (500, list(range(1, 503)))
    assert "Older ones" not in second


def test_what_is_missing_is_said_and_never_zero(client, savings, acme):
    other = make_asset("OTHER", "USD")
    record(savings, bought(acme), bought(other, currency="USD"))
    quote(other, "5")
    text = page(client, "portfolio", savings).text
    assert "ACME has no price yet." in text
    assert "No exchange rate leads from the currency of OTHER to the base currency." in text
    assert "The exchange rate of USD on 2024-01-02 is not known" in text
    assert "<dd>not known</dd>" in text
    assert [row[4] for row in cells(text)] == ["not known", "not known"]


def test_a_split_that_makes_a_sale_wrong_is_said(client, savings, acme):
    record(savings, bought(acme), sold(acme))
    split_of(acme, "2024-01-15", 1, 10)
    assert "Only 1 is held on 2024-02-01, so 4 cannot leave." in page(client, "portfolio", savings).text


def test_a_number_opens_into_lots_price_rates_and_transactions(client, savings):
    euro, acme = make_asset("EUR-USD", "USD", base_currency="EUR"), make_asset("ACME", "USD")
    close(euro, "2024-01-01", "1.25")
    record(savings, bought(acme, currency="USD", fee="10"))
    quote(acme, "150", at=timezone.now() - timedelta(hours=3))
    quote(euro, "2", at=timezone.now() - timedelta(hours=5), provider="frankfurter")
    text = page(client, "holding", savings, acme.pk).text
    why = {row[0]: row[1:] for row in cells(text)}
    assert why["Value"] == ["750", "10 × 150 USD × 0.5"]
    assert why["Price"][1].endswith("3 h old, by kraken")
    assert why["Exchange rate"] == ["0.5", "EUR-USD 1 / 2 by frankfurter, 5 h old"]
    assert (why["Gain"][0], why["· price part"][0], why["· currency part"][0]) == ("-50", "250", "-300")
    assert why["Gain after costs"] == ["-58", "less 8 of fees and taxes of the purchases"]
    assert cells(text, 1) == [
        ["2024-01-02", "10", "", "10", "1\u202f000 USD", "0.8", "800", "750", "-50", "250", "-300"]
    ]
    [row] = cells(text, 3)
    assert row[-1] == "0.8: EUR-USD 1 / 1.25 of 2024-01-01 20:00"


def test_all_transactions_are_downloaded_to_the_last_digit(client, ada, savings, acme):
    other = make_portfolio(ada, "Other, new")
    exact = {"quantity": "3.000000000000000001", "notes": 'first, "of" all\nthese', "external_id": "A1"}
    moved = columns("2024-03-01", "transfer", asset=acme, quantity="1", to_portfolio=other)
    record(savings, moved, bought(acme, rate="1.5", fee="0.10", **exact))
    answer = client.get(reverse("portfolio_download", args=[savings.pk]))
    assert answer["Content-Disposition"] == f'attachment; filename="portfolio-{savings.pk}.csv"'
    first, second = csv.DictReader(io.StringIO(answer.text))
    assert {name: value for name, value in first.items() if value} == {
        **{"kind": "buy", "at": "2024-01-02T12:00:00+00:00", "has_time": "False", "asset": "ACME", "fee": "0.1"},
        **{"amount": "1000", "currency": "EUR", "tax": "0", "rate": "1.5", **exact},
    }
    assert (second["kind"], second["to_portfolio"], second["quantity"]) == ("transfer", "Other, new", "1")


@pytest.mark.parametrize("note", ["=1+1", "+1", "-1", "@sum", "\tx", "'quoted", "plain"])
def test_a_note_is_no_formula_in_a_spreadsheet(client, savings, acme, note):
    record(savings, bought(acme, notes=note))
    [row] = csv.DictReader(io.StringIO(client.get(reverse("portfolio_download", args=[savings.pk])).text))
    assert row["notes"] == (note if note == "plain" else f"'{note}")


def test_a_transfer_is_listed_where_it_came_to(client, ada, savings, acme):
    other = make_portfolio(ada, "Other")
    record(savings, bought(acme), columns("2024-03-01", "transfer", asset=acme, quantity="4", to_portfolio=other))
    text = page(client, "portfolio", other).text
    assert cells(text)[0][:2] == ["ACME", "4"]
    assert "transfer" in text


def test_cash_is_shown_in_each_currency(client, ada):
    savings = make_portfolio(ada, tracks_cash=True)
    record(savings, columns("2024-01-02", "deposit", amount="1000", currency="EUR"))
    text = page(client, "portfolio", savings).text
    assert cells(text, 0) == [["EUR", "1\u202f000", "1\u202f000", ""]]


def test_a_balance_opens_into_the_transactions_that_moved_it(client, ada, acme):
    savings = make_portfolio(ada, tracks_cash=True)
    _, changed, fee, _ = record(
        savings,
        columns("2024-01-02", "deposit", amount="1000", currency="EUR"),
        columns("2024-01-03", "conversion", amount="9", currency="EUR", counter_amount="10", counter_currency="USD"),
        bought(acme, day="2024-01-04", amount="100", fee="1", fee_currency="USD"),
        bought(acme, day="2024-01-05", amount="100"),
    )
    [address] = re.findall(r'href="([^"]*currency=USD)"', page(client, "portfolio", savings).text)
    assert {one.pk for one in client.get(address).context["page"]} == {changed.pk, fee.pk}


@pytest.mark.parametrize("name", ["portfolio", "performance"])
def test_a_page_costs_the_same_however_much_it_shows(client, savings, acme, name, django_assert_max_num_queries):
    def statements():
        with django_assert_max_num_queries(16) as asked:
            page(client, name, savings)
        return len(asked)

    record(savings, bought(acme))
    quote(acme, "1")
    few = statements()
    for number in range(3):
        other = make_asset(f"OTHER-{number}")
        quote(other, "1")
        record(savings, *[bought(other)] * 3)
    assert statements() == few
    assert few <= 12 or name == "performance"


def test_a_day_as_it_was_known_stands_beside_todays_computation(client, savings, acme):
    assert "Nothing is recorded yet." in page(client, "portfolio_nights", savings).text
    close(acme, "2024-02-01", "100")
    record(savings, bought(acme))
    for day in (2, 3):
        record_night(portfolio_id=savings.pk, now=noon(f"2024-02-0{day}"))
    oldest = "oldest price 2024-02-01 20:00"
    assert cells(page(client, "portfolio_nights", savings).text) == [
        [f"2024-02-02 {oldest}", "1\u202f000 EUR flows 0", "1\u202f000 flows 0", "none", "", "", ""],
        [f"2024-02-01 {oldest}", "1\u202f000 EUR flows 0", "1\u202f000 flows 0", "none", "", "", ""],
    ]
    record(savings, bought(acme, "2024-02-02", quantity="1", amount="90"))
    correct_closes(acme, "90")
    first, second = cells(page(client, "portfolio_nights", savings).text)
    assert first[1:] == ["1\u202f000 EUR flows 0", "990 flows 90", "-10", "90", "-100", "0"]
    assert second[2:] == ["900 flows 0", "-100", "0", "-100", "0"]
    assert len(cells(page(client, "portfolio_nights", savings, before="2024-02-02").text)) == 1


def test_two_days_that_are_not_known_are_not_the_same(client, savings, acme):
    record(savings, bought(acme))
    record_night(portfolio_id=savings.pk, now=noon("2024-02-02"))
    [row] = cells(page(client, "portfolio_nights", savings).text)
    assert row[2:] == ["not known flows 0", *["not known"] * 4]


def test_the_list_has_the_value_of_each_portfolio_with_its_age_and_its_change(client, ada, acme):
    """1000 of 2024-02-01 by the close of 100; then 110."""
    savings, unknown = make_portfolio(ada, "Alpha"), make_portfolio(ada, "Beta")
    close(acme, "2024-02-01", "100")
    record(savings, bought(acme))
    record(unknown, bought(make_asset("NONE")), bought(acme, quantity="1"))
    record_night(portfolio_id=savings.pk, now=timezone.now())
    night = str(last_day(timezone.now()))
    quote(acme, "110", at=timezone.now() - timedelta(hours=2))
    assert cells(client.get(reverse("portfolios")).text) == [
        ["Alpha", "1\u202f100 EUR", "2 h old", f"100 (10 %) {night}", "fifo", "not tracked"],
        ["Beta", "not known 110 EUR without what is not known", "2 h old", "", "fifo", "not tracked"],
    ]
    quote(acme, "90", at=timezone.now())
    assert "−10 %" in cells(client.get(reverse("portfolios")).text)[0][3]


@pytest.mark.parametrize("change", ["recorded", "corrected"])
def test_what_a_transaction_has_changed_is_no_change_of_the_market(client, savings, acme, change):
    close(acme, "2024-02-01", "100")
    [row] = record(savings, bought(acme))
    record_night(portfolio_id=savings.pk, now=timezone.now())
    night = str(last_day(timezone.now()))
    quote(acme, "110")
    assert cells(client.get(reverse("portfolios")).text)[0][3] == f"100 (10 %) {night}"
    if change == "recorded":
        record(savings, bought(acme, quantity="1"))
    else:
        correct_transaction(row=row, columns={"quantity": Decimal(11)}, by=savings.owner, now=timezone.now())
    assert cells(client.get(reverse("portfolios")).text)[0][3] == ""


def test_the_list_says_where_a_split_has_come_in_since(client, savings, acme):
    record(savings, bought(acme))
    quote(acme, "1")
    split_of(acme, "2024-06-01", 2, 1)
    assert (
        cells(client.get(reverse("portfolios")).text)[0][1] == "A split has come in: open the portfolio for its value."
    )
    page(client, "portfolio", savings)
    assert cells(client.get(reverse("portfolios")).text)[0][1] == "20 EUR"


def test_the_list_costs_the_same_statements_for_1_portfolio_and_for_9(client, ada, acme, django_assert_max_num_queries):
    def statements():
        with django_assert_max_num_queries(14) as asked:
            client.get(reverse("portfolios"))
        return len(asked)

    quote(acme, "1")
    record(make_portfolio(ada, "First"), bought(acme))
    few = statements()
    for number in range(8):
        other = make_asset(f"OTHER-{number}")
        quote(other, "1")
        record(make_portfolio(ada, f"More {number}"), bought(other), bought(acme))
    assert statements() == few
