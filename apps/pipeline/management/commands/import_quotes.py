"""`manage.py import_quotes FILE --feed NAME`: quotes from a file go into a feed's log as history, or with --replace in
place of what is stored."""

import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError
from django.utils import timezone

from apps.command_line import INTERRUPTED, is_confirmed, refuse
from apps.market.domain import RawQuote
from apps.market.models import Feed
from apps.market.quote_files import LeftOut, QuoteFileInvalid, in_order, is_in_order, rows_of
from apps.pipeline import corrections
from apps.sources.services import clock_of_past, import_history
from apps.tracing import new_trace_id

SECONDS_BETWEEN_PROGRESS = 2.0


class Command(BaseCommand):
    """Exit status 0; 1 where rows were left out that are wrong, each on standard error; 2 with one line there where
    nothing was written; 130 where it was stopped."""

    help = (
        "Store the quotes of a CSV file (time, symbol, price, perhaps volume; plain or .gz) as history of a feed: "
        "windows and backtests see them, nothing opens. Importing a file again adds nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--skip-invalid", action="store_true", help="leave out rows that cannot be read, and list them"
        )
        parser.add_argument("--feed", required=True, help="name of the feed whose assets the file is about")
        parser.add_argument(
            "--replace",
            action="store_true",
            help="put the file's quotes in place of those that are stored at their times, after a question",
        )
        parser.add_argument("--yes", action="store_true", help="with --replace: do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        feed = Feed.objects.filter(name=options["feed"]).first()
        if feed is None:
            refuse("import_quotes", f"there is no feed {options['feed']}; see Feeds in the admin")
        if options["yes"] and not options["replace"]:
            refuse("import_quotes", "--yes goes with --replace; an import asks nothing")
        self._reported_at = time.monotonic()
        now = timezone.now()
        rows = partial(
            rows_of,
            options["file"],
            now=clock_of_past(feed, now=now),
            symbols=frozenset(feed.assets.values_list("symbol", flat=True)),
            skip_invalid=options["skip_invalid"],
            is_signed=frozenset(feed.assets.filter(signed=True).values_list("symbol", flat=True)).__contains__,
        )
        left_out = LeftOut()
        try:
            # The whole of it once: a file that breaks in the middle leaves nothing behind.
            as_written = is_in_order(left_out.quotes_of(rows()))
            quotes: Iterable[RawQuote] = LeftOut().quotes_of(rows())
            if not as_written:
                quotes = in_order(list(quotes))
            if options["replace"]:
                self._replace(feed, quotes, path=options["file"], left_out=left_out, now=now, is_sure=options["yes"])
                return
            imported = import_history(
                feed_id=feed.pk,
                quotes=quotes,
                now=now,
                trace_id=new_trace_id(),
                progress=self._report_quotes,
            )
        except QuoteFileInvalid as error:
            refuse("import_quotes", str(error))
        except OperationalError as error:
            refuse(
                "import_quotes",
                f"the database is busy or away; what was imported stands, begin again: {str(error).splitlines()[0]}",
            )
        except KeyboardInterrupt:
            print("import_quotes: stopped; what was imported stands, begin again", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        there = f"; {imported.repeated} were there already" if imported.repeated else ""
        quotes_imported = f"{imported.accepted} quote{' is' if imported.accepted == 1 else 's are'} imported"
        self.stdout.write(
            f"{quotes_imported} in {_entries(imported.entries)}{there}{_rejected(left_out, imported.rejected)}."
        )
        self._list(left_out, options["file"])

    def _replace(
        self, feed: Feed, quotes: Iterable[RawQuote], *, path: Path, left_out: LeftOut, now: datetime, is_sure: bool
    ) -> None:
        """Say what the file would change, ask, and do it."""
        admitted = corrections.admit_file(feed, quotes, now=now)
        would = corrections.preview_replacement(admitted)
        if would and not is_sure and not is_confirmed(f"In {feed}: {corrections.describe(would)}. Go on?"):
            refuse("import_quotes", "nothing was changed; answer y, or give --yes")
        done = corrections.replace_quotes(
            feed, admitted, now=now, trace_id=new_trace_id(), progress=self._report_quotes
        )
        there = f"; {done.repeated} were there already" if done.repeated else ""
        rejected = _rejected(left_out, done.rejected)
        self.stdout.write(f"{corrections.describe(done)} in {_entries(done.entries)}{there}{rejected}.")
        self._list(left_out, path)

    def _list(self, left_out: LeftOut, path: Path) -> None:
        """List the rows that were left out, and end with their exit status where some are wrong."""
        for line in left_out.describe():
            print(f"import_quotes: {path.name}, {line}", file=sys.stderr)
        if left_out.wrong:
            raise SystemExit(1)

    def _report_quotes(self, done: int) -> None:
        self._report_progress(f"{done:,} quotes".replace(",", " "))

    def _report_progress(self, text: str) -> None:
        if time.monotonic() - self._reported_at >= SECONDS_BETWEEN_PROGRESS:
            self._reported_at = time.monotonic()
            self.stderr.write(f"import_quotes: {text}")


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _rejected(left_out: LeftOut, rejected: Counter[str]) -> str:
    by_reason = left_out.by_reason + rejected
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(by_reason.items()))
    return f"; {by_reason.total()} rejected ({reasons})" if reasons else ""
