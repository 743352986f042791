"""`manage.py import_quotes FILE --feed NAME`: quotes from a file go into a feed's log as history."""

import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError
from django.utils import timezone

from apps.market.models import Feed
from apps.market.quote_files import QuoteFileInvalid, rows_of
from apps.sources.services import import_history
from apps.tracing import new_trace_id

SECONDS_BETWEEN_PROGRESS = 2.0


class Command(BaseCommand):
    """Exit status 0; 2 with one line on standard error where nothing was written; 130 where it was stopped."""

    help = (
        "Store the quotes of a CSV file (time, symbol, price, perhaps volume; plain or .gz) as history of a feed: "
        "windows and backtests see them, nothing opens. Importing a file again adds nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--feed", required=True, help="name of the feed whose assets the file is about")

    def handle(self, *args: Any, **options: Any) -> None:
        feed = Feed.objects.filter(name=options["feed"]).first()
        if feed is None:
            _refuse(f"there is no feed {options['feed']}; see Feeds in the admin")
        self._reported_at = time.monotonic()
        try:
            # The whole of it once: a file that breaks in the middle leaves nothing behind.
            rows = sum(1 for _ in rows_of(options["file"]))
            imported = import_history(
                feed_id=feed.pk,
                quotes=rows_of(options["file"]),
                now=timezone.now(),
                trace_id=new_trace_id(),
                progress=lambda read: self._report_progress(f"{read:,} of {rows:,} rows".replace(",", " ")),
            )
        except QuoteFileInvalid as error:
            _refuse(str(error))
        except OperationalError as error:
            _refuse(
                f"the database is busy or away; what was imported stands, begin again: {str(error).splitlines()[0]}"
            )
        except KeyboardInterrupt:
            print("import_quotes: stopped; what was imported stands, begin again", file=sys.stderr)
            raise SystemExit(130) from None
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(imported.rejected.items()))
        rejected = f"; {imported.rejected.total()} rejected ({reasons})" if reasons else ""
        there = f"; {imported.repeated} were there already" if imported.repeated else ""
        quotes = f"{imported.accepted} quote{' is' if imported.accepted == 1 else 's are'} imported"
        entries = f"{imported.entries} {'entry' if imported.entries == 1 else 'entries'}"
        self.stdout.write(f"{quotes} in {entries}{there}{rejected}.")

    def _report_progress(self, text: str) -> None:
        if time.monotonic() - self._reported_at >= SECONDS_BETWEEN_PROGRESS:
            self._reported_at = time.monotonic()
            self.stderr.write(f"import_quotes: {text}")


def _refuse(what: str) -> NoReturn:
    print(f"import_quotes: {what}", file=sys.stderr)
    raise SystemExit(2)
