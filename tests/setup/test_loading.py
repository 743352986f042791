"""`manage.py load`: a set-up from one YAML file, all of it or nothing."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from apps.market.models import Asset, AssetAlias, Feed, Split
from apps.notify.models import Channel, Notification, RuleChannel
from apps.notify.services import rotate_secret
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule, RuleState, RuleVersion
from apps.setup import loading as setup
from apps.sources import queries as sources_queries
from apps.sources.models import FeedSource, Listing
from tests.builders import append_quotes, at, make_feed, make_notified_alerts, make_owner
from tests.setup.loading import ASSET, FEED, GOOD, load, refusal_of, rows, write

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def test_a_good_file_makes_its_rows(tmp_path, capsys):
    ada = make_owner()

    load(write(tmp_path, GOOD))

    assert capsys.readouterr().out == "Loaded: 1 feed, 1 asset, 0 derived series, 2 channels, 1 rule.\n"
    assert Feed.objects.values_list("name", "interval_seconds").get() == ("spot", 5)
    assert FeedSource.objects.get().options["start_prices"] == {"BTC-USD": "61230.25"}
    assert Asset.objects.values_list("symbol", "name", "tags").get() == ("BTC-USD", "Bitcoin", ["crypto"])
    assert AssetAlias.objects.values_list("asset__symbol", "name").get() == ("BTC-USD", "BTC")
    assert Listing.objects.values_list("provider", "external_id").get() == ("coincap", "bitcoin")
    assert list(Channel.objects.values_list("owner", "name", "config")) == [
        (ada.pk, "Inbox", {}),
        (ada.pk, "Mail", {"to": "ada@example.org"}),
    ]
    assert Rule.objects.values_list("owner", "name", "severity").get() == (ada.pk, "Bitcoin rises", "critical")
    document = RuleVersion.objects.get().document
    assert (document["condition"]["percent"], document["for"]) == ("0.5", "1m")
    assert document["expires_at"] == "2030-01-31T12:00:00Z"
    assert RuleChannel.objects.count() == 2


@pytest.mark.parametrize("content", [GOOD, (setup.Path(setup.__file__).parent / "demo.yaml").read_text()])
def test_a_good_file_twice_changes_nothing(tmp_path, content):
    make_owner()
    path = write(tmp_path, content)
    load(path)
    before = rows()

    load(path)

    assert rows() == before


def test_texts_are_taken_as_they_are_written(tmp_path):
    make_owner()
    symbols = ["7203", "000660", "0700", "12:30", "NO", "ON", "1E3"]
    listed = ", ".join(symbols)
    asset = "- {symbol: %s, name: %s, feed: spot, tags: [%s], aliases: [X%s, 1%s], listings: {kraken: %s}}\n"
    assets = "".join(asset.replace("%s", one) for one in symbols)
    token = "123456789:" + "A" * 35
    channels = f"- {{name: 0700, kind: telegram, token: {token}, chat: -1001, quiet_from: 22:00, quiet_until: 7:00}}\n"
    rules = f"- {{name: 010, assets: [{listed}], condition: {{kind: above, level: 1e-8}}, channels: [0700]}}\n"
    load(write(tmp_path, FEED + "assets:\n" + assets + "channels:\n" + channels + "rules:\n" + rules))

    assert set(Asset.objects.values_list("symbol", "name")) == {(one, one) for one in symbols}
    assert [asset.tags for asset in Asset.objects.order_by("pk")] == [[one] for one in symbols]
    assert set(Listing.objects.values_list("external_id", flat=True)) == set(symbols)
    assert set(AssetAlias.objects.values_list("name", flat=True)) == {
        f"{mark}{one}" for one in symbols for mark in "X1"
    }
    channel = Channel.objects.get(name="0700")
    assert (channel.config["chat"], f"{channel.quiet_from} {channel.quiet_until}") == ("-1001", "22:00:00 07:00:00")
    document = RuleVersion.objects.get(rule__name="010").document
    assert (document["assets"], document["condition"]["level"]) == (symbols, "0.00000001")


def test_options_are_read_by_their_types(tmp_path):
    make_owner()
    source = (
        "provider: simulated, seed: 7, step_seconds: 2, volatility: 1e-8, drift: 0, jump_size: 0.5, "
        "start_prices: {NO: 0.10, 0700: 1e3}, "
        "script: [{kind: pump, after: 10s, duration: 5m, percent: 12.5, symbol: NO}]"
    )
    recording = "provider: recording, path: usdc-depeg-2023-03.csv.gz, speed: 1.5, start: 1678406460"
    feeds = "".join(
        f"- {{name: feed{n}, interval: 5s, sources: [{{{one}}}]}}\n" for n, one in enumerate([source, recording])
    )
    path = write(tmp_path, "feeds:\n" + feeds)
    load(path)
    load(path)

    simulated, recorded = (one.options for one in FeedSource.objects.order_by("feed__name"))
    numbers = {"seed": 7, "step_seconds": 2, "volatility": 1e-8, "drift": 0, "jump_size": 0.5}
    assert {name: simulated[name] for name in numbers} == numbers
    assert simulated["start_prices"] == {"NO": "0.10", "0700": "1e3"}
    assert (simulated["script"][0]["percent"], simulated["script"][0]["symbol"]) == (12.5, "NO")
    assert (recorded["speed"], recorded["start"]) == (1.5, "1678406460")


def test_a_feed_has_the_columns_that_its_file_says_and_keeps_those_that_it_does_not(tmp_path, capsys):
    make_owner()
    columns = "time_policy: receipt, jump_percent: 7, switch_step_percent: 2, silent_after: 1h"
    said = FEED.replace("sources", f"{columns}, sources")

    load(write(tmp_path, said))
    load(write(tmp_path, said))
    load(write(tmp_path, FEED))

    columns = ("time_policy", "jump_percent", "switch_step_percent", "silent_after_seconds")
    assert Feed.objects.values_list(*columns).get() == ("receipt", 7, 2, 3_600)
    assert refusal_of(write(tmp_path, said.replace("7", "8")), capsys) == (
        "feeds[0]: the feed spot is there already, with other settings; change it in the admin"
    )


def test_a_file_moves_an_asset_only_where_nothing_is_known_of_it(tmp_path, capsys):
    make_owner()
    feed, other = make_feed("A", "B", name="spot"), make_feed(name="other")
    append_quotes(feed, [("A", at(0), "1")])
    moved = "assets: [{symbol: %s, feed: other}]\n"

    load(write(tmp_path, moved % "B"))
    refused = refusal_of(write(tmp_path, moved % "A"), capsys)

    assert refused == "assets[0]: feed: A has quotes or rules in spot; its page in the admin moves it"
    assert set(Asset.objects.values_list("symbol", "feed")) == {("A", feed.pk), ("B", other.pk)}


def test_what_is_left_blank_is_none(tmp_path):
    make_owner()
    load(write(tmp_path, FEED + "assets: [{symbol: A, feed: spot, name: , currency: , calendar: }]\n"))
    assert Asset.objects.values_list("symbol", "name", "currency", "calendar").get() == ("A", "", "", "")


def test_an_edited_file_edits_by_name(tmp_path):
    make_owner()
    load(write(tmp_path, GOOD))
    edited = GOOD.replace("percent: 0.5", "percent: 1").replace("name: Bitcoin,", "name: Gold,").replace(", Mail]", "]")

    load(write(tmp_path, edited.replace("coincap: bitcoin", "coincap: gold").replace("ada@", "bob@")))

    assert [one.document["condition"]["percent"] for one in RuleVersion.objects.order_by("number")] == ["0.5", "1"]
    assert (Asset.objects.get().name, Listing.objects.get().external_id) == ("Gold", "gold")
    assert Channel.objects.get(name="Mail").config == {"to": "bob@example.org"}
    assert RuleChannel.objects.get().channel.name == "Inbox"


def test_a_file_twice_makes_no_new_secret_and_keeps_the_one_that_is_being_retired(tmp_path):
    make_owner()
    path = write(tmp_path, "channels: [{name: Hook, kind: webhook, url: 'https://example.org/hook'}]\n")
    load(path)
    rotate_secret(channel=Channel.objects.get())
    before = Channel.objects.get().transport_settings

    load(path)

    assert Channel.objects.get().transport_settings == before
    assert before.keys() == {"url", "secret", "previous_secret"}


def test_other_quiet_hours_let_go_of_what_the_old_ones_hold_back(tmp_path):
    owner = make_owner()
    (alert,) = make_notified_alerts(owner, 1)
    channel = Channel.objects.get()
    notification = Notification.objects.create(
        event=alert.events.get(),
        channel=channel,
        repeat=1,
        deferred_by=Notification.Deferral.QUIET,
        due_at=timezone.now() + DAY,
    )
    said = f"{{name: {channel.name}, kind: inbox, quiet_from: '22:00', quiet_until: '07:00'}}"

    load(write(tmp_path, f"channels: [{said}]\n"))

    notification.refresh_from_db()
    assert notification.due_at <= timezone.now()


def test_an_empty_section_is_nothing_to_do(tmp_path, capsys):
    make_owner()

    load(write(tmp_path, "rules: []\n"))

    assert capsys.readouterr().out == "Loaded: 0 feeds, 0 assets, 0 derived series, 0 channels, 0 rules.\n"


def test_the_file_to_begin_with_pairs_only_providers_that_mean_the_same_currency():
    make_owner("ada")
    load(Path(setup.__file__).parent / "starter.yaml")
    symbols = {feed.name: set(feed.assets.values_list("symbol", flat=True)) for feed in Feed.objects.all()}
    rates = set(Listing.objects.filter(provider="frankfurter").values_list("external_id", flat=True))

    assert {symbol.partition("-")[2] for symbol in symbols["crypto-usd"]} == {"USD"}
    assert {symbol.partition("-")[2] for symbol in symbols["crypto-usdt"]} == {"USDT"}
    assert {symbol.replace("-", "/") for symbol in symbols["ecb-euro"]} == rates
    assert all(symbol.endswith(f"-{money}") for symbol, money in Asset.objects.values_list("symbol", "currency"))


def test_the_shares_to_begin_with_are_asked_one_at_a_time_within_a_free_key():
    make_owner("ada")
    load(Path(setup.__file__).parent / "starter-shares.yaml")

    # 25 calls a day, for two feeds.
    assert sources_queries.seconds_between_rounds(["alphavantage"]) == 2 * 86_400 / 25
    assert set(FeedSource.objects.values_list("feed__name", "provider")) == {
        ("shares-usd", "alphavantage"),
        ("shares-brl", "alphavantage"),
    }


def test_splits_of_an_asset_are_entered_once(tmp_path):
    make_owner()
    splits = "splits: [{at: 2020-08-31T13:30:00Z, ratio: 4:1}, {at: 2014-06-09T09:30:00-04:00, ratio: 7:1}]"
    path = write(tmp_path, FEED + f"assets: [{{symbol: A, feed: spot, {splits}}}]")

    for _ in range(2):
        load(path)

    rows = Split.objects.values_list("effective_at", "numerator", "denominator", "entry__seq")
    assert [(f"{moment:%Y-%m-%dT%H:%M%z}", *row) for moment, *row in rows] == [
        ("2014-06-09T13:30+0000", 7, 1, 2),
        ("2020-08-31T13:30+0000", 4, 1, 1),
    ]


def test_loading_rules_again_confirms_none_that_a_split_has_paused(tmp_path):
    make_owner()
    rule = "rules: [{name: High, assets: [A], condition: {kind: above, level: 100}}]"
    path = write(tmp_path, ASSET + rule)
    load(path)
    feed = Feed.objects.get()
    append_quotes(feed, [("A", at(0), "10")])
    append_quotes(feed, [], as_of=at(120))
    load(
        write(
            tmp_path,
            ASSET.replace("feed: spot}", "feed: spot, splits: [{at: 2026-03-02T12:01:00Z, ratio: 20:1}]}") + rule,
        )
    )
    evaluate_pending(feed_id=feed.pk)
    load(path)
    evaluate_pending(feed_id=feed.pk)

    assert list(RuleState.objects.values_list("state", flat=True)) == ["paused"]
