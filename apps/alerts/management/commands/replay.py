"""`manage.py replay`: prove that what fired is what should have fired."""

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.alerts.replay import Comparison, ReplayRefused, describe, replay
from apps.command_line import SECONDS_BETWEEN_PROGRESS, moment, refuse
from apps.market.models import Feed
from apps.market.queries import every_feed

STEPS_SHOWN = 50


class Command(BaseCommand):
    """Exit status 0 where log and record agree; 1 where an alert is missing or extra; 2 if they cannot be compared."""

    help = "Read the log again, from the nearest checkpoint, and compare what fires with the alerts on record."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from", dest="since", type=moment, required=True, metavar="TIME", help="by the feeds' clock"
        )
        parser.add_argument("--to", dest="until", type=moment, metavar="TIME", help="default now")
        parser.add_argument("--feed", action="append", metavar="NAME", help="only this feed; may be given again")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        since, until = options["since"], options["until"] or timezone.now()
        if since > until:
            refuse("replay", "--from is after --to")
        feeds = list(every_feed().order_by("name"))
        for name in options["feed"] or ():
            if name not in {feed.name for feed in feeds}:
                refuse("replay", f"there is no feed {name}")
        chosen = [feed for feed in feeds if not options["feed"] or feed.name in options["feed"]]
        self._started = self._reported_at = time.monotonic()
        try:
            found = [replay(feed, since=since, until=until, progress=self._progress(feed)) for feed in chosen]
        except ReplayRefused as error:
            refuse("replay", str(error))
        self.stdout.write(_json(found) if options["json"] else _lines(found))
        if any(one.missing or one.extra for one in found):
            raise SystemExit(1)

    def _progress(self, feed: Feed) -> Any:
        def report(done: float) -> None:
            if time.monotonic() - self._reported_at >= SECONDS_BETWEEN_PROGRESS:
                self._reported_at = time.monotonic()
                self.stderr.write(f"replay: {feed.name} {done:.0%} after {self._reported_at - self._started:.0f} s")

        return report


def _json(found: list[Comparison]) -> str:
    rows = [
        {
            "feed": one.feed,
            "entries": one.entries,
            "same": one.same,
            "missing": describe(one.missing),
            "extra": describe(one.extra),
        }
        for one in found
    ]
    return json.dumps({"feeds": rows}, ensure_ascii=False)


def _lines(found: list[Comparison]) -> str:
    lines = []
    for one in found:
        counts = f"{one.same} same, {len(one.missing)} missing, {len(one.extra)} extra"
        lines.append(f"{one.feed}: {one.entries} entries, {counts}")
        lines += [f"  missing  {summary}" for summary in describe(one.missing[:STEPS_SHOWN])]
        lines += [f"  extra    {summary}" for summary in describe(one.extra[:STEPS_SHOWN])]
    return "\n".join(lines or ["There are no feeds."])
