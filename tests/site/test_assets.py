"""The page of an asset, and what it gives as CSV."""

import csv
import io

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.alerts.models import Alert
from apps.market.models import Asset, AssetAlias
from apps.market.queries import every_asset
from apps.market.quote_files import rows_of
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import RuleState
from apps.site.market import movement, sparkline
from tests.builders import (
    above,
    append_owned,
    append_quotes,
    at,
    make_feed,
    make_member,
    make_owned,
    make_owner,
    make_rule,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _public(settings):
    settings.MARKET_IS_PUBLIC = True


@pytest.fixture
def ada(client):
    """Return an owner who is signed in and may make rules."""
    ada = make_member("ada", is_staff=True)
    client.force_login(ada)
    return ada


def fire(owner, symbol="BTC-USD", *, rules=1):
    """Let the rules of an owner fire on an asset."""
    feed = Asset.objects.get(symbol=symbol).feed if Asset.objects.filter(symbol=symbol).exists() else make_feed(symbol)
    for number in range(rules):
        make_rule(owner, name=f"{owner} {feed.head.seq} {number}", assets=[symbol], condition=above(10))
    append_quotes(feed, [(symbol, at(0), "9")])
    append_quotes(feed, [(symbol, at(1), "11")])
    evaluate_pending(feed_id=feed.pk)


def page(client, name, view="asset", **query):
    return client.get(reverse(view, args=[name]), query)


def test_a_stranger_sees_a_public_price_and_nobodys_rules_and_alerts(client):
    fire(make_owner("genevieve"))
    answer = page(client, "BTC-USD")
    assert "<b>11</b>" in answer.text
    assert "Sign in for alerts on this" in answer.text
    assert "genevieve" not in answer.text
    assert answer.context["chart"]["marks"] == answer.context["chart"]["levels"] == []


@pytest.mark.parametrize("view", ["asset", "asset_live", "asset_quotes", "asset_alerts"])
def test_a_stranger_signs_in_first_where_the_market_is_not_public(client, settings, view):
    settings.MARKET_IS_PUBLIC = False
    make_feed("BTC-USD")
    answer = page(client, "BTC-USD", view)
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("login"))


def test_alerts_are_given_to_nobody_who_is_not_signed_in(client):
    make_feed("BTC-USD")
    assert page(client, "BTC-USD", "asset_alerts")["Location"].startswith(reverse("login"))


def test_readers_see_their_own_rules_alerts_and_levels(client, ada):
    fire(ada)
    fire(make_owner("eve"))
    answer = page(client, "BTC-USD")
    assert [row["rule"].name for row in answer.context["rules"]] == ["ada 0 0"]
    assert "BTC-USD is above 10" in answer.text
    assert [one.rule.name for one in answer.context["alerts"]] == ["ada 0 0"]
    assert [(one["name"], one["price"]) for one in answer.context["chart"]["levels"]] == [("ada 0 0", 10.0)]
    assert [one["name"] for one in answer.context["chart"]["marks"]] == ["ada 0 0"]


def test_a_rule_that_does_not_fire_is_called_quiet_as_in_the_list_of_rules(client, ada):
    fire(ada)
    assert {row["label"] for row in page(client, "BTC-USD").context["rules"]} == {"firing"}
    RuleState.objects.update(state="inactive")
    answer = page(client, "BTC-USD")
    assert {row["label"] for row in answer.context["rules"]} == {"quiet"}
    assert '<span class="state inactive">quiet</span>' in answer.text


def test_the_form_of_a_new_alert_is_filled_in(client, ada):
    # So many that the asset's id has two digits.
    make_feed(*(f"A{number}" for number in range(10)), "BTC-USD")
    form = client.get(page(client, "BTC-USD").context["new_rule"]).context["adminform"].form
    shown = form["symbols"].value()
    assert [str(one) for one in (shown if isinstance(shown, list) else [shown])] == [
        str(Asset.objects.get(symbol="BTC-USD").pk)
    ]
    assert form["name"].value() == "Alert on BTC-USD"
    assert "selected>BTC-USD" in str(form["symbols"])


def test_an_owned_asset_is_answered_to_its_owner_alone(client, ada, admin_client):
    feed = make_owned(ada, "ADAS-RATIO")
    append_owned(feed, [("ADAS-RATIO", at(1), "11")])
    name = every_asset().get(symbol="ADAS-RATIO").external_id
    assert page(client, name).status_code == 200
    assert page(admin_client, name).status_code == 200
    client.force_login(make_owner("eve"))
    missing = page(client, "owned-4503599627370496")
    for asked in (name, "ADAS-RATIO"):
        for view in ("asset", "asset_live", "asset_quotes", "asset_alerts"):
            answer = page(client, asked, view)
            assert (answer.status_code, answer.text) == (404, missing.text)
    client.logout()
    assert page(client, name).status_code == 404


@pytest.mark.parametrize("symbol", ["EUR/USD", "A:B", "A//B", "A/../B", "A/.", "A.B_C-D"])
def test_symbols_with_odd_characters_have_an_address_that_browsers_leave_as_it_is(client, symbol):
    make_feed(symbol)
    address = reverse("asset", args=[symbol])
    assert address.count("/") == 3
    answer = client.get(address)
    assert answer.context["asset"].symbol == symbol
    assert page(client, symbol, "asset_quotes").status_code == 200
    assert '"' not in page(client, symbol, "asset_quotes")["Content-Disposition"].partition("=")[2].strip('"')


def test_other_names_lead_to_the_address_of_the_asset(client):
    make_feed("BTC-USD")
    AssetAlias.objects.create(asset=Asset.objects.get(), name="BTC")
    for name in ("btc", "BTC", "btc-usd"):
        answer = client.get(f"/assets/{name}/?period=week")
        assert (answer.status_code, answer["Location"]) == (302, "/assets/BTC-USD/?period=week")
    assert client.get("/assets/NONE/").status_code == 404


def test_a_comparison_is_drawn_and_a_wrong_name_is_said(client):
    feed = make_feed("BTC-USD", "ETH-USD", "NEW-USD")
    append_quotes(feed, [("BTC-USD", at(0), "10"), ("ETH-USD", at(0), "5")])
    chart = page(client, "BTC-USD", **{"with": "eth-usd"}).context["chart"]
    assert (chart["other"]["name"], [price for _, price in chart["other"]["points"]]) == ("ETH-USD", [5.0])
    assert "There is no other asset NONE." in page(client, "BTC-USD", **{"with": "NONE"}).text
    assert "NEW-USD has no prices in this period." in page(client, "BTC-USD", **{"with": "NEW-USD"}).text


@pytest.mark.parametrize("period", ["day", "week", "month", "year", "all", "nonsense"])
def test_each_period_has_a_chart(client, period):
    append_quotes(make_feed("BTC-USD"), [("BTC-USD", at(0), "10")])
    assert len(page(client, "BTC-USD", period=period).context["chart"]["bars"]) == 1


def test_changes_are_shown_and_left_out_where_the_price_may_be_negative(client):
    feed = make_feed("BTC-USD", "SPREAD", jump_percent=0)
    Asset.objects.filter(symbol="SPREAD").update(signed=True)
    append_quotes(feed, [("BTC-USD", at(0), "10"), ("SPREAD", at(0), "1")])
    append_quotes(feed, [("BTC-USD", at(86_400), "15"), ("SPREAD", at(86_400), "-1")])
    changes = dict(page(client, "BTC-USD").context["changes"])
    assert changes["24 hours"] == ("+50 %", "rose")
    assert changes["7 days"] is None
    assert page(client, "SPREAD").context["changes"] == []


def test_an_asset_without_a_price_says_what_would_bring_one(client, ada):
    make_feed("BTC-USD")
    Asset.objects.create(symbol="LOST")
    assert "once its feed is enabled" in page(client, "BTC-USD").text
    assert "it is in no feed" in page(client, "LOST").text
    assert "No rule watches it." in page(client, "LOST").text


def test_the_page_costs_the_same_statements_for_1_rule_and_for_9(client, ada, django_assert_num_queries):
    fire(ada)
    with CaptureQueriesContext(connection) as few:
        page(client, "BTC-USD")
    assert len(few) < 60
    fire(ada, rules=8)
    with django_assert_num_queries(len(few)):
        answer = page(client, "BTC-USD")
    assert len(answer.context["rules"]) == 9


def test_the_part_that_moves_is_what_stands_in_the_page(client, ada):
    fire(ada)
    whole, part = page(client, "BTC-USD").text, page(client, "BTC-USD", "asset_live")
    assert 'id="asset-price" data-live' in whole
    assert "no-store" in part["Cache-Control"]
    prices, _, below = part.text.partition('<div id="asset-below"')
    assert below in whole
    assert prices.strip() in whole


def test_quotes_are_given_in_the_form_that_imports_read(client, tmp_path):
    append_quotes(make_feed("BTC-USD", jump_percent=0), [("BTC-USD", at(0), "20989.19"), ("BTC-USD", at(1), "1e-9")])
    answer = page(client, "BTC-USD", "asset_quotes")
    assert answer["Content-Disposition"] == 'attachment; filename="quotes-BTC-USD.csv"'
    path = tmp_path / "quotes.csv"
    path.write_bytes(answer.content)
    found = [(row.quote.external_id, row.quote.at, row.quote.price) for row in rows_of(path, now=at(60))]
    assert [(symbol, moment, float(price)) for symbol, moment, price in found] == [
        ("BTC-USD", at(0), 20989.19),
        ("BTC-USD", at(1), 1e-9),
    ]


def test_alerts_are_given_as_text_that_no_spreadsheet_runs(client, ada):
    fire(ada)
    Alert.objects.update(note='=HYPERLINK("x")')
    head, row = csv.reader(io.StringIO(page(client, "BTC-USD", "asset_alerts").text))
    found = dict(zip(head, row, strict=True))
    assert (found["rule"], found["state"], found["note"]) == ("ada 0 0", "open", '\'=HYPERLINK("x")')


@pytest.mark.parametrize(("has_file", "script"), [(True, "site/live.js"), (False, "panel/chart.js")])
def test_without_the_file_of_npm_the_chart_is_plain(client, monkeypatch, has_file, script):
    append_quotes(make_feed("BTC-USD"), [("BTC-USD", at(0), "10")])
    monkeypatch.setattr("apps.site.assets.CHART_FILE", "site/live.js" if has_file else "npm/none.js")
    text = page(client, "BTC-USD").text
    assert script in text
    assert ("<canvas>" in text) is not has_file


def test_movements_have_a_sign_and_a_mood():
    assert movement(None) is None
    assert (movement(1), movement(-1), movement(0)) == (("+1 %", "rose"), ("−1 %", "fell"), ("0 %", ""))


def test_a_sparkline_spans_its_box():
    assert sparkline([]) == sparkline([(at(0), 1)]) == ""
    assert sparkline([(at(0), 1), (at(1), 3), (at(2), 2)]) == "0.0,32.0 60.0,0.0 120.0,16.0"
    assert sparkline([(at(0), 1), (at(1), 1)]) == "0.0,16.0 120.0,16.0"


@pytest.mark.parametrize(
    ("period", "hours", "is_said"), [("day", 12, True), ("week", 30, True), ("day", 30, False), ("all", 30, False)]
)
def test_a_period_from_whose_beginning_nothing_is_stored_says_so(client, ada, period, hours, is_said):
    append_quotes(make_feed("BTC-USD"), [("BTC-USD", at(0), "9"), ("BTC-USD", at(hours * 3600), "11")])
    text = page(client, "BTC-USD", period=period).text
    assert ("Stored prices begin" in text) == is_said
    assert (f", so this is less than a {period}." in text) == is_said
