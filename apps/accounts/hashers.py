"""How passwords are hashed: Django's way, a few at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

from django.contrib.auth.hashers import PBKDF2PasswordHasher

# Of one process. A hash takes a third of a second of a core on purpose, so whoever sends many passwords would keep
# every thread and core at it. One that is worked on and two that wait leave the other threads to the other pages.
AT_ONCE = 1
WAITING = 2
WAIT_SECONDS = 3.0

_working = BoundedSemaphore(AT_ONCE)
_here = BoundedSemaphore(AT_ONCE + WAITING)


class TooManyPasswords(Exception):
    """This process works on as many passwords as it may. Trying again in some seconds may help."""


class BoundedHasher(PBKDF2PasswordHasher):
    """Computes every password hash, few at once in this process. Raises TooManyPasswords."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> Any:
        with _turn():
            return super().encode(password, salt, iterations)


@contextmanager
def _turn() -> Iterator[None]:
    if not _here.acquire(blocking=False):
        raise TooManyPasswords
    try:
        if not _working.acquire(timeout=WAIT_SECONDS):
            raise TooManyPasswords
        try:
            yield
        finally:
            _working.release()
    finally:
        _here.release()
