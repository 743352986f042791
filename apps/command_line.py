"""Shared by management commands: reading times, asking before something is done, the pace of progress lines, the exit
status of an interruption."""

from argparse import ArgumentTypeError
from datetime import UTC, datetime

SECONDS_BETWEEN_PROGRESS = 2.0
INTERRUPTED = 130  # exit status after Ctrl-C


def moment(text: str) -> datetime:
    """Return an aware UTC time; without a zone it is taken for UTC."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!r} is not a time; write it like 2026-01-31T12:00:00Z") from None


def is_confirmed(question: str) -> bool:
    """Ask on the terminal, and return whether the answer is yes. Without a terminal it is no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
