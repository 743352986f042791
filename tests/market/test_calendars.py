"""Trading hours, by what the exchanges say of themselves."""

import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from exchange_calendars import get_calendar

from apps.market import calendars
from apps.market.domain import epoch_microseconds

ENDS = (
    "The holidays of XSAU are known to 2029-12-31; after that the usual hours of each weekday count. Upgrade "
    "exchange_calendars."
)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def moment(written):
    return datetime.fromisoformat(written).replace(tzinfo=UTC)


def open_time(code, begin, end):
    microseconds = calendars.open_between(code, epoch_microseconds(moment(begin)), epoch_microseconds(moment(end)))
    return timedelta(microseconds=microseconds)


@pytest.mark.parametrize("code", calendars.CALENDARS)
def test_each_calendar_that_may_be_chosen_can_be_computed_and_its_pieces_do_not_overlap(code):
    hours = calendars.hours_of(code)

    assert 2_000 < len(hours.ends) <= len(hours.opens) == len(hours.closes) == len(hours.before) - 1
    assert all(opened < closed for opened, closed in zip(hours.opens, hours.closes, strict=True))
    assert all(closed <= opened for closed, opened in zip(hours.closes, hours.opens[1:], strict=False))
    assert all(earlier < later for earlier, later in pairwise(hours.ends))


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        # A day of New York: 9:30 to 16:00, which is 14:30 to 21:00 UTC in winter.
        ("2026-11-18T00:00", "2026-11-19T00:00", 6.5 * HOUR),
        ("2026-11-18T14:30", "2026-11-18T14:31", MINUTE),
        ("2026-11-18T14:29", "2026-11-18T14:30", 0 * HOUR),
        ("2026-11-18T21:00", "2026-11-19T14:30", 0 * HOUR),
        # From Friday's last half hour to Monday's first.
        ("2026-11-20T20:30", "2026-11-23T15:00", HOUR),
        # Thanksgiving, and the short day after it: to 13:00.
        ("2026-11-25T21:00", "2026-11-27T14:30", 0 * HOUR),
        ("2026-11-27T00:00", "2026-11-28T00:00", 3.5 * HOUR),
        # The weekends on which the clocks of New York change: they open an hour earlier in UTC, then later.
        ("2026-03-06T20:59", "2026-03-09T13:31", 2 * MINUTE),
        ("2026-10-30T19:59", "2026-11-02T14:31", 2 * MINUTE),
        # All of a year: 251 sessions, two of them short by 3 hours.
        ("2026-01-01T00:00", "2027-01-01T00:00", 251 * 6.5 * HOUR - 2 * 3 * HOUR),
    ],
)
def test_the_open_time_of_new_york(begin, end, expected):
    assert open_time("XNYS", begin, end) == expected


def test_a_microsecond_is_counted():
    opened = epoch_microseconds(moment("2026-11-18T14:30"))

    assert [calendars.open_between("XNYS", opened - 1, opened + far) for far in (0, 1, 2)] == [0, 1, 2]


def test_tokyo_has_a_break_that_is_no_close():
    # 9:00 to 11:30 and 12:30 to 15:30, nine hours before UTC.
    assert open_time("XTKS", "2026-11-27T00:00", "2026-11-28T00:00") == 5.5 * HOUR
    assert open_time("XTKS", "2026-11-27T02:29", "2026-11-27T03:31") == 2 * MINUTE
    assert not calendars.is_open("XTKS", moment("2026-11-27T03:00"))
    assert calendars.next_open("XTKS", moment("2026-11-27T03:00")) == moment("2026-11-27T03:30")
    assert calendars.previous_close("XTKS", moment("2026-11-27T03:00")) == moment("2026-11-26T06:30")


@pytest.mark.parametrize(
    ("at", "is_open", "last_open", "next_open", "previous_close"),
    [
        ("2026-11-25T14:29:59", False, "2026-11-24T14:30", "2026-11-25T14:30", "2026-11-24T21:00"),
        ("2026-11-25T14:30", True, "2026-11-25T14:30", "2026-11-27T14:30", "2026-11-24T21:00"),
        ("2026-11-25T20:59:59", True, "2026-11-25T14:30", "2026-11-27T14:30", "2026-11-24T21:00"),
        ("2026-11-25T21:00", False, "2026-11-25T14:30", "2026-11-27T14:30", "2026-11-25T21:00"),
        ("2026-11-28T12:00", False, "2026-11-27T14:30", "2026-11-30T14:30", "2026-11-27T18:00"),
    ],
)
def test_when_new_york_is_open(at, is_open, last_open, next_open, previous_close):
    assert calendars.is_open("XNYS", moment(at)) is is_open
    assert calendars.last_open("XNYS", moment(at)) == moment(last_open)
    assert calendars.next_open("XNYS", moment(at)) == moment(next_open)
    assert calendars.previous_close("XNYS", moment(at)) == moment(previous_close)


@pytest.mark.parametrize(
    ("at", "minutes", "since"),
    [
        ("2026-11-25T15:00", 10, "2026-11-25T14:50"),
        ("2026-11-25T15:00", 30, "2026-11-25T14:30"),
        ("2026-11-25T15:00", 31, "2026-11-24T20:59"),
        ("2026-11-26T12:00", 1, "2026-11-25T20:59"),
        # New York is open until 18:00 on the day after Thanksgiving.
        ("2026-11-28T12:00", 31, "2026-11-27T17:29"),
        ("2026-11-28T12:00", 211, "2026-11-25T20:59"),
    ],
)
def test_since_when_new_york_was_open_for_so_long(at, minutes, since):
    found = calendars.open_since("XNYS", moment(at), timedelta(minutes=minutes))
    assert found == moment(since)
    assert open_time("XNYS", since, at) == minutes * MINUTE


def test_all_open_time_before_and_behind_the_known_hours_counts():
    hours = calendars.hours_of("XNYS")
    for wanted in (-1_000_000, 0, hours.before[-1] - 1, hours.before[-1], hours.before[-1] + 1_000_000):
        assert hours.open_until(hours.last_moment_of(wanted)) == wanted


@pytest.mark.parametrize(
    ("code", "at", "text"),
    [
        ("", "2026-11-28T12:00", "always open"),
        ("XNYS", "2026-11-25T14:30", "open; opens next at 2026-11-27 14:30 UTC"),
        ("XNYS", "2026-11-28T12:00", "closed; opens next at 2026-11-30 14:30 UTC"),
        ("FX", "2026-11-28T12:00", "closed; opens next at 2026-11-29 22:00 UTC"),
        ("FX", "2026-11-29T22:00", "open; opens next at 2026-11-30 22:00 UTC"),
        ("XSAU", "2029-10-31T23:59:59", "closed; opens next at 2029-11-01 07:00 UTC"),
        ("XSAU", "2030-02-01T00:00", f"closed; opens next at 2030-02-03 07:00 UTC. {ENDS}"),
        ("XSAU", "2029-11-02T00:00", f"closed; opens next at 2029-11-04 07:00 UTC. {ENDS}"),
        ("XSAU", "2050-02-01T00:00", f"open. {ENDS}"),
        ("XXXX", "2026-11-28T12:00", "there is no trading calendar XXXX"),
    ],
)
def test_the_hours_have_a_description(code, at, text):
    assert calendars.describe(code, moment(at)) == text


def test_nasdaq_has_the_hours_of_new_york():
    assert calendars.hours_of("XNAS") == calendars.hours_of("XNYS")


def test_before_what_is_known_and_after_2049_every_hour_counts_as_open():
    # The holidays of Riyadh are known for 2021 to 2029.
    assert open_time("XSAU", "2020-12-01T00:00", "2020-12-02T00:00") == 24 * HOUR
    assert open_time("XSAU", "2050-02-01T00:00", "2050-02-02T00:00") == 24 * HOUR
    assert calendars.is_open("XSAU", moment("2020-12-01T00:00"))
    assert calendars.is_open("XSAU", moment("2050-02-01T00:00"))
    assert calendars.next_open("XSAU", moment("2050-02-01T00:00")) is None
    assert calendars.previous_close("XSAU", moment("2020-12-01T00:00")) is None
    assert calendars.last_open("XSAU", moment("2020-12-01T00:00")) is None
    # All that is counted behind the last close is added to what was counted before.
    assert open_time("XNYS", "2049-12-31T20:00", "2050-01-01T00:00") == 4 * HOUR


@pytest.mark.parametrize(
    ("code", "begin", "end", "expected"),
    [
        # A week of February 2027, from the evening of a Sunday in UTC. Bombay: 9:15 to 15:30.
        ("XBOM", "2027-02-07T18:00", "2027-02-14T18:00", 5 * 6.25 * HOUR),
        ("XBOM", "2027-02-08T10:00", "2027-02-09T03:45", 0 * HOUR),
        ("XBOM", "2027-02-09T03:44", "2027-02-09T03:46", MINUTE),
        # Shanghai: 9:30 to 11:30 and 13:00 to 15:00.
        ("XSHG", "2027-02-07T15:00", "2027-02-14T15:00", 5 * 4 * HOUR),
        ("XSHG", "2027-02-08T03:29", "2027-02-08T05:01", 2 * MINUTE),
        # Singapore: 9:00 to 17:00. From Friday's close to Monday's opening there is nothing.
        ("XSES", "2027-02-12T09:00", "2027-02-15T01:00", 0 * HOUR),
        ("XSES", "2027-02-12T08:59", "2027-02-15T01:01", 2 * MINUTE),
        # Riyadh: Sunday to Thursday, 10:00 to 15:00.
        ("XSAU", "2030-02-02T21:00", "2030-02-09T21:00", 5 * 5 * HOUR),
        # The last known session is the last of its day: nothing is counted twice.
        ("XSHG", "2026-12-31T00:00", "2027-01-01T00:00", 4 * HOUR),
    ],
)
def test_after_what_is_known_the_usual_hours_of_each_weekday_count(code, begin, end, expected):
    assert open_time(code, begin, end) == expected


def test_the_usual_hours_are_those_of_the_zone_and_of_most_sessions():
    """New York, cut off: the rest of its year is found again, but for holidays and short days."""
    known = calendars._sessions_of_exchange("XNYS")
    cut = moment("2025-01-01T00:00")
    before = [one for one in known if one[0] < epoch_microseconds(cut)]
    after = {one[0]: one[3] for one in known if one[0] > epoch_microseconds(cut)}
    days = calendars.usual_sessions(before, zone=ZoneInfo("America/New_York"), after=date(2024, 12, 31))
    usual = {one[0]: one[3] for one in days if one[0] < epoch_microseconds(moment("2026-01-01T00:00"))}
    real = {opened: closed for opened, closed in after.items() if opened <= max(usual)}

    # Ten holidays and a day of mourning; a day before or after a holiday closes at 13:00.
    assert real.keys() <= usual.keys()
    assert len(usual) - len(real) == 11
    assert sum(usual[opened] != closed for opened, closed in real.items()) == 3


def test_what_is_said_to_be_known_is_what_the_library_knows():
    bounds = {code: type(get_calendar(code)).bound_max() for code in calendars.CALENDARS if code != "FX"}
    last = date.fromisoformat(calendars.LAST_DAY)
    known_until = {code: bound.date() for code, bound in bounds.items() if bound is not None and bound.date() < last}

    assert known_until == calendars.KNOWN_UNTIL


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        # Sunday 17:00 to Friday 17:00 in New York: 22:00 UTC in winter, 21:00 in summer.
        ("2026-11-20T22:00", "2026-11-22T22:00", 0 * HOUR),
        ("2026-11-20T21:59", "2026-11-22T22:01", 2 * MINUTE),
        ("2026-07-03T20:59", "2026-07-05T21:01", 2 * MINUTE),
        ("2026-11-15T00:00", "2026-11-22T00:00", 120 * HOUR),
        # Clocks change on a Sunday at 2:00, while it is closed.
        ("2026-03-06T21:59", "2026-03-08T21:01", 2 * MINUTE),
        ("2026-10-30T20:59", "2026-11-01T22:01", 2 * MINUTE),
        # It has no holidays.
        ("2026-12-25T00:00", "2026-12-25T22:00", 22 * HOUR),
    ],
)
def test_the_open_time_of_foreign_exchange(begin, end, expected):
    assert open_time("FX", begin, end) == expected


def test_a_day_of_foreign_exchange_ends_at_17_in_new_york():
    assert calendars.previous_close("FX", moment("2026-11-24T12:00")) == moment("2026-11-23T22:00")
    assert calendars.previous_close("FX", moment("2026-11-22T12:00")) == moment("2026-11-20T22:00")


def test_the_years_are_the_same_on_whatever_day_it_is_asked():
    hours = calendars.hours_of("XNYS")

    assert hours.opens[0] == epoch_microseconds(moment("1990-01-02T14:30"))
    assert hours.ends[-1] == epoch_microseconds(moment("2049-12-31T21:00"))


def test_an_unknown_calendar_is_refused_by_name():
    with pytest.raises(calendars.UnknownCalendar, match="there is no trading calendar XXXX"):
        calendars.open_between("XXXX", 0, 1)


def test_the_documentation_names_each_calendar_that_may_be_chosen():
    section = Path("docs/setup.md").read_text(encoding="utf-8").partition("## Calendars")[2]
    listed = re.findall(r"`(\S+?)`\s([^;]+?)(?:;|\.$)", section.rpartition("\n\n")[2].strip(), re.MULTILINE)

    assert {code: " ".join(name.split()) for code, name in listed} == calendars.CALENDARS


def test_the_library_is_imported_only_when_hours_are_asked_for():
    script = "import sys, apps.rules.engine.engine, apps.market.calendars; print('pandas' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert ran.stdout == "False\n"
