"""`manage.py scenario flash-crash | provider-outage | slow-sink | worker-kill | flood`: trouble on purpose."""

import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.command_line import INTERRUPTED, refuse
from apps.pipeline import scenarios


def _within(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
            raise ArgumentTypeError(f"write a whole number from {lowest} to {highest}")
        return int(text)

    return read


class Command(BaseCommand):
    """Exit status 0 once it is over and undone; 130 where Ctrl-C ended it sooner, undone too; 2 with one line on
    standard error where it cannot be played."""

    help = "Make trouble in a running system, for a while, and undo it. docs/operations.md says what to look at."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--yes", action="store_true", help="needed where DJANGO_DEBUG is off")
        kinds = parser.add_subparsers(dest="kind", required=True)
        crash = kinds.add_parser("flash-crash", help="an invented market falls and recovers")
        outage = kinds.add_parser("provider-outage", help="an invented market does not answer")
        sink = kinds.add_parser("slow-sink", help="a channel's receiver takes too long")
        kill = kinds.add_parser("worker-kill", help="a child of a worker dies")
        flood = kinds.add_parser("flood", help="many tasks wait in a queue")
        for one in (crash, outage, flood):
            one.add_argument("--feed", required=True, help="the feed's name")
        for one in (crash, outage, sink):
            one.add_argument("--seconds", type=_within(1, 3_600), default=60, help="how long it lasts (60)")
        crash.add_argument("--percent", type=_within(1, 99), default=40, help="how far it falls (40)")
        sink.add_argument("--owner", required=True, help="whose channel it is")
        sink.add_argument("--delay", type=_within(1, 60), default=15, help="seconds until an answer (15)")
        sink.add_argument("--port", type=_within(1, 65_535), default=9_980, help="of the receiver, on loopback (9980)")
        kill.add_argument("--worker", default="notifier", help="its name (notifier)")
        flood.add_argument("--count", type=_within(1, scenarios.FLOOD_LARGEST), default=1_000, help="tasks (1000)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG and not options["yes"]:
            refuse(
                "scenario",
                "this is no development system; it makes real alerts and messages: write --yes before the scenario",
            )
        try:
            getattr(self, f"_{options['kind'].replace('-', '_')}")(**options)
        except scenarios.ScenarioRefused as error:
            refuse("scenario", str(error))
        except KeyboardInterrupt:
            self._say("Interrupted, and undone.")
            raise SystemExit(INTERRUPTED) from None

    def _flash_crash(self, *, feed: str, seconds: int, percent: int, **_: Any) -> None:
        with scenarios.scripted("flash_crash", feed_name=feed, seconds=seconds, percent=percent) as ends_at:
            self._say(f"{feed} falls by {percent} % and is where it was at {ends_at:%H:%M:%S} UTC.")
            self._wait(ends_at)

    def _provider_outage(self, *, feed: str, seconds: int, **_: Any) -> None:
        with scenarios.scripted("outage", feed_name=feed, seconds=seconds) as ends_at:
            self._say(f"{feed} is not answered until {ends_at:%H:%M:%S} UTC.")
            self._wait(ends_at)

    def _slow_sink(self, *, owner: str, seconds: int, delay: int, port: int, **_: Any) -> None:
        with scenarios.slow_sink(owner_name=owner, delay_seconds=delay, port=port) as listening:
            ends_at = timezone.now() + timedelta(seconds=seconds)
            self._say(
                f"The channel “{scenarios.CHANNEL}” posts to 127.0.0.1:{listening}, which answers after {delay} s, "
                f"until {ends_at:%H:%M:%S} UTC."
            )
            self._wait(ends_at)

    def _worker_kill(self, *, worker: str, **_: Any) -> None:
        killed, children = scenarios.kill_child(worker)
        self._say(f"Killed {killed} of {worker}, which now has {', '.join(map(str, sorted(children)))}.")

    def _flood(self, *, feed: str, count: int, **_: Any) -> None:
        scenarios.flood(feed_name=feed, count=count)
        self._say(f"Sent {count} tasks that evaluate {feed}; the queue empties by itself.")

    def _wait(self, until: datetime) -> None:
        # A little longer: the feed's clock is to have passed the end.
        while timezone.now() < until + timedelta(seconds=2):
            time.sleep(0.2)
        self._say("It is over, and undone.")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
