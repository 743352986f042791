"""`manage.py delete_quotes SYMBOL --from TIME --to TIME`: delete wrong quotes of an asset, as an entry of its log."""

import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError
from django.utils import timezone

from apps.command_line import INTERRUPTED, SECONDS_BETWEEN_PROGRESS, is_confirmed, moment, refuse
from apps.market.models import Asset
from apps.market.services import CorrectionRefused
from apps.pipeline import corrections
from apps.tracing import new_trace_id


class Command(BaseCommand):
    """Exit status 0; 2 with one line on standard error where nothing was deleted; 130 where it was stopped."""

    help = (
        "Delete the quotes of an asset from one time to another, after a question. Windows, candles and the newest "
        "price are what is left from then on; nothing opens or resolves, and alerts that saw one of them say so."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("symbol", help="the asset, like BTC-USD")
        parser.add_argument("--from", dest="since", type=moment, required=True, metavar="TIME", help="the first time")
        parser.add_argument(
            "--to", dest="until", type=moment, required=True, metavar="TIME", help="the first time that stays"
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        asset = Asset.objects.filter(symbol=options["symbol"]).first()
        if asset is None:
            refuse("delete_quotes", f"there is no asset {options['symbol']}; see Assets in the admin")
        between = {"since": options["since"], "until": options["until"]}
        self._reported_at = time.monotonic()
        try:
            would = corrections.preview_deletion(asset, **between)
            if not would:
                refuse("delete_quotes", f"{asset} has no quotes in that range")
            if not options["yes"] and not is_confirmed(f"Of {asset}: {corrections.describe(would)}. Go on?"):
                refuse("delete_quotes", "nothing was deleted; answer y, or give --yes")
            done = corrections.delete_quotes(
                asset, **between, now=timezone.now(), trace_id=new_trace_id(), progress=self._report_progress
            )
        except CorrectionRefused as refused:
            refuse("delete_quotes", str(refused))
        except OperationalError as error:
            refuse(
                "delete_quotes",
                f"the database is busy or away; what was deleted is gone, begin again: {str(error).splitlines()[0]}",
            )
        except KeyboardInterrupt:
            print("delete_quotes: stopped; what was deleted is gone, begin again", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        entries = f"{done.entries} {'entry' if done.entries == 1 else 'entries'}"
        self.stdout.write(f"{corrections.describe(done)} in {entries}.")

    def _report_progress(self, quotes: int) -> None:
        if time.monotonic() - self._reported_at >= SECONDS_BETWEEN_PROGRESS:
            self._reported_at = time.monotonic()
            self.stderr.write(f"delete_quotes: {quotes:,} quotes".replace(",", " "))
