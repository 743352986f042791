"""Shared by management commands: reading times, asking before something is done, refusing, the pace of progress lines,
the exit status of an interruption."""

import sys
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import NoReturn

SECONDS_BETWEEN_PROGRESS = 2.0
INTERRUPTED = 130  # exit status after Ctrl-C
REFUSED = 2  # exit status of a command that was not called as it can be


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


def refuse(command: str, why: str, *, status: int = REFUSED) -> NoReturn:
    """Write one line to standard error, the command and why it does nothing, and exit."""
    print(f"{command}: {' '.join(why.split())}", file=sys.stderr)
    raise SystemExit(status)
