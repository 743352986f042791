"""What a message says, and when it is tried again. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

# Market alerts age fast: many tries early, none after a working day.
RETRY_AFTER_SECONDS = (5, 30, 120, 600, 1_800, 7_200, 21_600)
JITTER = 0.2
SUBJECT_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Told:
    """One alert event as it is told. kind: opened or resolved; at: event time."""

    kind: str
    at: datetime
    reason: str
    rule: str
    symbol: str
    severity: str
    words: str
    url: str


def compose(told: Sequence[Told]) -> tuple[str, str]:
    """Return (subject, text) for the events that one message tells, in their order."""
    last = told[-1]
    over = " is over" if last.kind == "resolved" else ""
    subject = f"[{last.severity}] {last.rule}: {last.symbol}{over}"
    lines = []
    for one in told:
        if one.kind == "resolved":
            lines.append(f"Over since {_moment(one.at)} ({one.reason}).")
        else:
            lines += [one.words, f"Opened {_moment(one.at)}."]
    if all(one.kind == "resolved" for one in told):
        lines.insert(0, last.words)
    return _one_line(subject)[:SUBJECT_LONGEST], "\n".join([*lines, "", last.url])


def compose_test(*, channel: str, asked_by: str, at: datetime, url: str) -> tuple[str, str]:
    """Return (subject, text) of a message that only tries a channel."""
    lines = [
        f"This is a test of the channel {channel}, asked for by {asked_by} at {_moment(at)}.",
        "Alerts of the rules that name it come the same way.",
    ]
    return _one_line(f"[test] {channel}")[:SUBJECT_LONGEST], "\n".join([*lines, "", url])


def retry_delay(*, attempts: int, uniform: Callable[[float, float], float]) -> timedelta | None:
    """Return how long to wait after the given number of attempts, or None when it was the last.

    uniform: random.uniform, or what stands in for it; the jitter keeps a crowd from coming back together.
    """
    if attempts > len(RETRY_AFTER_SECONDS):
        return None
    seconds = RETRY_AFTER_SECONDS[attempts - 1]
    return timedelta(seconds=seconds * uniform(1 - JITTER, 1 + JITTER))


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _one_line(text: str) -> str:
    return " ".join(text.split())
