"""Trading hours: when an exchange is open, from the kept library `exchange_calendars`. Pure.

The hours of a calendar are computed once, for the same years on whatever day: an answer never depends on when it is
asked for. Where holidays are not announced yet, the usual hours of each weekday count. Before what the library knows of
an exchange every hour counts as open.
"""

from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from apps.market.domain import epoch_microseconds, from_epoch_microseconds

FIRST_DAY, LAST_DAY = "1990-01-01", "2049-12-31"
# From how long before the last known day of a calendar people are warned.
WARNED_BEFORE = timedelta(days=60)

# The last day of which the pinned library knows the holidays; the others are known to LAST_DAY.
KNOWN_UNTIL = {
    "XBOM": date(2026, 12, 31),
    "XSAU": date(2029, 12, 31),
    "XSES": date(2026, 12, 31),
    "XSHG": date(2026, 12, 31),
}
_FX, _NEW_YORK = "FX", ZoneInfo("America/New_York")

# (open, start of the break, its end, close) in microseconds since 1970; where there is no break, its bounds are below.
Session = tuple[int, int, int, int]

# The calendars that an asset may have: the library's code, or FX -> the name for people. 24/7 is left out because it
# never closes; ASEX, XBEL, XBSE, XCYS and XTAE because the library cannot compute them with the pinned pandas. Remove
# none of them: logs name the calendars that their rules used.
CALENDARS = {
    "24/5": "Monday to Friday (UTC)",
    "AIXK": "Astana",
    "BVMF": "São Paulo (B3)",
    "CMES": "Chicago Mercantile Exchange",
    "FX": "Foreign exchange (New York)",
    "IEPA": "ICE US",
    "XAMS": "Amsterdam (Euronext)",
    "XASX": "Sydney (ASX)",
    "XBDA": "Bermuda",
    "XBKK": "Bangkok",
    "XBOG": "Bogotá",
    "XBOM": "Bombay",
    "XBRA": "Bratislava",
    "XBRU": "Brussels (Euronext)",
    "XBUD": "Budapest",
    "XBUE": "Buenos Aires",
    "XCBF": "Chicago (Cboe Futures)",
    "XCSE": "Copenhagen",
    "XDUB": "Dublin (Euronext)",
    "XDUS": "Düsseldorf",
    "XEEE": "European Energy Exchange",
    "XETR": "Xetra",
    "XEUR": "Eurex",
    "XFRA": "Frankfurt",
    "XHAM": "Hamburg",
    "XHEL": "Helsinki",
    "XHKG": "Hong Kong",
    "XICE": "Reykjavík",
    "XIDX": "Jakarta",
    "XIST": "Istanbul",
    "XJSE": "Johannesburg",
    "XKAR": "Karachi",
    "XKLS": "Kuala Lumpur",
    "XKRX": "Seoul",
    "XLIM": "Lima",
    "XLIS": "Lisbon (Euronext)",
    "XLIT": "Vilnius",
    "XLJU": "Ljubljana",
    "XLON": "London",
    "XLUX": "Luxembourg",
    "XMAD": "Madrid",
    "XMEX": "Mexico City",
    "XMIL": "Milan",
    "XMOS": "Moscow",
    "XNAS": "New York (Nasdaq)",
    "XNYS": "New York (NYSE)",
    "XNZE": "Wellington (NZX)",
    "XOSL": "Oslo",
    "XPAR": "Paris (Euronext)",
    "XPHS": "Manila",
    "XPRA": "Prague",
    "XRIS": "Riga",
    "XSAU": "Riyadh (Tadawul)",
    "XSES": "Singapore",
    "XSGO": "Santiago de Chile",
    "XSHG": "Shanghai",
    "XSTO": "Stockholm",
    "XSTU": "Stuttgart",
    "XSWX": "Zürich (SIX)",
    "XTAI": "Taipei",
    "XTAL": "Tallinn",
    "XTKS": "Tokyo",
    "XTSE": "Toronto",
    "XWAR": "Warsaw",
    "XWBO": "Vienna",
    "XZAG": "Zagreb",
}


class UnknownCalendar(LookupError):
    """There is no calendar of that name."""


@dataclass(frozen=True, slots=True)
class Hours:
    """When an exchange is open, oldest first, in microseconds since 1970.

    opens, closes: of each piece of a session (a break at noon makes two of one); before: the open time before each
    piece; ends: of the sessions.
    """

    opens: "array[int]"
    closes: "array[int]"
    before: "array[int]"
    ends: "array[int]"

    @classmethod
    def of(cls, pieces: Iterable[tuple[int, int]], *, ends: Iterable[int]) -> "Hours":
        """Return the hours of these (open, close), oldest first, which do not overlap; ends: of the sessions."""
        opens, closes, before = array("q"), array("q"), array("q", [0])
        for opened, closed in pieces:
            opens.append(opened)
            closes.append(closed)
            before.append(before[-1] + closed - opened)
        return cls(opens, closes, before, array("q", ends))

    def place_of(self, moment: int) -> int:
        """Return the place of the last piece that has begun at the moment; -1 before the first."""
        return bisect_right(self.opens, moment) - 1

    def open_until(self, moment: int) -> int:
        """Return the open time from the first opening to the moment, below 0 before it."""
        place = self.place_of(moment)
        if place == -1:
            return moment - self.opens[0]
        open_in_piece = min(moment, self.closes[place]) - self.opens[place]
        behind_the_last = max(moment - self.closes[-1], 0)
        return self.before[place] + open_in_piece + behind_the_last

    def last_moment_of(self, open_time: int) -> int:
        """Return the last moment until which it was open for so long since the first opening."""
        place = bisect_right(self.before, open_time) - 1
        if place == len(self.opens):
            return self.closes[-1] + open_time - self.before[-1]
        place = max(place, 0)
        return self.opens[place] + open_time - self.before[place]

    def open_between(self, begin: int, end: int) -> int:
        """Return for how long within [begin, end) it is open."""
        return self.open_until(end) - self.open_until(begin)


@cache
def hours_of(code: str) -> Hours:
    """Return the hours of a calendar. The first call imports the library, which takes a second.

    Raises UnknownCalendar.
    """
    if code not in CALENDARS:
        raise UnknownCalendar(f"there is no trading calendar {code}")
    sessions = _sessions_of_foreign_exchange() if code == _FX else _sessions_of_exchange(code)
    pieces: list[tuple[int, int]] = []
    for opened, paused, resumed, closed in sessions:
        # Where there is no break, its bounds are "not a time", which is the lowest number there is.
        pieces += [(opened, paused), (resumed, closed)] if opened < paused else [(opened, closed)]
    return Hours.of(pieces, ends=[closed for *_, closed in sessions])


def _sessions_of_exchange(code: str) -> list[Session]:
    calendar = _computed(code)
    columns = (calendar.opens, calendar.break_starts, calendar.break_ends, calendar.closes)
    microseconds = (column.to_numpy(dtype="datetime64[us]").astype("int64").tolist() for column in columns)
    sessions: list[Session] = list(zip(*microseconds, strict=True))
    if code in KNOWN_UNTIL:
        sessions += usual_sessions(sessions, zone=ZoneInfo(str(calendar.tz)), after=KNOWN_UNTIL[code])
    return sessions


def _sessions_of_foreign_exchange() -> list[Session]:
    """Return a session for each day from Monday to Friday, from 17:00 of the day before to 17:00 in New York."""
    ends = [datetime.combine(day, time(17), _NEW_YORK) for day in _days(FIRST_DAY, LAST_DAY) if day.weekday() < 5]
    # In the zone's own time, so that a session in which clocks change has 23 or 25 hours.
    begins = [end - timedelta(days=1) for end in ends]
    return [
        (epoch_microseconds(begin), -1, -1, epoch_microseconds(end)) for begin, end in zip(begins, ends, strict=True)
    ]


def usual_sessions(sessions: Sequence[Session], *, zone: ZoneInfo, after: date) -> Iterator[Session]:
    """Give sessions from the day after `after` to LAST_DAY, by the hours that each weekday usually had in the year
    before, in the zone's own time; none on a weekday that had sessions in less than half of its weeks."""
    first = after - timedelta(days=364)
    seen: defaultdict[int, Counter[tuple[timedelta | None, ...]]] = defaultdict(Counter)
    for session in sessions:
        day = from_epoch_microseconds(session[0]).astimezone(zone).date()
        if first < day <= after:
            midnight = datetime.combine(day, time())
            seen[day.weekday()][tuple(_since(midnight, bound, zone) for bound in session)] += 1
    for day in _days(f"{after + timedelta(days=1):%Y-%m-%d}", LAST_DAY):
        hours = seen[day.weekday()]
        if hours.total() >= 26:
            usual, _ = hours.most_common(1)[0]
            midnight = datetime.combine(day, time())
            opened, paused, resumed, closed = (
                -1 if span is None else epoch_microseconds((midnight + span).replace(tzinfo=zone)) for span in usual
            )
            yield opened, paused, resumed, closed


def _since(midnight: datetime, bound: int, zone: ZoneInfo) -> timedelta | None:
    """Return how far behind a midnight a bound is by the clock on the wall; None where there is no break."""
    return None if bound < 0 else from_epoch_microseconds(bound).astimezone(zone).replace(tzinfo=None) - midnight


def _days(first: str, last: str) -> Iterator[date]:
    begin = date.fromisoformat(first)
    for number in range((date.fromisoformat(last) - begin).days + 1):
        yield begin + timedelta(days=number)


def _computed(code: str) -> Any:
    # Only who has an asset with a calendar pays for it: with pandas it is 60 MB, and half a second.
    from exchange_calendars import get_calendar

    # Its own bounds: where holidays are announced for some years only, they are narrower.
    factory: Any = type(get_calendar(code))
    first, last = factory.bound_min(), factory.bound_max()
    return factory(
        start=FIRST_DAY if first is None else max(FIRST_DAY, f"{first:%Y-%m-%d}"),
        end=LAST_DAY if last is None else min(LAST_DAY, f"{last:%Y-%m-%d}"),
    )


def open_between(code: str, begin: int, end: int) -> int:
    """Return for how long within [begin, end) the exchange is open; all in microseconds. Raises UnknownCalendar."""
    return hours_of(code).open_between(begin, end)


def open_since(code: str, at: datetime, span: timedelta) -> datetime:
    """Return the last moment from which until `at` the exchange was open for so long. Raises UnknownCalendar."""
    hours = hours_of(code)
    open_time = hours.open_until(epoch_microseconds(at)) - span // timedelta(microseconds=1)
    return from_epoch_microseconds(hours.last_moment_of(open_time))


def is_open(code: str, at: datetime) -> bool:
    """Tell whether the exchange is open at `at`; at the moment of closing it is not. Raises UnknownCalendar."""
    hours, moment = hours_of(code), epoch_microseconds(at)
    place = hours.place_of(moment)
    return place == -1 or moment < hours.closes[place] or moment >= hours.closes[-1]


def next_open(code: str, at: datetime) -> datetime | None:
    """Return the first opening after `at`, that after a break included; None where no more are known. Raises
    UnknownCalendar."""
    hours = hours_of(code)
    place = bisect_right(hours.opens, epoch_microseconds(at))
    return from_epoch_microseconds(hours.opens[place]) if place < len(hours.opens) else None


def last_open(code: str, at: datetime) -> datetime | None:
    """Return the last opening until `at`, that after a break included; None before the first. Raises
    UnknownCalendar."""
    hours = hours_of(code)
    place = hours.place_of(epoch_microseconds(at))
    return from_epoch_microseconds(hours.opens[place]) if place >= 0 else None


def describe(code: str, at: datetime) -> str:
    """Return whether an asset is traded at `at`, and from when again: "closed; opens next at 2026-11-27 14:30 UTC".

    code: "" for one without a calendar.
    """
    if not code:
        return "always open"
    if code not in CALENDARS:
        return f"there is no trading calendar {code}"
    opens = next_open(code, at)
    text = "open" if is_open(code, at) else "closed"
    if opens is not None:
        text += f"; opens next at {opens:%Y-%m-%d %H:%M} UTC"
    warning = warning_of(code, at)
    return f"{text}. {warning}" if warning else text


def warning_of(code: str, at: datetime) -> str:
    """Return what is to be done about a calendar that ends soon or has ended; "" while there is nothing."""
    last = KNOWN_UNTIL.get(code)
    if last is None or at.date() < last - WARNED_BEFORE:
        return ""
    return (
        f"The holidays of {code} are known to {last:%Y-%m-%d}; after that the usual hours of each weekday count. "
        "Upgrade exchange_calendars."
    )


def previous_close(code: str, at: datetime) -> datetime | None:
    """Return the end of the last session that was over at `at`; None before the first. Raises UnknownCalendar."""
    hours = hours_of(code)
    place = bisect_right(hours.ends, epoch_microseconds(at)) - 1
    return from_epoch_microseconds(hours.ends[place]) if place >= 0 else None
