"""Cuts texts to the longest that a service takes, in its own unit. Pure."""

from bisect import bisect_left
from collections.abc import Callable


def cut(text: str, *, room: int, url: str, size: Callable[[str], int]) -> str:
    """Return the text, or as much of its beginning as has room together with a last line that says how much is missing
    and where all of it is. size: how much room a text takes; more for a longer one."""
    if size(text) <= room:
        return text

    def beginning(length: int) -> str:
        return f"{text[:length]}\n… {len(text) - length:,} more characters: {url}"

    too_long = bisect_left(range(len(text)), True, key=lambda length: size(beginning(length)) > room)
    return beginning(max(too_long - 1, 0))


def cut_line(line: str, *, room: int, size: Callable[[str], int]) -> str:
    """Return the line, or as much of its beginning as has room with an ellipsis after it."""
    if size(line) <= room:
        return line
    too_long = bisect_left(range(len(line)), True, key=lambda length: size(f"{line[:length]}…") > room)
    return f"{line[: max(too_long - 1, 0)]}…"


def utf16(text: str) -> int:
    """Return how many UTF-16 units a text has: most emoji are two."""
    return len(text) + sum(mark > "\uffff" for mark in text)
