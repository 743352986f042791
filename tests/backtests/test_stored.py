"""A rule tried on what is stored: the same as on a file of the same quotes, and as the pipeline found it live."""

from datetime import datetime, timedelta
from itertools import groupby

import pytest

from apps.alerts.models import Alert
from apps.backtests.evaluation import try_on_file, try_on_stored
from apps.market.models import Asset
from apps.pipeline.flow import evaluate_pending
from apps.rules.engine.rule import RuleSpec
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule
from tests.pipeline.recorded import RULES, SYMBOLS, write_recording

BEGIN, MIDDLE, END = "2023-03-11T05:00:00Z", "2023-03-11T06:00:00Z", "2023-03-11T07:00:00Z"
CHANGES = ("rises", "falls")
# What is evaluated by the clock too: entries come late, and some bring nothing of an asset.
CLOCKED = {
    "quiet": {"condition": {"kind": "stale", "after": "3m"}},
    "quiet or high": {"condition": {"any": [{"kind": "stale", "after": "2m"}, above(21_500)]}, "cooldown": "10m"},
    "not quiet": {"condition": {"all": [above(21_000), {"not": {"kind": "stale", "after": "2m"}}]}, "for": "2m"},
    "until half past six": {"condition": above(20_000), "expires_at": "2023-03-11T06:30:30Z"},
    "an event until half past six": {
        "condition": {"any": [{"kind": "crosses_up", "level": "20500"}, above(21_000)]},
        "expires_at": "2023-03-11T06:30:30Z",
    },
    "calm": {"condition": {"all": [{"not": {"kind": kind, "percent": "1", "window": "1h"}} for kind in CHANGES]}},
}
EVERY_RULE = RULES | CLOCKED
NOT_ADMITTED = ("repeated", "unconfirmed", "rejected", "rejected_by_reason", "wrong", "wrong_lines")


def ignore(_):
    """Take the progress, and go on."""


def moment(text):
    return datetime.fromisoformat(text)


def try_all(rules, *, since=BEGIN, until=END, symbols=SYMBOLS):
    """Return rule -> its report."""
    assets = list(Asset.objects.filter(symbol__in=symbols))
    return {
        name: try_on_stored(
            spec_of(document, symbols), assets=assets, since=moment(since), until=moment(until), progress=ignore
        )
        for name, document in rules.items()
    }


def spec_of(document, symbols=SYMBOLS):
    return RuleSpec.read({**document, "assets": list(symbols)})


def store(feed, rows, *, minutes=4, delay_seconds=0):
    """Append the rows (symbol, at, price) to the feed's log, in entries of so many minutes; each comes so late."""

    def entry(row):
        return int(row[1].timestamp()) // 60 // minutes

    for _, quotes in groupby(sorted(rows, key=lambda row: row[1]), key=entry):
        quotes = list(quotes)
        as_of = max(when for _, when, _ in quotes) + timedelta(seconds=delay_seconds)
        append_quotes(feed, [(symbol, when, str(price)) for symbol, when, price in quotes], as_of=as_of)


def episodes_of(reports):
    """Return (rule, symbol, opened, resolved) of every opening."""
    return {
        (name, one["asset"], moment(one["opened_at"]), one["resolved_at"] and moment(one["resolved_at"]))
        for name, report in reports.items()
        for one in report["openings"]
    }


def live_episodes():
    """Return the same of every alert on record."""
    return set(Alert.objects.values_list("rule__name", "asset__symbol", "opened_at", "resolved_at"))


@pytest.mark.django_db
def test_it_finds_what_a_file_of_the_same_quotes_gives(tmp_path, monkeypatch):
    recording = tmp_path / "recording.csv"
    rows = write_recording(recording, begin=BEGIN, end=END)
    store(make_feed(*SYMBOLS), rows)
    monkeypatch.setattr("apps.backtests.evaluation.QUOTES_AT_ONCE", 100)
    stored = try_all(RULES)
    on_file = {
        name: try_on_file(spec_of(one), recording, sweep=True, jump_percent=50, now=moment(END), progress=ignore)
        for name, one in RULES.items()
    }
    compared = on_file["rises"].keys() - {"quotes", "evaluated", *NOT_ADMITTED, "assets"}
    assert compared >= {"openings", "sweep", "messages", "suppressed", "seconds_in_state", "openings_per_day"}
    for name in RULES:
        assert {key: stored[name][key] for key in compared} == {key: on_file[name][key] for key in compared}, name
        assert stored[name]["quotes"] == on_file[name]["evaluated"] == len(rows)
    assert sum(len(report["openings"]) for report in stored.values()) == 20


@pytest.mark.django_db
@pytest.mark.parametrize(("minutes", "delay_seconds"), [(1, 0), (4, 45), (7, 200)])
def test_it_finds_what_the_pipeline_found_live_over_the_same_log(tmp_path, minutes, delay_seconds):
    rows = write_recording(tmp_path / "recording.csv", begin=BEGIN, end=END)
    # An asset that is quiet for a while, and one that ends early.
    quiet = [moment("2023-03-11T05:40:00Z"), moment("2023-03-11T05:52:00Z")]
    rows = [row for row in rows if not (row[0] == SYMBOLS[0] and quiet[0] <= row[1] < quiet[1])]
    rows = [row for row in rows if row[0] != SYMBOLS[1] or row[1] < moment("2023-03-11T06:50:00Z")]
    feed, owner = make_feed(*SYMBOLS), make_owner()
    for name, document in EVERY_RULE.items():
        make_rule(owner, name=name, assets=list(SYMBOLS), **document)
    store(feed, rows, minutes=minutes, delay_seconds=delay_seconds)
    evaluate_pending(feed_id=feed.pk)
    last = feed.head.__class__.objects.get(feed=feed).as_of

    found = episodes_of(try_all(EVERY_RULE, until=last.isoformat()))

    assert found == live_episodes()
    assert {name for name, *_ in found} >= EVERY_RULE.keys() - {"from the start"}


@pytest.mark.django_db
def test_windows_are_filled_from_before_as_those_of_a_new_rule(tmp_path):
    rows = write_recording(tmp_path / "recording.csv", begin=BEGIN, end=END)
    feed, owner = make_feed(*SYMBOLS), make_owner()
    store(feed, [row for row in rows if row[1] < moment(MIDDLE)])
    for name, document in EVERY_RULE.items():
        make_rule(owner, name=name, assets=list(SYMBOLS), **document)
    store(feed, [row for row in rows if row[1] >= moment(MIDDLE)])
    evaluate_pending(feed_id=feed.pk)

    found = try_all(EVERY_RULE, since=MIDDLE)

    assert episodes_of(found) == live_episodes()
    # A rule of an hour can be evaluated from the first quote on only by what was before.
    assert found["above its hour"]["seconds_in_state"].get("firing", 0) > 0
    assert len(found["below its hour"]["openings"]) > 0


@pytest.mark.django_db
def test_assets_of_several_feeds_are_tried_each_by_its_own_clock(tmp_path):
    rows = write_recording(tmp_path / "recording.csv", begin=BEGIN, end=END)
    owner = make_owner()
    feeds = [make_feed(symbol, name=symbol.lower()) for symbol in SYMBOLS]
    for name, document in EVERY_RULE.items():
        make_rule(owner, name=name, assets=list(SYMBOLS), **document)
    for index, (feed, symbol) in enumerate(zip(feeds, SYMBOLS, strict=True)):
        store(feed, [row for row in rows if row[0] == symbol], minutes=3 + index, delay_seconds=70 * index)
        evaluate_pending(feed_id=feed.pk)

    # To behind the last feed's clock; what an entry brings after the end is evaluated at the end.
    reports = try_all(EVERY_RULE, until="2023-03-11T07:10:00Z")

    assert episodes_of(reports) == live_episodes()
    assert {asset for _, asset, *_ in episodes_of(reports)} == set(SYMBOLS)
    assert reports["above"]["quotes"] == len(rows)


@pytest.mark.django_db
def test_late_quotes_and_quotes_of_others_are_not_evaluated():
    feed = make_feed("A", "B")
    append_quotes(feed, [("A", at(0), "9"), ("B", at(0), "20")])
    append_quotes(feed, [("A", at(10), "9")])
    append_quotes(feed, [("A", at(5), "20")], as_of=at(11))
    report = try_on_stored(
        spec_of({"condition": above(10)}, ["A"]),
        assets=list(Asset.objects.filter(symbol="A")),
        since=at(0),
        until=at(20),
        progress=ignore,
    )
    assert (report["quotes"], report["openings"]) == (2, [])


@pytest.mark.django_db
@pytest.mark.parametrize("condition", [above(10), {"kind": "stale", "after": "10s"}])
def test_both_ends_of_the_range_belong_to_it(condition):
    feed = make_feed("A")
    for second in (0, 1, 2, 3):
        append_quotes(feed, [("A", at(second), "11")])
    spec, assets = spec_of({"condition": condition}, ["A"]), list(Asset.objects.all())
    assert try_on_stored(spec, assets=assets, since=at(1), until=at(2), progress=ignore)["quotes"] == 2


@pytest.mark.django_db
@pytest.mark.parametrize("condition", [above(10), {"kind": "stale", "after": "10s"}])
def test_a_range_without_quotes_finds_nothing(condition):
    feed = make_feed("A")
    append_quotes(feed, [("A", at(0), "11")])
    report = try_on_stored(
        spec_of({"condition": condition}, ["A"]),
        assets=list(Asset.objects.all()),
        since=at(60),
        until=at(120),
        progress=ignore,
    )
    assert (report["quotes"], report["openings"], report["messages"], report["errors"]) == (0, [], 0, [])
    assert (report["openings_per_day"], report["seconds_in_state"]) == ({}, {})


@pytest.mark.django_db
def test_an_asset_that_was_silent_before_the_range_is_found_silent_by_the_clock():
    feed = make_feed("A", "B")
    append_quotes(feed, [("A", at(0), "11"), ("B", at(0), "1")])
    for second in (60, 120, 180):
        append_quotes(feed, [("B", at(second), "1")])
    report = try_on_stored(
        spec_of({"condition": {"kind": "stale", "after": "90s"}}, ["A"]),
        assets=list(Asset.objects.filter(symbol="A")),
        since=at(30),
        until=at(180),
        progress=ignore,
    )
    assert [(one["opened_at"], one["resolved_at"]) for one in report["openings"]] == [("2026-03-02T12:02:00Z", None)]
    assert report["seconds_in_state"]["firing"] == 60


@pytest.mark.django_db
def test_progress_rises_to_the_end_and_what_it_raises_stops_the_run(tmp_path, monkeypatch):
    store(make_feed(*SYMBOLS), write_recording(tmp_path / "recording.csv", begin=BEGIN, end=END))
    assets, spec = list(Asset.objects.all()), spec_of(RULES["rises"])
    parts = []
    monkeypatch.setattr("apps.backtests.evaluation.QUOTES_AT_ONCE", 50)
    try_on_stored(spec, assets=assets, since=moment(BEGIN), until=moment(END), progress=parts.append)
    assert len(parts) >= 2 * 60 * len(SYMBOLS) // 50
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1, abs=0.001)

    def stop(part):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        try_on_stored(spec, assets=assets, since=moment(BEGIN), until=moment(END), progress=stop)
