"""`manage.py prune`: drop what is older than it is kept for, or say what would be dropped."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.pipeline import flow

_NAMES = {
    "minute_candles": "minute candles",
    "switches": "changes of provider",
    "checkpoints": "checkpoints",
    "transitions": "steps of rules",
    "backtests": "backtests",
    "idempotency_keys": "idempotency keys",
    "import_files": "unconfirmed uploads",
    "silences": "silences",
    "messages": "messages",
}


class Command(BaseCommand):
    """Exit status 0."""

    help = "Drop quotes, candles, checkpoints, steps, backtests, silences and messages that are kept no longer, as "
    help += "each hour does."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would be dropped, and write nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        found = flow.prune(dry_run=options["dry_run"])
        verb = "would be dropped" if options["dry_run"] else "dropped"
        for day, quotes in found["days"].items():
            self.stdout.write(f"quotes of {day}: {quotes} {verb}")
        for name, text in _NAMES.items():
            self.stdout.write(f"{text}: {found[name]} {verb}")
