"""The texts of messages, what defers notifications, and the schedule of retries."""

import random
from datetime import UTC, datetime, time, timedelta
from itertools import accumulate, permutations
from zoneinfo import ZoneInfo

import pytest

from apps.locales import LOCALES, Reader
from apps.notify.domain import (
    PLACEHOLDERS,
    Deferral,
    MessageItem,
    QuietHours,
    Silenced,
    TemplateInvalid,
    apply_templates,
    as_data,
    compose,
    deferral_of,
    fill_in,
    from_data,
    highest_severity,
    quiet_until,
    retry_delay,
    silences_matching,
)

URL = "https://example.org/admin/alerts/alert/7/change/"
LIST_URL = "https://example.org/admin/notify/message/1/change/"


def items(event="opened", second=0, **changes):
    columns = {"alert_id": 7, "reason": "recovered", "rule": "Peg", "symbol": "USDC-USD", "severity": "critical"}
    columns |= {"summary": "USDC-USD is below 0.99: 0.98 at 12:00:00", "url": URL} | changes
    return MessageItem(event=event, at=datetime(2026, 3, 2, 12, 0, second, tzinfo=UTC), **columns)


def compose_items(*events):
    return compose(events, url=LIST_URL)


def test_an_opening_says_what_was_seen_and_where_to_look():
    assert compose_items(items()) == (
        "[critical] Peg: USDC-USD",
        f"USDC-USD is below 0.99: 0.98 at 12:00:00\nOpened 2026-03-02 12:00:00 UTC.\n\n{URL}",
    )


def test_a_resolution_says_what_is_over():
    assert compose_items(items("resolved", second=9)) == (
        "[critical] Resolved: Peg, USDC-USD",
        f"USDC-USD is below 0.99: 0.98 at 12:00:00\nResolved 2026-03-02 12:00:09 UTC (the condition is over).\n\n{URL}",
    )


def test_a_resolution_says_the_price_as_its_reader_writes_it():
    german = Reader(UTC, LOCALES["de"])
    _, text = compose([items("resolved", second=9, price="1234.5")], url=LIST_URL, reader=german)
    assert "Resolved 02.03.2026 12:00:09 UTC at 1.234,5 (the condition is over)." in text


def test_an_opening_and_its_resolution_in_one_message_are_listed_in_order():
    subject, text = compose_items(items(), items("resolved", second=9))

    assert subject == "[critical] Resolved: Peg, USDC-USD"
    assert text.splitlines() == [
        "USDC-USD is below 0.99: 0.98 at 12:00:00",
        "Opened 2026-03-02 12:00:00 UTC.",
        "Resolved 2026-03-02 12:00:09 UTC (the condition is over).",
        "",
        URL,
    ]


def test_a_correction_says_what_was_corrected_and_not_whether_the_alert_is_open():
    corrected = items("corrected", second=9, reason="", detail="the price of 12:00: 0.98 → 0.995")
    assert compose_items(corrected) == (
        "[critical] Corrected: Peg, USDC-USD",
        f"USDC-USD is below 0.99: 0.98 at 12:00:00\nCorrected afterwards: the price of 12:00: 0.98 → 0.995.\n\n{URL}",
    )
    others = (items("resolved", alert_id=8), items("opened", alert_id=9))
    assert compose_items(items("resolved"), corrected, *others)[0].startswith("[critical] 3 alerts, 2 resolved:")


def test_a_reminder_says_that_nobody_has_acknowledged_it():
    assert compose_items(items("reminder")) == (
        "[critical] Still open: Peg, USDC-USD",
        "USDC-USD is below 0.99: 0.98 at 12:00:00\n"
        f"Still open and not acknowledged; opened 2026-03-02 12:00:00 UTC.\n\n{URL}",
    )


def test_an_alert_about_nothing_in_particular_is_named_by_what_found_it():
    subject, _ = compose_items(items(rule="BrokerAway", symbol=""))

    assert subject == "[critical] BrokerAway"


def test_several_alerts_are_a_list_with_deferred_ones_under_what_deferred_them():
    subject, text = compose_items(
        items(),
        items(alert_id=8, symbol="BTC-USD", severity="info", summary="BTC-USD fell"),
        items("resolved", second=9),
        items(
            alert_id=9, symbol="ETH-USD", severity="info", summary="ETH-USD fell", deferred_by="quiet hours until 07:00"
        ),
    )

    assert subject == "[critical] 3 alerts, 1 resolved: USDC-USD, BTC-USD, ETH-USD"
    assert text.splitlines() == [
        "3 alerts, 1 resolved.",
        "",
        "[critical] Peg: USDC-USD",
        "USDC-USD is below 0.99: 0.98 at 12:00:00",
        "Opened 2026-03-02 12:00:00 UTC.",
        "Resolved 2026-03-02 12:00:09 UTC (the condition is over).",
        "",
        "[info] Peg: BTC-USD",
        "BTC-USD fell",
        "Opened 2026-03-02 12:00:00 UTC.",
        "",
        "Held back by quiet hours until 07:00:",
        "",
        "[info] Peg: ETH-USD",
        "ETH-USD fell",
        "Opened 2026-03-02 12:00:00 UTC.",
        "",
        LIST_URL,
    ]


def test_a_long_lists_subject_names_the_first():
    subject, _ = compose_items(*(items(alert_id=number, symbol=f"A{number}") for number in range(6)))

    assert subject == "[critical] 6 alerts: A0, A1, A2, A3, A4, …"


@pytest.mark.parametrize("mark", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\t", "  "])
def test_a_subject_is_one_line_whatever_a_rule_is_called(mark):
    subject, _ = compose_items(items(rule=f"Peg{mark}Bcc: evil@example.org"))

    assert subject == "[critical] Peg Bcc: evil@example.org: USDC-USD"


def test_a_subject_is_cut_to_what_fits():
    subject, _ = compose_items(items(rule="x" * 300))

    assert (len(subject), subject[:14]) == (200, "[critical] xxx")


def test_items_come_back_from_the_row_as_they_were():
    one = items("resolved", deferred_by="quiet hours")

    assert from_data(as_data(one)) == one


def test_what_templates_make_of_many_events_has_an_end_that_says_how_much_is_missing():
    summary = "x" * 1_000
    many = [items(alert_id=number, summary=summary) for number in range(1_000)]

    for template in ("{summary}{summary}", "{summary}" * 500, "{summary}" * 2_000):
        _, text = apply_templates(many, subject_template="", text_template=template, subject="", text="")

        assert len(text) <= 1_000_100
        kept = text.count("\n")
        assert text.endswith(f"… and {1_000 - kept:,} more.")


@pytest.mark.parametrize(
    ("severities", "expected"), [([], ""), (["info", "warning"], "warning"), (["info", "critical"], "critical")]
)
def test_the_highest_severity_of_the_items(severities, expected):
    assert highest_severity(items(severity=one) for one in severities) == expected


# Templates


def test_every_placeholder_can_be_filled_in():
    template = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)

    over = items("resolved", price="1.0002")
    _, text = apply_templates([over], subject_template="", text_template=template, subject="s", text="t")

    assert text == (
        "Peg USDC-USD critical resolved USDC-USD is below 0.99: 0.98 at 12:00:00 2026-03-02 12:00:00 UTC "
        f"the condition is over 1.0002 {URL} 1"
    )


def test_empty_templates_change_nothing():
    assert apply_templates([items()], subject_template="", text_template="", subject="s", text="t") == ("s", "t")


def test_a_subjects_template_is_for_one_alert_and_a_texts_for_each():
    events = [items(), items(alert_id=8, symbol="BTC-USD")]

    several = apply_templates(events, subject_template="{asset}", text_template="{asset}!", subject="s", text="t")
    one = apply_templates(events[:1], subject_template="{asset}\n", text_template="", subject="s", text="t")

    assert several == ("s", "USDC-USD!\nBTC-USD!")
    assert one == ("USDC-USD", "t")


def test_what_is_filled_in_is_not_filled_in_again():
    assert fill_in("{a}", {"a": "{b} {{", "b": "x"}) == "{b} {{"


@pytest.mark.parametrize(
    ("template", "summary"),
    [
        ("{asett}", "{asett} is no placeholder; there are {rule}, {asset}"),
        ("{}", "{} is no placeholder"),
        ("{rule.owner.password}", "{rule.owner.password} is no placeholder"),
        ("{rule!r}", "is no placeholder"),
        ("{", "there is a { without its other half; write {{ for a brace"),
        ("x } y", "there is a } without its other half; write }} for a brace"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_refused_with_the_reason(template, summary):
    with pytest.raises(TemplateInvalid) as refusal:
        fill_in(template, dict.fromkeys(PLACEHOLDERS, ""))

    assert summary in str(refusal.value)


# What defers

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def silenced(silence_id=1, hours=1, owner_id=None, rule_id=None, asset_id=None, severity=""):
    return Silenced(silence_id, owner_id, rule_id, asset_id, severity, NOW + timedelta(hours=hours))


def deferred(*silences, quiet=None, severity="warning", rule_id=2, asset_id=3, owner_id=4):
    return deferral_of(
        now=NOW,
        alert_id=1,
        rule_id=rule_id,
        asset_id=asset_id,
        owner_id=owner_id,
        severity=severity,
        silences=silences,
        quiet=quiet,
    )


def test_nothing_is_deferred_where_nothing_matches():
    misses = [silenced(owner_id=5), silenced(rule_id=5), silenced(asset_id=5), silenced(severity="info")]

    assert deferred() is None
    assert deferred(*misses) is None


def test_the_longest_silence_that_matches_defers():
    deferred_by = deferred(silenced(1, hours=1), silenced(2, hours=3, rule_id=2), silenced(3, hours=9, rule_id=9))

    assert deferred_by == Deferral(until=NOW + timedelta(hours=3), silence_id=2)


def test_silences_that_match_are_sorted_from_the_longest_on():
    silences = [silenced(1, hours=1), silenced(2, hours=3, rule_id=2), silenced(3, rule_id=9), silenced(4, hours=1)]

    matching = silences_matching(silences, alert_id=1, rule_id=2, asset_id=3, owner_id=4, severity="info")

    assert [one.silence_id for one in matching] == [2, 1, 4]


def test_a_silence_of_an_alert_matches_that_alert_and_goes_before_all_others():
    def of_alert(silence_id, alert_id):
        return Silenced(silence_id, 4, None, None, "", None, alert_id)

    assert deferred(of_alert(1, 9)) is None
    assert deferred(silenced(2, hours=10**6), of_alert(1, 1)) == Deferral(until=None, silence_id=1)


def test_a_silence_goes_before_quiet_hours():
    quiet = QuietHours(time(11), time(20), "UTC", False)

    assert deferred(silenced(1), quiet=quiet) == Deferral(until=NOW + timedelta(hours=1), silence_id=1)
    assert deferred(quiet=quiet) == Deferral(until=NOW + timedelta(hours=8))


def test_an_alert_about_the_installation_is_deferred_by_everybodys_silence_only():
    system = {"rule_id": None, "asset_id": None, "owner_id": None}

    assert deferred(silenced(), **system) is not None
    assert deferred(silenced(owner_id=4), silenced(rule_id=2), **system) is None


@pytest.mark.parametrize(("allow_critical", "is_deferred"), [(True, False), (False, True)])
def test_what_is_critical_passes_quiet_hours_where_it_may(allow_critical, is_deferred):
    quiet = QuietHours(time(11), time(20), "UTC", allow_critical)

    assert (deferred(quiet=quiet, severity="critical") is not None) == is_deferred
    assert deferred(quiet=quiet, severity="warning") is not None


@pytest.mark.parametrize(
    ("clock", "begin", "end", "until"),
    [
        ("11:59", "12:00", "13:00", None),
        ("12:00", "12:00", "13:00", "2026-03-02 13:00"),
        ("12:59", "12:00", "13:00", "2026-03-02 13:00"),
        ("13:00", "12:00", "13:00", None),
        ("21:59", "22:00", "07:00", None),
        ("22:00", "22:00", "07:00", "2026-03-03 07:00"),
        ("06:59", "22:00", "07:00", "2026-03-02 07:00"),
        ("07:00", "22:00", "07:00", None),
    ],
)
def test_quiet_hours_have_their_beginning_and_not_their_end(clock, begin, end, until):
    now = datetime.fromisoformat(f"2026-03-02T{clock}+00:00")
    quiet = QuietHours(time.fromisoformat(begin), time.fromisoformat(end), "UTC", False)

    expected = until and datetime.fromisoformat(f"{until}+00:00")
    assert quiet_until(now=now, quiet=quiet) == expected


# The days on which clocks are put forward and back, in two zones: until when is it quiet at a moment (UTC)?
DAYS = [
    # Forward: 02:30 does not exist, so quiet hours until then end with the jump or half an hour after it.
    ("America/New_York", "22:00", "02:30", "2026-03-08T06:59:00", "2026-03-08T07:30:00"),
    ("America/New_York", "22:00", "02:30", "2026-03-08T07:10:00", "2026-03-08T07:30:00"),
    ("America/New_York", "22:00", "02:30", "2026-03-08T07:30:00", None),
    ("America/New_York", "01:30", "02:30", "2026-03-08T07:10:00", "2026-03-08T07:30:00"),
    ("America/New_York", "02:10", "02:30", "2026-03-08T07:05:00", None),
    ("Europe/Kyiv", "22:00", "03:30", "2026-03-29T00:59:00", "2026-03-29T01:30:00"),
    ("Europe/Kyiv", "22:00", "03:30", "2026-03-29T01:10:00", "2026-03-29T01:30:00"),
    ("Europe/Kyiv", "22:00", "03:30", "2026-03-29T01:30:00", None),
    # Back: 01:30 (in Kyiv 03:30) comes twice, and quiet hours until then end at each of them.
    ("America/New_York", "22:00", "01:30", "2026-11-01T05:00:00", "2026-11-01T05:30:00"),
    ("America/New_York", "22:00", "01:30", "2026-11-01T06:10:00", "2026-11-01T06:30:00"),
    ("Europe/Kyiv", "22:00", "03:30", "2026-10-25T00:00:00", "2026-10-25T00:30:00"),
    ("Europe/Kyiv", "22:00", "03:30", "2026-10-25T01:10:00", "2026-10-25T01:30:00"),
    # What begins in the hour that comes twice goes on through the second one.
    ("America/New_York", "01:30", "03:00", "2026-11-01T05:45:00", "2026-11-01T08:00:00"),
    ("America/New_York", "01:30", "03:00", "2026-11-01T06:10:00", "2026-11-01T08:00:00"),
    ("Europe/Kyiv", "03:30", "03:15", "2026-10-25T01:05:00", "2026-10-26T01:15:00"),
    # A night over the change is as long as it is.
    ("America/New_York", "22:00", "07:00", "2026-03-08T03:00:00", "2026-03-08T11:00:00"),
    ("America/New_York", "22:00", "07:00", "2026-11-01T02:00:00", "2026-11-01T12:00:00"),
]


@pytest.mark.parametrize(("zone", "begin", "end", "now", "until"), DAYS)
def test_quiet_hours_follow_the_clock_on_the_wall(zone, begin, end, now, until):
    quiet = QuietHours(time.fromisoformat(begin), time.fromisoformat(end), zone, False)

    found = quiet_until(now=datetime.fromisoformat(f"{now}+00:00"), quiet=quiet)

    assert found == (until and datetime.fromisoformat(f"{until}+00:00"))


@pytest.mark.parametrize("day", ["2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01"])
@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Kyiv"])
def test_quiet_hours_always_end_after_now(zone, day):
    quiet = QuietHours(time(22), time(2, 30), zone, False)
    begin = datetime.fromisoformat(f"{day}T00:00:00").replace(tzinfo=ZoneInfo(zone))

    for minute in range(0, 24 * 60, 10):
        now = begin.astimezone(UTC) + timedelta(minutes=minute)
        until = quiet_until(now=now, quiet=quiet)
        assert until is None or now < until <= now + timedelta(hours=6)


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        *(("America/New_York", "2026-03-08"), ("America/New_York", "2026-11-01")),
        *(("Europe/Kyiv", "2026-03-29"), ("Europe/Kyiv", "2026-10-25")),
        # At midnight, back to the day before.
        *(("Asia/Beirut", "2026-03-29"), ("Asia/Beirut", "2026-10-25")),
    ],
)
def test_nothing_that_comes_later_is_sent_before_what_quiet_hours_defer(zone, day):
    moments = [datetime.fromisoformat(f"{day}T00:00:00+00:00") + timedelta(minutes=15 * n) for n in range(-60, 180)]
    clocks = [time(hour, minute) for hour in (0, 1, 2, 3, 23) for minute in (0, 15, 30)]

    for begin, end in permutations(clocks, 2):
        quiet = QuietHours(begin, end, zone, False)
        sent_at = [quiet_until(now=now, quiet=quiet) or now for now in moments]
        assert sent_at == list(accumulate(sent_at, max)), (begin, end)


# When it is tried again


def test_the_waits_grow_and_end_with_the_eighth_attempt():
    waits = [retry_delay(attempts=attempts, uniform=lambda low, high: 1) for attempts in range(1, 10)]

    assert waits == [*(timedelta(seconds=one) for one in (5, 30, 120, 600, 1_800, 7_200, 21_600)), None, None]


def test_a_wait_is_a_fifth_longer_or_shorter_at_most():
    shortest = retry_delay(attempts=2, uniform=lambda low, high: low)
    longest = retry_delay(attempts=2, uniform=lambda low, high: high)
    spread = [retry_delay(attempts=2, uniform=random.Random(7).uniform) for _ in range(2)]

    assert (shortest, longest) == (timedelta(seconds=24), timedelta(seconds=36))
    assert spread[0] == spread[1]
    assert shortest <= spread[0] <= longest
