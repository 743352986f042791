"""The operators' pages of assets."""

from decimal import Decimal

import pytest
from django.urls import reverse

from apps.market.models import Asset, AssetAlias
from apps.market.queries import PathPoint
from apps.panel.kit.pages import Chart
from apps.sources.models import Backfill
from tests.builders import append_quotes, at, make_feed

NO_INLINES = {f"{prefix}-{count}_FORMS": "0" for prefix in ("listings", "aliases") for count in ("TOTAL", "INITIAL")}


@pytest.mark.django_db
def test_prices_show_without_trailing_zeros(admin_client):
    append_quotes(make_feed("FEED-0"), [("FEED-0", at(0), "1.50")])
    answer = admin_client.get(reverse("admin:market_asset_changelist"))
    assert ">1.5<" in answer.text


@pytest.mark.django_db
def test_an_asset_without_a_quote_shows_so(admin_client):
    make_feed("NEW-USD")
    asset = Asset.objects.get()
    assert "none yet" in admin_client.get(reverse("admin:market_asset_changelist")).text
    assert "none yet" in admin_client.get(reverse("admin:market_asset_change", args=[asset.pk])).text


@pytest.mark.django_db
def test_an_asset_is_edited_and_keeps_its_symbol(admin_client):
    make_feed("NEW-USD")
    asset = Asset.objects.get()
    admin_client.post(
        reverse("admin:market_asset_change", args=[asset.pk]),
        {
            "symbol": "OTHER-USD",
            "name": "New",
            "feed": asset.feed_id,
            "calendar": "XNYS",
            "tags": "fresh, two words ,,",
            **NO_INLINES,
            "listings-TOTAL_FORMS": "1",
            "listings-0-provider": "coincap",
            "listings-0-external_id": "new-coin",
            "aliases-TOTAL_FORMS": "1",
            "aliases-0-name": "NEW",
        },
    )
    asset.refresh_from_db()
    assert (asset.symbol, asset.name, asset.tags) == ("NEW-USD", "New", ["fresh", "two words"])
    assert asset.calendar == "XNYS"
    assert asset.listings.get().external_id == "new-coin"
    assert asset.aliases.get().name == "NEW"


@pytest.mark.django_db
def test_tags_are_shown_as_they_are_written(admin_client):
    make_feed("NEW-USD")
    asset = Asset.objects.get()
    Asset.objects.update(tags=["crypto", "stablecoin"])
    assert 'value="crypto, stablecoin"' in admin_client.get(reverse("admin:market_asset_change", args=[asset.pk])).text
    assert ">crypto, stablecoin<" in admin_client.get(reverse("admin:market_asset_changelist")).text


@pytest.mark.django_db
def test_an_assets_page_says_whether_it_is_traded_now(admin_client):
    make_feed("AAPL", "BTC-USD")
    Asset.objects.filter(symbol="AAPL").update(calendar="XNYS")
    pages = {
        asset.symbol: admin_client.get(reverse("admin:market_asset_change", args=[asset.pk])).text
        for asset in Asset.objects.all()
    }
    assert "; opens next at 20" in pages["AAPL"]
    assert '<option value="XNYS" selected>New York (NYSE): XNYS</option>' in pages["AAPL"]
    assert ">always open</div>" in pages["BTC-USD"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("tags", {"tags": "a\0b"}),
        ("tags", {"tags": "x" * 65}),
        ("symbol", {"symbol": "new usd"}),
        ("symbol", {"symbol": "TAKEN"}),
        ("name", {"name": "x" * 129}),
        ("feed", {"feed": "4711"}),
        ("calendar", {"calendar": "XXXX"}),
    ],
)
def test_an_asset_that_is_wrong_is_refused_beside_the_field(admin_client, field, wrong):
    make_feed("TAKEN")
    new = {"symbol": "NEW-USD", "tags": "", **NO_INLINES}
    answer = admin_client.post(reverse("admin:market_asset_add"), new | wrong)
    assert answer.status_code == 200
    assert list(answer.context["adminform"].form.errors) == [field]
    assert Asset.objects.get().symbol == "TAKEN"


@pytest.mark.django_db
def test_an_alias_that_is_an_assets_symbol_is_refused(admin_client):
    make_feed("NEW-USD", "OLD-USD")
    asset = Asset.objects.get(symbol="NEW-USD")
    answer = admin_client.post(
        reverse("admin:market_asset_change", args=[asset.pk]),
        {"tags": "", **NO_INLINES, "aliases-TOTAL_FORMS": "1", "aliases-0-name": "OLD-USD"},
    )
    assert "OLD-USD is an asset&#x27;s symbol already." in answer.text
    assert not AssetAlias.objects.exists()


@pytest.mark.django_db
def test_assets_are_found_by_symbol_name_and_alias_and_filtered_by_feed_tag_and_price(admin_client):
    append_quotes(make_feed("FEED-0"), [("FEED-0", at(0), "1.50")])
    make_feed("NEW-USD", name="other")
    asset = Asset.objects.get(symbol="NEW-USD")
    Asset.objects.filter(pk=asset.pk).update(name="Newcoin", tags=["fresh"])
    asset.aliases.create(name="NEWBIE")

    def listed(**parameters):
        rows = admin_client.get(reverse("admin:market_asset_changelist"), parameters).context["cl"].result_list
        return [one.symbol for one in rows]

    assert [listed(q=text) for text in ("new-usd", "newcoin", "newbie")] == [["NEW-USD"]] * 3
    assert [listed(feed__id__exact=asset.feed_id), listed(tag="fresh"), listed(price="none")] == [["NEW-USD"]] * 3
    assert [listed(price="known"), listed(tag="unheard-of")] == [["FEED-0"], []]


@pytest.mark.django_db
def test_an_assets_page_draws_its_last_day_and_lists_its_last_quotes(admin_client):
    feed = make_feed("BTC-USD")
    append_quotes(feed, [("BTC-USD", at(-2), "9"), ("BTC-USD", at(-1), "9.5")])
    append_quotes(feed, [("BTC-USD", at(86_399), "10.5")])
    answer = admin_client.get(reverse("admin:market_asset_change", args=[Asset.objects.get().pk]))
    (chart,) = answer.context["charts"]
    assert chart.data() == {
        "low": [{"x": 1772452799000, "y": 9.5}, {"x": 1772539199000, "y": 10.5}],
        "high": [{"x": 1772452799000, "y": 9.5}, {"x": 1772539199000, "y": 10.5}],
        "levels": [],
        "marks": [],
    }
    assert "2 points from 2026-03-02 11:59:59 UTC to 2026-03-03 11:59:59 UTC, lowest 9.5, highest 10.5." in answer.text
    quotes = next(table for table in answer.context["tables"] if table.title.startswith("Last quotes"))
    assert [(row[0], row[1], row[4]) for row in quotes.rows] == [
        (at(86_399), "10.5", "#2"),
        (at(-1), "9.5", "#1"),
        (at(-2), "9.0", "#1"),
    ]


@pytest.mark.django_db
def test_an_assets_chart_follows_the_chosen_period(admin_client):
    feed = make_feed("BTC-USD")
    for days in (-400, -300, -20, -5, 0):
        append_quotes(feed, [("BTC-USD", at(86_400 * days), "10")])
    address = reverse("admin:market_asset_change", args=[Asset.objects.get().pk])

    def drawn(query):
        (chart,) = admin_client.get(address + query).context["charts"]
        return len(chart.path), [name for name, _, is_shown in chart.periods if is_shown], chart.title

    assert drawn("") == (1, ["day"], "Prices of the last day (UTC)")
    assert drawn("?period=week")[:2] == (2, ["week"])
    assert drawn("?period=month")[:2] == (3, ["month"])
    assert drawn("?period=year")[:2] == (4, ["year"])
    assert drawn("?period=all") == (5, ["all"], "All stored prices (UTC)")
    assert drawn("?period=ever")[:2] == (1, ["day"])
    assert 'href="?period=year"' in admin_client.get(address).text


def test_a_level_is_drawn_where_it_would_not_press_the_prices_into_a_line():
    path = [PathPoint(at(0), Decimal(100), Decimal(100)), PathPoint(at(1), Decimal(104), Decimal(110))]
    levels = [(str(price), Decimal(price)) for price in (79, 80, 105, 130, 131)]
    drawn = Chart(title="", path=path, levels=levels, empty="").data()["levels"]
    assert drawn == [{"name": name, "price": float(name)} for name in ("80", "105", "130")]


@pytest.mark.django_db
def test_an_assets_page_without_a_price_says_what_brings_one(admin_client):
    make_feed("NEW-USD")
    answer = admin_client.get(reverse("admin:market_asset_change", args=[Asset.objects.get().pk]))
    assert "Prices come once its feed is enabled" in answer.text
    assert "price-chart" not in answer.text


@pytest.mark.django_db
def test_an_asset_with_quotes_is_not_deleted_and_one_without_is(admin_client):
    append_quotes(make_feed("FEED-0"), [("FEED-0", at(0), "1.50")])
    make_feed("TYPO-USD", name="other")
    quoted, unused = Asset.objects.get(symbol="FEED-0"), Asset.objects.get(symbol="TYPO-USD")
    refused = admin_client.post(reverse("admin:market_asset_delete", args=[quoted.pk]), {"post": "yes"})
    admin_client.post(reverse("admin:market_asset_delete", args=[unused.pk]), {"post": "yes"})
    assert refused.status_code == 403
    assert list(Asset.objects.all()) == [quoted]


@pytest.mark.django_db
def test_an_asset_whose_past_was_asked_for_in_vain_is_deleted(admin_client):
    make_feed("TYPO-USD")
    asset = Asset.objects.get()
    begun = at(0)
    Backfill.objects.create(
        asset=asset, provider="coinbase", since=begun, until=at(60), reached=begun, next_call_at=begun
    )
    page = reverse("admin:market_asset_delete", args=[asset.pk])
    assert "have permission to delete" not in admin_client.get(page).text

    admin_client.post(page, {"post": "yes"})

    assert (Asset.objects.exists(), Backfill.objects.exists()) == (False, False)
