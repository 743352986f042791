"""Trading hours: when an exchange is open, from the kept library `exchange_calendars`. Pure.

The hours of a calendar are computed once, for the same years on whatever day: an answer never depends on when it is
asked for. Outside of what the library knows of an exchange (before it began, or where holidays are not announced yet)
every hour counts as open.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from apps.market.domain import epoch_microseconds, from_epoch_microseconds

FIRST_DAY, LAST_DAY = "1990-01-01", "2049-12-31"

# What may be chosen: the library's code -> what people call it. Not among them: 24/7, which is no calendar at all, and
# ASEX, XBEL, XBSE, XCYS and XTAE, which the library cannot compute with the pandas of today. What is chosen once stays
# here, for it stands in logs.
CALENDARS = {
    "24/5": "Monday to Friday (UTC)",
    "AIXK": "Astana",
    "BVMF": "São Paulo (B3)",
    "CMES": "Chicago Mercantile Exchange",
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
    calendar = _computed(code)
    columns = (calendar.opens, calendar.break_starts, calendar.break_ends, calendar.closes)
    microseconds = (column.to_numpy(dtype="datetime64[us]").astype("int64").tolist() for column in columns)
    sessions = list(zip(*microseconds, strict=True))
    pieces: list[tuple[int, int]] = []
    for opened, paused, resumed, closed in sessions:
        # Where there is no break, its bounds are "not a time", which is the lowest number there is.
        pieces += [(opened, paused), (resumed, closed)] if opened < paused else [(opened, closed)]
    return Hours.of(pieces, ends=[closed for *_, closed in sessions])


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


def describe(code: str, at: datetime) -> str:
    """Return whether an asset is traded at `at`, and from when again: "closed; opens next at 2026-11-27 14:30 UTC".

    code: "" for one without a calendar.
    """
    if not code:
        return "always open"
    if code not in CALENDARS:
        return f"there is no trading calendar {code}"
    opens = next_open(code, at)
    state = "open" if is_open(code, at) else "closed"
    return state if opens is None else f"{state}; opens next at {opens:%Y-%m-%d %H:%M} UTC"


def previous_close(code: str, at: datetime) -> datetime | None:
    """Return the end of the last session that was over at `at`; None before the first. Raises UnknownCalendar."""
    hours = hours_of(code)
    place = bisect_right(hours.ends, epoch_microseconds(at)) - 1
    return from_epoch_microseconds(hours.ends[place]) if place >= 0 else None
