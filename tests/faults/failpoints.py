"""Places where a worker kills itself, once each: imported by the workers of a test with `-I`, driven by
FAILPOINTS_FOLDER.

A place fires when the file NAME.armed can be taken away, so a kill happens once whatever is run again. Leases are
short here.
"""

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from apps.market.services import fetching, log
from apps.notify.services import sending
from apps.pipeline import flow
from apps.rules import services as rules

FOLDER = Path(os.environ.get("FAILPOINTS_FOLDER", "/nonexistent"))

PLACES = (
    "store-before-commit",
    "store-after-commit",
    "judge-before-commit",
    "judge-after-commit",
    "plan-before-commit",
    "claim-after-commit",
    "deliver-after-send",
)


def arm(folder: Path) -> None:
    """Make every place fire once."""
    for place in PLACES:
        (folder / f"{place}.armed").touch()


def fired(folder: Path) -> set[str]:
    """Return the places that have killed their process."""
    return {place for place in PLACES if not (folder / f"{place}.armed").exists()}


def die(place: str) -> None:
    """Kill this process as an out-of-memory killer would, if the place is still armed."""
    try:
        (FOLDER / f"{place}.armed").unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def before(function: Callable[..., Any], place: str, *, when: Callable[..., bool] = lambda *a, **k: True) -> Any:
    """Return `function` with a failpoint before it."""

    def failing(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            die(place)
        return function(*args, **kwargs)

    return failing


def after(function: Callable[..., Any], place: str, *, when: Callable[..., bool] = lambda result: True) -> Any:
    """Return `function` with a failpoint after it."""

    def failing(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if when(result):
            die(place)
        return result

    return failing


if FOLDER.is_dir():
    fetching.FETCH_LEASE = timedelta(seconds=2)
    sending.SEND_LEASE = timedelta(seconds=2)
    log._advance_latest = after(log._advance_latest, "store-before-commit")
    fetching.cache_latest = before(fetching.cache_latest, "store-after-commit")
    # With alerts and debts written and not committed: the state that must not be seen by halves.
    flow.notify.owe = after(flow.notify.owe, "judge-before-commit", when=bool)
    rules.keep_engine = before(rules.keep_engine, "judge-after-commit")
    flow.notify.plan = before(flow.notify.plan, "plan-before-commit")
    sending._claim = after(sending._claim, "claim-after-commit", when=lambda attempt: attempt is not None)
    sending._finish = before(
        sending._finish, "deliver-after-send", when=lambda attempt, **_: attempt.message.channel.kind == "email"
    )
