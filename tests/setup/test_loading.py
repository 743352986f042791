"""`manage.py load`: a set-up from one YAML file, all of it or nothing."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from django.apps import apps
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from apps import yaml_files
from apps.market.models import Asset, AssetAlias, Feed, Split
from apps.notify.models import Channel, Notification, RuleChannel
from apps.notify.services import rotate_secret
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule, RuleState, RuleVersion
from apps.setup import loading as setup
from apps.sources import queries as sources_queries
from apps.sources.models import FeedSource, Listing
from apps.sources.providers.registry import PROVIDERS
from tests.builders import append_quotes, at, make_feed, make_notified_alerts, make_owner

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
GOOD = """
feeds:
  - {name: spot, interval: 5s, sources: [{provider: simulated, seed: 7, start_prices: {BTC-USD: 61230.25}}]}
assets:
  - {symbol: BTC-USD, name: Bitcoin, feed: spot, tags: [crypto], aliases: [BTC], listings: {coincap: bitcoin}}
channels:
  - {name: Inbox, kind: inbox}
  - {name: Mail, kind: email, to: ada@example.org}
rules:
  - name: Bitcoin rises
    assets: {tag: crypto}
    condition: {kind: rises, percent: 0.5, window: 5m}
    for: 1m
    trigger: once
    expires_at: 2030-01-31T12:00:00Z
    severity: critical
    channels: [Inbox, Mail]
"""
FEED = "feeds: [{name: spot, interval: 5s, sources: [{provider: simulated}]}]\n"
ASSET = FEED + "assets: [{symbol: A, feed: spot}]\n"


def write(tmp_path, content):
    path = tmp_path / "setup.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def load(path, owner="ada"):
    call_command("load", str(path), owner=owner)


def refusal_of(path, capsys, **options):
    """Load a file that is refused, and return the one line that says why."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        load(path, **options)
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert printed.err.startswith("load: ")
    return printed.err.removeprefix("load: ").rstrip("\n")


def rows():
    """Return the number of rows of every table."""
    return {model.__name__: model.objects.count() for model in apps.get_models()}


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


NO_ALIASES = "setup.yaml, line {}: aliases are not read here; write it out"
NO_CHARACTER = "setup.yaml, line {}: the text contains an invalid character"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "setup.yaml must have sections: feeds, assets, series, channels, rules"),
        ("just text", "setup.yaml must have sections: feeds, assets, series, channels, rules"),
        ("- a\n- b\n", "setup.yaml must have sections: feeds, assets, series, channels, rules"),
        ("fees: []\n", "fees: there is no such section; there are feeds, assets, series, channels, rules"),
        ("feeds: {name: spot}\n", "feeds must be a list of mappings"),
        ("feeds: [spot]\n", "feeds must be a list of mappings"),
        ("feeds:\n", "feeds must be a list of mappings"),
        ("feeds: [\n", "setup.yaml, line 2: expected the node content, but found '<stream end>'"),
        ("feeds: []\n\tassets: []\n", "setup.yaml, line 2: found character '\\t' that cannot start any token"),
        ("feeds: !!python/object:os.system []\n", "setup.yaml, line 1: could not determine a constructor for the tag "
         "'tag:yaml.org,2002:python/object:os.system'"),
        ("feeds: []\n---\nassets: []\n", "setup.yaml, line 2: but found another document"),
        (b"feeds: [\xff\xfe]\n", "setup.yaml is not UTF-8"),
        (b"\x00\x01\x02", "setup.yaml is not YAML"),
        pytest.param("[" * 100_000, "setup.yaml is not YAML", id="nested"),
        ('rules: [{name: "a\\0b"}]\n', NO_CHARACTER.format(1)),
        ('rules:\n- {name: a, assets: ["\\ud800"]}\n', NO_CHARACTER.format(2)),
        ("feeds: [{name: spot, sources: [{provider: simulated}]}]\n", "feeds[0]: interval is missing"),
        ("feeds: [{name: spot, interval: 5s}]\n", "feeds[0]: sources is missing"),
        ("feeds: [{name: spot, interval: 5s, sources: [], speed: 1}]\n",
         "feeds[0]: speed is not known here; known are name, interval, sources, time_policy, jump_percent, "
         "switch_step_percent, silent_after"),
        ("feeds: [{name: spot, interval: 5, sources: [{provider: simulated}]}]\n",
         "feeds[0].interval: is not a duration; write it like 10s, 5m, 24h or 30d"),
        ("feeds: [{name: spot, interval: 8d, sources: [{provider: simulated}]}]\n",
         "feeds[0]: Constraint “feed_interval_from_1_second_to_7_days” is violated."),
        ("feeds: [{name: Spot!, interval: 5s, sources: [{provider: simulated}]}]\n",
         "feeds[0]: name: Use 1 to 64 small letters, digits and dashes."),
        ("feeds: [{name: spot, interval: 5s, sources: simulated}]\n",
         "feeds[0]: sources must be a list like [{provider: simulated}]"),
        ("feeds: [{name: spot, interval: 5s, sources: [{seed: 7}]}]\n",
         "feeds[0]: sources must be a list like [{provider: simulated}]"),
        ("feeds: [{name: spot, interval: 5s, sources: [{provider: oracle}]}]\n",
         f"feeds[0]: unknown provider 'oracle'; known are {', '.join(sorted(PROVIDERS))}"),
        (FEED + "assets: [{feed: spot}]\n", "assets[0]: symbol is missing"),
        (FEED + "assets: [{symbol: A}]\n", "assets[0]: feed is missing"),
        (FEED + "assets: [{symbol: A, feed: other}]\n", "assets[0]: feed: there is no feed other"),
        (FEED + "assets: [{symbol: A, feed: spot}, {symbol: ../.., feed: spot}]\n",
         "assets[1]: symbol: Use 1 to 64 capital letters, digits and . _ : / - (like BTC-USD)."),
        (FEED + "assets: [{symbol: A, feed: spot, tags: crypto}]\n",
         'assets[0]: tags: Write a list of words, like ["crypto", "stablecoin"].'),
        (FEED + "assets: [{symbol: A, feed: spot, calendar: {code: XNYS, zone: America/New_York}}]\n",
         "assets[0]: calendar must be a text"),
        (FEED + "assets: [{symbol: A, feed: spot, name: [A]}]\n", "assets[0]: name must be a text"),
        (FEED + "assets: [{symbol: A, feed: spot, colour: red}]\n",
         "assets[0]: colour is not known here; known are symbol, feed, name, currency, base_currency, calendar, "
         "signed, tags, aliases, listings, splits"),
        (FEED + "assets: [{symbol: A, feed: spot, aliases: B}]\n",
         "assets[0]: aliases must be a list of names like [BTC]"),
        (FEED + "assets: [{symbol: A, feed: spot, aliases: [[1]]}]\n",
         "assets[0]: aliases must be a list of names like [BTC]"),
        (FEED + "assets: [{symbol: A, feed: spot, aliases: [b]}]\n",
         "assets[0]: name: Use 1 to 64 capital letters, digits and . _ : / - (like BTC-USD)."),
        (FEED + "assets: [{symbol: A, feed: spot, aliases: [A]}]\n",
         "assets[0]: name: A is an asset's symbol already."),
        (FEED + "assets: [{symbol: A, feed: spot, aliases: [C]}, {symbol: B, feed: spot, aliases: [C]}]\n",
         "assets[1]: aliases: C is A already"),
        (FEED + "assets: [{symbol: A, feed: spot, listings: bitcoin}]\n",
         "assets[0]: listings must be a mapping like {coincap: bitcoin}"),
        (FEED + "assets: [{symbol: A, feed: spot, calendar: XXXX}]\n",
         "assets[0]: calendar: Use the code of an exchange in docs/setup.md, like XNYS, or none."),
        (FEED + "assets: [{symbol: A, feed: spot, currency: usd}]\n",
         "assets[0]: currency: Use 2 to 12 capital letters and digits (like USD)."),
        (FEED + "assets: [{symbol: A, feed: spot, currency: EUR, listings: {coincap: bitcoin}}]\n",
         "assets[0]: external_id: bitcoin at coincap is in USD, and A is in EUR."),
        (FEED + "assets: [{symbol: A, feed: spot, listings: {COINCAP: bitcoin}}]\n",
         "assets[0]: provider: unknown provider 'COINCAP'; known are "
         + ", ".join(sorted(PROVIDERS))),
        (FEED.replace("sources", "time_policy: never, sources"),
         "feeds[0]: time_policy: Value 'never' is not a valid choice."),
        (FEED.replace("sources", "jump_percent: -1, sources"),
         "feeds[0]: jump_percent: Ensure this value is greater than or equal to 0."),
        (FEED.replace("sources", "silent_after: 9s, sources"),
         "feeds[0]: It is silent after its interval at the earliest, and after 10 s to 30 days."),
        (FEED.replace("sources", "silent_after: soon, sources"),
         "feeds[0].silent_after: is not a duration; write it like 10s, 5m, 24h or 30d"),
        (FEED.replace("sources", "switch_step_percent: 101, sources"),
         "feeds[0]: switch_step_percent: Ensure this value is less than or equal to 100."),
        (FEED.replace("sources", "switch_step_percent: some, sources"),
         "feeds[0]: switch_step_percent must be a whole number, like 5"),
        (FEED + "assets: [{symbol: A, feed: spot, listings: {coincap: }}]\n",
         "assets[0]: external_id: This field cannot be null."),
        (FEED + "assets: [{symbol: A, feed: spot, listings: {coincap: " + "x" * 129 + "}}]\n",
         "assets[0]: external_id: Ensure this value has at most 128 characters (it has 129)."),
        (FEED + "assets: [{symbol: A, feed: spot, listings: {coincap: x}}, "
         "{symbol: B, feed: spot, listings: {coincap: x}}]\n",
         "assets[1]: Listing with this Provider and External id already exists."),
        ("channels: [{kind: inbox}]\n", "channels[0]: name and kind are needed, like {name: Inbox, kind: inbox}"),
        ("channels: [{name: A, kind: pigeon}]\n",
         "channels[0]: unknown kind 'pigeon'; known are apprise, email, inbox, slack, telegram, webhook"),
        ("channels: [{name: A, kind: inbox, 5: x, to: y}]\n",
         "channels[0]: unknown setting '5'; a channel of kind inbox has nothing"),
        ("channels: [{name: A, kind: inbox, quiet_from: [22], quiet_until: 7:00}]\n",
         "channels[0]: quiet_from must be a text"),
        ("channels: [{name: A, kind: inbox, quiet_from: 25:00, quiet_until: 7:00}]\n",
         "channels[0]: quiet_from: “25:00” value has the correct format (HH:MM[:ss[.uuuuuu]]) but it is an invalid "
         "time."),
        ("channels: [{name: A, kind: inbox, wants_resolved: no}]\n",
         "channels[0]: wants_resolved must be true or false"),
        ("channels: [{name: A, kind: inbox, wants_resolved: 1}]\n",
         "channels[0]: wants_resolved must be true or false"),
        ("channels: [{name: A, kind: inbox, repeat_minutes: 010}]\n",
         "channels[0]: repeat_minutes must be a whole number, like 5"),
        ("rules: []\nfeeds: []\nrules: []\n", "setup.yaml, line 3: the key 'rules' is there twice"),
        (FEED.replace("sources", "jump_percent: 0x10, sources"),
         "feeds[0]: jump_percent must be a whole number, like 5"),
        (FEED.replace("simulated", "simulated, seed: 010"), "feeds[0]: seed must be a whole number"),
        (FEED.replace("simulated", "simulated, seed: 1.5"), "feeds[0]: seed must be a whole number"),
        (FEED.replace("simulated", "simulated, volatility: 1:30"), "feeds[0]: volatility must be a number from 0 to 1"),
        (FEED.replace("simulated", "simulated, start_prices: {A: 0951}"),
         "feeds[0]: start_prices: the price of 'A' is malformed"),
        (FEED + "assets: [{symbol: true, feed: spot}]\n", "assets[0]: symbol must be a text"),
        (FEED + "assets: [{symbol: A, feed: spot, listings: {coincap: false}}]\n",
         "assets[0]: listings: coincap must be a text"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: above, level: 010}}]\n",
         "rules[0].condition.level: is not a number; write it like 10 or '0.995'"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: above, level: 1:30}}]\n",
         "rules[0].condition.level: is not a number; write it like 10 or '0.995'"),
        (ASSET + "rules: [{name: R, assets: [A], enabled: NO, condition: {kind: above, level: 1}}]\n",
         "rules[0].enabled: must be true or false"),
        (ASSET + "rules:\n- name: R\n  assets: [A]\n  condition: {kind: above, level: 1, level: 2}\n",
         "setup.yaml, line 6: the key 'level' is there twice"),
        ("channels: [{name: A, kind: inbox, group_wait_seconds: 601}]\n",
         "channels[0]: group_wait_seconds: Ensure this value is less than or equal to 600."),
        ("channels: [{name: A, kind: inbox, repeat_minutes: soon}]\n",
         "channels[0]: repeat_minutes must be a whole number, like 5"),
        ("channels: [{name: A, kind: email, to: 'a@b.c,evil@x'}]\n",
         "channels[0]: 'to' must be one address, like you@example.org"),
        (ASSET + "rules: [{assets: [A], condition: {kind: above, level: 1}}]\n", "rules[0]: name is missing"),
        (ASSET + "rules: [{name: R, assets: [A]}]\n",
         "rules[0].condition: must be a mapping like {kind: above, level: 100}"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: above, level: .nan}}]\n",
         "rules[0].condition.level: is not a number; write it like 10 or '0.995'"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: above, level: 1.0e+999999999}}]\n",
         "rules[0].condition.level: is not a number; write it like 10 or '0.995'"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: rises, percent: 1, window: 5s}}]\n",
         "rules[0].condition.window: must be from 10s to 400d"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: above, level: 1}, colour: red}]\n",
         "rules[0].colour: is not known here; known are assets, condition, cooldown, enabled, expires_at, for, "
         "keep_firing, trigger"),
        (ASSET + "rules: [{name: R, assets: [A, B], condition: {kind: above, level: 1}}]\n",
         "rules[0].assets[1]: there is no asset B"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: above, level: 1}, channels: [Mail]}]\n",
         "rules[0]: channels: ada has no channel Mail"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: above, level: 1}, channels: [[Mail]]}]\n",
         "rules[0]: channels must be a list of names"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: above, level: 1}, channels: Mail}]\n",
         "rules[0]: channels must be a list of names"),
        (ASSET + "rules: [{name: R, assets: [A], condition: {kind: above, level: 1}, severity: loud}]\n",
         "rules[0]: severity: Value 'loud' is not a valid choice."),
        (ASSET + "rules: [{name: &a R, assets: [*a], condition: {kind: above, level: 1}}]\n", NO_ALIASES.format(3)),
        ("feeds: &a [*a]\n", NO_ALIASES.format(1)),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_one_line_and_nothing_is_written(tmp_path, capsys, content, line):
    make_owner()
    before = rows()

    said = refusal_of(write(tmp_path, content), capsys)

    assert said == line
    assert rows() == before


def test_a_bad_row_at_the_end_undoes_the_good_ones_before_it(tmp_path, capsys):
    make_owner()
    before = rows()

    refusal_of(write(tmp_path, GOOD + "  - {name: last}\n"), capsys)

    assert rows() == before


def test_aliases_of_aliases_are_refused_at_once(tmp_path, capsys):
    make_owner()
    lines = ["feeds: []", "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{one}: &a{one} [{', '.join([f'*a{one - 1}'] * 9)}]" for one in range(1, 40)]
    began = time.monotonic()

    said = refusal_of(write(tmp_path, "\n".join(lines)), capsys)

    assert said == NO_ALIASES.format(3)
    assert time.monotonic() - began < 1


def test_a_file_that_is_too_large_is_refused_unread(tmp_path, capsys, monkeypatch):
    make_owner()
    monkeypatch.setattr(yaml_files, "LARGEST_BYTES", len(ASSET) - 1)

    assert refusal_of(write(tmp_path, ASSET), capsys) == f"setup.yaml is larger than {len(ASSET) - 1} bytes"
    assert Feed.objects.count() == 0


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path, capsys):
    make_owner()

    assert refusal_of(tmp_path / "gone.yaml", capsys) == "gone.yaml cannot be read: No such file or directory"
    assert refusal_of(tmp_path, capsys) == f"{tmp_path.name} cannot be read: Is a directory"


def test_an_unknown_owner_is_refused(tmp_path, capsys):
    said = refusal_of(write(tmp_path, GOOD), capsys, owner="nobody")

    assert said == "--owner: there is no user nobody; make one with createsuperuser"
    assert Feed.objects.count() == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("time,symbol,price\n2026-01-01T00:00:00Z,A,1\n2026-01-01T00:00:01Z,A,x\n", "line 3: 'x' is not a number"),
        ("time,symbol\n", "line 1: the header has no column price"),
    ],
)
def test_a_broken_recording_is_refused_with_its_line(tmp_path, capsys, content, why):
    make_owner()
    recording = tmp_path / "recording.csv"
    recording.write_text(content)
    content = f"feeds: [{{name: recording, interval: 1s, sources: [{{provider: recording, path: {recording}}}]}}]\n"

    said = refusal_of(write(tmp_path, content), capsys)

    assert said in (f"feeds[0]: recording.csv, {why}", f"feeds[0]: recording.csv, {why.replace('price', 'close')}")
    assert Feed.objects.count() == 0


@pytest.mark.parametrize(
    ("there", "then"),
    [("5s", "6s"), ("provider: simulated", "provider: coincap"), ("simulated}", "simulated, seed: 8}"),
     ("[{provider: simulated}]", "[{provider: simulated}, {provider: coincap}]")],
)  # fmt: skip
def test_a_feed_that_is_there_with_other_settings_is_not_passed_over(tmp_path, capsys, there, then):
    make_owner()
    load(write(tmp_path, FEED))

    said = refusal_of(write(tmp_path, FEED.replace(there, then)), capsys)

    assert said == "feeds[0]: the feed spot is there already, with other settings; change it in the admin"


def test_a_set_up_beyond_the_quota_is_refused_whole(tmp_path, capsys, settings):
    settings.RULES_PER_OWNER = 1
    make_owner()
    rules = "".join(f"- {{name: R{one}, assets: [A], condition: {{kind: above, level: 1}}}}\n" for one in range(2))

    said = refusal_of(write(tmp_path, ASSET + "rules:\n" + rules), capsys)

    assert said == "rules[1]: an owner has at most 1 rules; delete one first"
    assert (Rule.objects.count(), Feed.objects.count()) == (0, 0)


WRONG = [None, "", 5, 1.5, True, [], [[]], {}, {"a": ["b"]}, "x", b"hi", {5: 6, "a": 7}, 10**30]
KEYS = ["name", "interval", "sources", "symbol", "feed", "tags", "listings", "kind", "to", "assets", "condition", "for"]


@pytest.mark.parametrize("key", [*KEYS, "aliases", "trigger", "expires_at", "severity", "channels"])
def test_a_value_of_the_wrong_kind_is_taken_whole_or_refused_with_one_line(tmp_path, capsys, key):
    make_owner()
    before = rows()
    said = set()

    for value in WRONG:
        document = yaml.safe_load(GOOD)
        for row in (row for section in document.values() for row in section if key in row):
            row[key] = value
        with transaction.atomic():
            said.add(outcome_of(write(tmp_path, yaml.safe_dump(document)), capsys, before))
            transaction.set_rollback(True)

    assert said <= {"taken", "refused"}
    assert "refused" in said


def outcome_of(path, capsys, before):
    capsys.readouterr()
    try:
        load(path)
    except SystemExit as stopped:
        lines = capsys.readouterr().err.count("\n")
        return "refused" if (stopped.code, lines, rows()) == (2, 1, before) else f"{stopped.code} after {lines} lines"
    return "taken"


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


@pytest.mark.parametrize(
    ("splits", "why"),
    [
        ("20:1", "splits must be a list like [{at: 2026-06-10T13:30:00Z, ratio: 20:1}]"),
        ("[{ratio: 20:1}]", "splits[0]: at is missing"),
        ("[{at: 2020-08-31T13:30:00Z, ratio: 4}]", "splits[0]: write new shares to old ones, like 20:1"),
        ("[{at: 2020-08-31T13:30:00Z, ratio: 4:4}]", "splits[0]: 4:4 is no split: nothing would change"),
        (
            "[{at: 2020-08-31 13:30, ratio: 4:1}]",
            "splits[0]: at is no time with a zone; write it like 2026-06-10T13:30:00Z",
        ),
        (
            "[{at: 2020-08-31T13:30:01Z, ratio: 4:1}]",
            "splits[0]: a split is effective from a whole minute on, like 13:30:00",
        ),
        ("[{at: 2020-08-31T13:30:00Z, ratio: 4:1, of: A}]", "splits[0]: of is not known here; known are at, ratio"),
    ],
)
def test_a_split_that_cannot_be_entered_is_refused_with_its_place(tmp_path, capsys, splits, why):
    make_owner()

    assert (
        refusal_of(write(tmp_path, FEED + f"assets: [{{symbol: A, feed: spot, splits: {splits}}}]"), capsys)
        == f"assets[0]: {why}"
    )
    assert rows()["Split"] == rows()["Asset"] == 0


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
