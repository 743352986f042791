"""Somebody who looks at the site all the time while faults happen."""

import threading
import time
from contextlib import suppress
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.rig import Rig, free_port, wait_until

PAGES = ("/readyz", "/admin/login/")


class Visitor:
    """It has a web process of its own; `errors` are the answers of 500 and more, `visits` all of them.

    may_be_unavailable: 503 is not an error, since the database is away for a while."""

    def __init__(self, processes: Rig, *, may_be_unavailable: bool = False) -> None:
        self._ours = {503} if may_be_unavailable else set()
        self.errors: list[str] = []
        self.visits = 0
        self._is_over = threading.Event()
        port = free_port()
        self._site = f"http://127.0.0.1:{port}"
        processes.start(
            *("gunicorn", "fintech.wsgi", "--bind", f"127.0.0.1:{port}", "--worker-class", "fintech.web.WebWorker"),
            *("--threads", "2", "--no-control-socket"),
            name="web",
        )
        wait_until(self._visit)
        threading.Thread(target=self._visit_all_the_time, daemon=True).start()

    def leave(self) -> None:
        self._is_over.set()

    def _visit_all_the_time(self) -> None:
        while not self._is_over.is_set():
            self._visit()
            time.sleep(0.2)

    def _visit(self) -> bool:
        for page in PAGES:
            # No answer at all is what there is before it has begun, and after it was ended.
            with suppress(OSError, HTTPException):
                try:
                    with urlopen(self._site + page, timeout=10):  # noqa: S310
                        self.visits += 1
                except HTTPError as error:
                    self.visits += 1
                    if error.code >= 500 and error.code not in self._ours:
                        self.errors.append(f"{page} {error.code}")
        return self.visits > 0
