"""How numbers, dates and times are written for a reader. Texts are in English for everyone. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo

NARROW_SPACE = "\u202f"  # A space at which no line breaks.


@dataclass(frozen=True, slots=True)
class Locale:
    """The marks within numbers, and the forms of dates and of times to the second, as strftime has them.

    name: for people. group_mark: lines must not break at it.
    """

    name: str
    decimal_mark: str
    group_mark: str
    date: str
    clock: str = "%H:%M:%S"

    def form(self, form: str) -> str:
        """Return a form of strftime with this locale's own in place of %x (date), %X (time) and %R (to the minute)."""
        minutes = self.clock.replace(":%S", "")
        return form.replace("%x", self.date).replace("%X", self.clock).replace("%R", minutes)


# Code -> locale. The first is the default.
LOCALES: Mapping[str, Locale] = {
    "en": Locale("International", ".", NARROW_SPACE, "%Y-%m-%d"),
    "en-US": Locale("American", ".", ",", "%m/%d/%Y", "%I:%M:%S %p"),
    "en-GB": Locale("British", ".", ",", "%d/%m/%Y"),
    "de": Locale("German", ",", ".", "%d.%m.%Y"),
    "fr": Locale("French", ",", NARROW_SPACE, "%d/%m/%Y"),
    "pt-BR": Locale("Brazilian", ",", ".", "%d/%m/%Y"),
}
DEFAULT_CODE = "en"


@dataclass(frozen=True, slots=True)
class Reader:
    """What a text depends on besides its facts: the zone of its times, and how numbers and dates are written."""

    zone: tzinfo = UTC
    locale: Locale = LOCALES[DEFAULT_CODE]


# The reader of programs, of files, and of sentences that are stored.
STANDARD = Reader()
