"""What is wrong in a set-up file is refused in one line, and nothing is written."""

import time

import pytest
import yaml
from django.db import transaction

from apps import yaml_files
from apps.market.models import Feed
from apps.rules.models import Rule
from apps.sources.providers.registry import PROVIDERS
from tests.builders import make_owner
from tests.setup.loading import ASSET, FEED, GOOD, load, refusal_of, rows, write

pytestmark = pytest.mark.django_db
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
