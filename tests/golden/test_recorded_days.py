"""The recorded days, with rules of every kind and channels of every behaviour, give the alerts and the notifications of
the golden file.

The log is stored, evaluated and planned in this process, by a clock that the test sets, on any database. What is
compared has no database id and no sentence. Where something changes on purpose, write the golden file again and look
at the difference; the run that writes it fails, so that it never passes for a comparison:

    GOLDEN=write .venv/bin/pytest tests/golden
    git diff --stat tests/golden
"""

import csv
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.alerts.models import Alert
from apps.alerts.services import acknowledge
from apps.market.models import Asset, Feed
from apps.notify.models import Message, Notification
from apps.notify.queries import channels_to_plan
from apps.notify.services import (
    create_channel,
    create_silence,
    end_silences,
    enqueue_reminders,
    plan,
    schedule_reminders,
    set_channels,
)
from apps.pipeline.flow import evaluate_next
from apps.rules.models import Rule, RuleVersion
from apps.rules.services import delete_rule, save_rule
from apps.sources.providers.recording import RECORDINGS
from apps.sources.services import create_feed, fetch
from tests import builders

pytestmark = pytest.mark.django_db

GOLDEN = Path(__file__).parent / "recorded_days.json"
DIFFERENCES_SHOWN = 5

SYMBOLS = ("BTC-USD", "BTC-USDC", "BTC-USDT")
# What comes before the start is the history of the feed.
START = "2023-03-11T02:00:00Z"
END = "2023-03-12T22:00:00Z"
# Rows that are left out, so that prices become stale: symbol, from, until.
HOLES = (
    ("BTC-USDC", "2023-03-12T03:00:00Z", "2023-03-12T05:30:00Z"),
    ("BTC-USDT", "2023-03-12T06:10:00Z", "2023-03-12T06:40:00Z"),
)

# The wall clock goes on by one slot while the recording goes on by twenty minutes.
WALL_START = datetime(2023, 3, 20, 21, 40, tzinfo=UTC)
SLOT_SECONDS, SPEED = 15, 80

# Many of the levels are prices of the recording, so that it matters whether equality counts.
RULES: dict[str, dict[str, Any]] = {
    "above": {"condition": {"kind": "above", "level": "21000"}},
    "above, recovery": {"condition": {"kind": "above", "level": "21400", "recovery": "21249.99"}},
    "above, for": {"condition": {"kind": "above", "level": "20546.06"}, "for": "10m"},
    "above, once": {"condition": {"kind": "above", "level": "20400"}, "trigger": "once"},
    "above, keep firing": {"condition": {"kind": "above", "level": "22100"}, "keep_firing": "15m"},
    "below": {"condition": {"kind": "below", "level": "19900"}},
    "below, recovery": {"condition": {"kind": "below", "level": "20332.52", "recovery": "20388.01"}},
    "below, cooldown": {"condition": {"kind": "below", "level": "20215.25"}, "cooldown": "2h"},
    "below, expires": {
        "condition": {"kind": "below", "level": "20200", "recovery": "20210"},
        "expires_at": "2023-03-11T13:07:30Z",
    },
    "crosses up": {"condition": {"kind": "crosses_up", "level": "20546.06"}, "cooldown": "20m"},
    "crosses down": {"condition": {"kind": "crosses_down", "level": "22000"}},
    "crosses": {"condition": {"kind": "crosses", "level": "21500"}, "cooldown": "10m"},
    "inside": {"condition": {"kind": "inside", "low": "20404.01", "high": "20420"}, "for": "2m"},
    "outside": {"condition": {"kind": "outside", "low": "20039.36", "high": "22152.53"}},
    "enters": {"condition": {"kind": "enters", "low": "22016.82", "high": "22143.02"}, "cooldown": "5m"},
    "exits": {"condition": {"kind": "exits", "low": "20368.01", "high": "20661.66"}, "cooldown": "10m"},
    "rises": {"condition": {"kind": "rises", "percent": "1", "window": "5m"}},
    "rises, recovery": {"condition": {"kind": "rises", "percent": "2", "window": "30m", "recovery": "0.7"}},
    "rises from the start": {
        "condition": {"kind": "rises", "percent": "1.5", "window": "1h", "ref": "window_start"},
        "keep_firing": "5m",
    },
    "falls": {"condition": {"kind": "falls", "percent": "0.75", "window": "5m"}, "cooldown": "15m"},
    "falls and stays": {
        "condition": {"kind": "falls", "percent": "1", "window": "10m", "recovery": "0.5"},
        "for": "1m",
        "keep_firing": "4m",
    },
    "falls from the start": {
        "condition": {"kind": "falls", "percent": "1", "window": "1h", "ref": "window_start", "recovery": "0"},
    },
    "above its hours": {"condition": {"kind": "above_average", "percent": "2", "window": "6h"}, "for": "5m"},
    "above its day": {
        "condition": {
            "kind": "above_average",
            "percent": "5",
            "window": "1d",
            "min_coverage": "0.9",
            "recovery": "4",
        },
    },
    "below its hour": {"condition": {"kind": "below_average", "percent": "0.5", "window": "1h"}, "cooldown": "45m"},
    "far from its mean": {
        "condition": {"kind": "zscore", "n": "5", "window": "2h", "min_coverage": "0.75"},
        "keep_firing": "10m",
    },
    "stale": {"condition": {"kind": "stale", "after": "20m"}},
    "stale, for": {"condition": {"kind": "stale", "after": "10m"}, "for": "30m"},
    "all": {
        "condition": {
            "all": [{"kind": "above", "level": "20600"}, {"kind": "rises", "percent": "0.5", "window": "10m"}],
        },
        "cooldown": "1h",
    },
    "any": {
        "condition": {
            "any": [{"kind": "falls", "percent": "1.5", "window": "15m"}, {"kind": "below", "level": "19850"}],
        },
        "keep_firing": "3m",
    },
    "not": {
        "condition": {
            "all": [
                {"not": {"kind": "inside", "low": "20000", "high": "22200"}},
                {"any": [{"kind": "zscore", "n": "2", "window": "1h"}, {"kind": "stale", "after": "15m"}]},
            ],
        },
        "for": "3m",
    },
    "an event among others": {
        "condition": {
            "all": [
                {"kind": "crosses", "level": "21250"},
                {"kind": "below_average", "percent": "0", "window": "30m"},
            ],
        },
    },
    "edited": {"condition": {"kind": "above", "level": "20250", "recovery": "20230"}},
    "deleted": {"condition": {"kind": "above", "level": "20300"}},
    "paused": {"condition": {"kind": "above", "level": "20300"}, "enabled": False},
}
# A rule whose stored form cannot be read, as after a downgrade.
UNREADABLE = "unreadable"
SEVERITIES = ("warning", "critical", "info")


# What follows, until the comparison, is all that the test knows of the project: names may change here, data may not.

RECORDING = RECORDINGS / "usdc-depeg-2023-03.csv.gz"

CHANNELS: dict[str, dict[str, Any]] = {
    "at once": {"group_wait_seconds": 0},
    "grouped": {"group_wait_seconds": 40},
    "limited": {"group_wait_seconds": 0, "messages_per_minute": 1},
    "quiet": {
        "group_wait_seconds": 10,
        "quiet_from": time(23, 50),
        "quiet_until": time(0, 10),
        "quiet_zone": "Europe/Kyiv",
    },
    "quiet for all": {
        "group_wait_seconds": 0,
        "quiet_from": time(21, 55),
        "quiet_until": time(22, 5),
        "quiet_allow_critical": False,
    },
    "without ends": {"group_wait_seconds": 90, "wants_resolved": False},
    "reminded": {"group_wait_seconds": 0, "repeat_minutes": 4},
    "reminded, limited": {"group_wait_seconds": 20, "repeat_minutes": 2, "messages_per_minute": 2},
    "never sent": {"group_wait_seconds": 20},
}

# Today's name -> the name in the golden file: of fields and values of evidence, and of kinds.
NAMES = {
    # Fields.
    "after": "after",
    "all": "all",
    "any": "any",
    "at": "at",
    "before": "before",
    "change_percent": "change_percent",
    "clock": "clock",
    "coverage": "coverage",
    "deviations": "deviations",
    "difference_percent": "difference_percent",
    "high": "high",
    "kind": "kind",
    "level": "level",
    "low": "low",
    "mean": "mean",
    "min_coverage": "min_coverage",
    "n": "n",
    "newest_at": "newest_at",
    "not": "not",
    "percent": "percent",
    "previous": "previous",
    "price": "price",
    "recovery": "recovery",
    "ref": "ref",
    "reference": "reference",
    "result": "result",
    "window": "window",
    "window_from": "window_from",
    "window_to": "window_to",
    # Values of the fields `kind` and `ref`.
    "above": "above",
    "above_average": "above_average",
    "below": "below",
    "below_average": "below_average",
    "crosses": "crosses",
    "crosses_down": "crosses_down",
    "crosses_up": "crosses_up",
    "enters": "enters",
    "exits": "exits",
    "falls": "falls",
    "inside": "inside",
    "outside": "outside",
    "rises": "rises",
    "stale": "stale",
    "window_extreme": "window_extreme",
    "window_start": "window_start",
    "zscore": "zscore",
    # Kinds of alerts and of their events.
    "condition": "condition",
    "error": "error",
    "acknowledged": "acknowledged",
    "opened": "opened",
    "reminder": "reminder",
    "resolved": "resolved",
    # What holds a notification back.
    "": "",
    "silence": "silence",
    "quiet": "quiet",
}
NAMED_VALUES = {"kind", "ref"}
REMINDER = "reminder"


class World:
    """A feed that replays the recording, its rules and channels, and the steps that a deployment takes with them."""

    def __init__(self, recording: Path) -> None:
        self.owner = builders.make_owner()
        options = {"path": str(recording), "start": START, "speed": SPEED}
        self.feed: Feed = create_feed(
            name="recorded", interval_seconds=SLOT_SECONDS, sources=[("recording", options)], now=WALL_START
        )
        for symbol in SYMBOLS:
            Asset.objects.create(symbol=symbol, feed=self.feed)
        self.channels = [
            create_channel(owner=self.owner, name=name, kind="inbox", config={}, **options)
            for name, options in CHANNELS.items()
        ]
        self.sending = {channel.pk for channel in self.channels if channel.name != "never sent"}
        for name, document in RULES.items():
            self._add_rule(name, document)
        rule = self._add_rule(UNREADABLE, {"condition": {"kind": "above", "level": "1"}})
        RuleVersion.objects.filter(rule=rule).update(document={"assets": [*SYMBOLS], "condition": {"kind": "unheard"}})

    def _add_rule(self, name: str, document: dict[str, Any]) -> Rule:
        rule = self._save_rule(name, document)
        # Different channels for each rule, and each channel with rules of every severity.
        place, count = Rule.objects.count(), len(self.channels)
        set_channels(rule=rule, channels=[self.channels[place % count], self.channels[(place * 2 + 5) % count]])
        return rule

    def _save_rule(
        self, name: str, document: dict[str, Any], *, rule: Rule | None = None, now: datetime = WALL_START
    ) -> Rule:
        severity = rule.severity if rule else SEVERITIES[Rule.objects.count() // 2 % len(SEVERITIES)]
        written = {"assets": [*SYMBOLS], **document}
        return save_rule(
            owner=self.owner,
            name=name,
            document=written,
            severity=severity,
            rule=rule,
            now=now,
            trace_id=builders.TRACE,
        )

    def store_and_evaluate(self, *, slot: datetime) -> None:
        """Fetch what the recording gives for the slot, and evaluate all that is pending."""
        assert fetch(feed_id=self.feed.pk, slot=slot, now=slot, trace_id=builders.TRACE) is not None
        while evaluate_next(feed_id=self.feed.pk):
            pass

    def remind(self, *, now: datetime) -> None:
        """Add the reminders that are due."""
        enqueue_reminders(now=now)

    def plan_and_send(self, *, now: datetime) -> None:
        """Plan what is due on each channel; all of it gets through, but on the channel that never sends."""
        for channel_id in channels_to_plan(now=now):
            plan(channel_id=channel_id, now=now)
        unsent = Message.objects.filter(status=Message.Status.PENDING, channel__in=self.sending)
        unsent.update(status=Message.Status.DELIVERED, attempts=1, delivered_at=now)
        for channel in self.channels:
            schedule_reminders(channel=channel)

    def silence_asset(self, *, now: datetime) -> None:
        """Silence one asset for ten minutes."""
        asset = Asset.objects.get(symbol="BTC-USDT")
        create_silence(
            author=self.owner,
            owner=self.owner,
            asset=asset,
            starts_at=now,
            ends_at=now + timedelta(minutes=10),
            comment="asset",
        )

    def silence_severity(self, *, now: datetime) -> None:
        """Silence what is critical for two hours."""
        self.silence = create_silence(
            author=self.owner,
            owner=self.owner,
            severity="critical",
            starts_at=now,
            ends_at=now + timedelta(hours=2),
            comment="severity",
        )

    def end_silence(self, *, now: datetime) -> None:
        """End the silence of what is critical before its time."""
        assert end_silences(silences=[self.silence], now=now) == 1

    def acknowledge_some(self, *, now: datetime) -> None:
        """Acknowledge the open alerts on one asset."""
        alerts = Alert.objects.filter(asset__symbol="BTC-USD")
        assert acknowledge(alerts=alerts, by=self.owner, note="", now=now)

    def edit_rule(self, *, now: datetime) -> None:
        """Change the level of a rule, which is a new version of it."""
        rule = Rule.objects.get(name="edited")
        self._save_rule("edited", {"condition": {"kind": "above", "level": "21500"}}, rule=rule, now=now)

    def delete_rule(self, *, now: datetime) -> None:
        """Delete a rule."""
        delete_rule(rule=Rule.objects.get(name="deleted"), now=now, trace_id=builders.TRACE)

    def alerts(self) -> Iterator[list[Any]]:
        """Give [rule, asset, kind, opened, resolved, evidence] of each alert."""
        for alert in Alert.objects.select_related("rule", "asset"):
            yield [
                *(alert.rule.name, alert.asset.symbol, NAMES[alert.kind]),
                *(moment(alert.opened_at), moment(alert.resolved_at), neutral(alert.evidence)),
            ]

    def notifications(self) -> Iterator[list[Any]]:
        """Give [channel, planned, members, others] of each notification, and one for what waits on each channel.

        A member is [rule, asset, event, opened, repeat, what held it back]. The others are [rule, asset, event] of what
        the notification mentions too, though it is no member.
        """
        members: dict[tuple[str, Any], list[list[Any]]] = {}
        along = ("channel", "event__alert__rule", "event__alert__asset")
        for member in Notification.objects.select_related(*along):
            alert = member.event.alert
            members.setdefault((member.channel.name, member.message_id), []).append(
                [
                    *(alert.rule.name, alert.asset.symbol, NAMES[member.event.kind], moment(alert.opened_at)),
                    *(member.repeat, NAMES[member.deferred_by]),
                ]
            )
        messages = {message.pk: message for message in Message.objects.all()}
        assert messages.keys() <= {message_id for _, message_id in members}
        for (channel, message_id), its_members in members.items():
            message = messages.get(message_id)
            others = mentioned(message) if message else Counter()
            others.subtract((one[0], one[1], REMINDER if one[4] else one[2]) for one in its_members)
            assert not message or min(others.values()) == 0
            planned = moment(message.created_at) if message else None
            yield [channel, planned, sorted(its_members), sorted(others.elements())]


def mentioned(message: Message) -> Counter[tuple[str, str, str]]:
    """Return (rule, asset, event) of all that a message mentions."""
    return Counter((one["rule"], one["symbol"], NAMES[one["event"]]) for one in message.items)


def neutral(part: Any, field: str = "") -> Any:
    """Return a part of evidence with the names of the golden file."""
    if isinstance(part, dict):
        return {NAMES[name]: neutral(one, name) for name, one in part.items()}
    if isinstance(part, list):
        return [neutral(one, field) for one in part]
    return NAMES[part] if field in NAMED_VALUES else part


# From here on nothing is the project's.


def moment(at: datetime | None) -> str | None:
    """Return a time as the golden file writes it."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def write_recording(path: Path) -> None:
    """Write the recorded days without the holes."""
    with (
        gzip.open(RECORDING, "rt", newline="") as source,
        path.open("w", newline="") as target,
    ):
        rows = csv.DictReader(source)
        assert rows.fieldnames
        writer = csv.DictWriter(target, rows.fieldnames)
        writer.writeheader()
        for row in rows:
            in_hole = any(row["symbol"] == symbol and begin <= row["time"] < end for symbol, begin, end in HOLES)
            if not in_hole:
                writer.writerow(row)


def run(world: World, set_clock: Callable[[datetime], None]) -> None:
    """Take the world through the recorded days, and let people act at some of the slots."""
    recorded = datetime.fromisoformat(END) - datetime.fromisoformat(START)
    slots = -(-recorded // timedelta(seconds=SLOT_SECONDS * SPEED)) + 1
    actions = {
        10: world.silence_asset,
        30: world.edit_rule,
        45: world.acknowledge_some,
        75: world.silence_severity,
        90: world.delete_rule,
        108: world.end_silence,
        125: world.acknowledge_some,
    }
    for number in range(slots):
        slot = WALL_START + timedelta(seconds=number * SLOT_SECONDS)
        set_clock(slot)
        if number in actions:
            actions.pop(number)(now=slot)
        if number % 10 == 1:
            count_rows()
        world.store_and_evaluate(slot=slot)
        if number % 4 == 0:
            world.remind(now=slot)
        world.plan_and_send(now=slot)
    assert not actions


def count_rows() -> None:
    """Tell PostgreSQL how many rows there are, as its own process does where they are committed. Without that it takes
    the tables for empty, or as large as other tests left them, and a statement may take minutes."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE alerts_alert, alerts_alertevent, notify_notification, notify_message")


def lines_of(members: Iterable[list[Any]]) -> list[str]:
    """Return each member as one line of JSON, in an order that no database makes."""
    return sorted(json.dumps(member, sort_keys=True, separators=(",", ":")) for member in members)


def write_golden(found: dict[str, list[str]]) -> None:
    """Write the golden file, with one member on each line."""
    parts = [f'"{name}":[\n' + ",\n".join(lines) + "\n]" for name, lines in found.items()]
    GOLDEN.write_text("{" + ",\n".join(parts) + "}\n")


def differences(name: str, *, found: list[str], golden: list[str]) -> list[str]:
    """Return how many members differ, each counted as often as it stands there, and some of them; nothing of equals."""
    missing, extra = Counter(golden) - Counter(found), Counter(found) - Counter(golden)
    if not missing and not extra:
        return []
    return [
        f"of {len(golden)} {name}, {missing.total()} are missing (-); {extra.total()} are new (+)",
        *(f"- {line}" for line in sorted(missing)[:DIFFERENCES_SHOWN]),
        *(f"+ {line}" for line in sorted(extra)[:DIFFERENCES_SHOWN]),
    ]


def test_the_recorded_days_give_the_alerts_and_notifications_of_the_golden_file(tmp_path, monkeypatch):
    clock = [WALL_START]
    monkeypatch.setattr("django.utils.timezone.now", lambda: clock[0])
    recording = tmp_path / "recording.csv"
    write_recording(recording)
    world = World(recording)

    run(world, lambda now: clock.__setitem__(0, now))

    found = {"alerts": lines_of(world.alerts()), "notifications": lines_of(world.notifications())}
    if os.environ.get("GOLDEN") == "write":
        write_golden(found)
        pytest.fail(f"wrote {GOLDEN.name}; run again without GOLDEN=write to compare", pytrace=False)
    golden = {name: lines_of(members) for name, members in json.loads(GOLDEN.read_text()).items()}
    assert found.keys() == golden.keys()
    lines = [line for name in found for line in differences(name, found=found[name], golden=golden[name])]
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)
