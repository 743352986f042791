"""Transactions of a file, recorded in a portfolio."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.command_line import refuse
from apps.portfolios.domain.files import read_activities
from apps.portfolios.domain.tables import BYTES_LARGEST, Choices, DateOrder, FileRefused, list_rows
from apps.portfolios.importing import ERRORS_MOST, ImportRefused, import_activities
from apps.portfolios.models import Portfolio


class Command(BaseCommand):
    """Exit status 0; 1 where rows are wrong, each in a line, and nothing is recorded; 2, with one line, where the file
    cannot be read or the portfolio is not there."""

    help = "Record the transactions of a file in a portfolio; what is there is left out."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="The file that was exported.")
        parser.add_argument("--owner", required=True, help="The name of the user whose portfolio it is.")
        parser.add_argument("--portfolio", required=True, help="The name of the portfolio.")
        parser.add_argument("--account", help="Only the rows of this account of the file.")
        parser.add_argument(
            "--split",
            action="append",
            default=[],
            metavar="ROW:NEW:OLD",
            help="Record the split of this row, which has this ratio; --dry-run says which splits are to be confirmed.",
        )
        parser.add_argument(
            "--currency", default="", help="The currency of all rows, where the file has no such column."
        )
        parser.add_argument(
            "--kind", default="", help="The kind of all rows, like buy, where the file has no such column."
        )
        parser.add_argument(
            "--date-order",
            choices=[one.value for one in DateOrder],
            help="Whether the day or the month comes first in dates like 10/03/2023, where the file does not show it.",
        )
        parser.add_argument(
            "--leave-out", type=int, action="append", default=[], metavar="ROW", help="Leave out this row."
        )
        parser.add_argument("--dry-run", action="store_true", help="Say what would be recorded, and record nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        named = {"owner__username": options["owner"], "name": options["portfolio"]}
        portfolio = Portfolio.objects.filter(**named).first()
        if portfolio is None:
            refuse("import_transactions", f"{options['owner']} has no portfolio {options['portfolio']}")
        order = options["date_order"]
        choices = Choices(
            currency=options["currency"],
            kind=options["kind"],
            date_order=DateOrder(order) if order else None,
            leave_out=frozenset(options["leave_out"]),
        )
        try:
            with options["file"].open("rb") as file:
                # One byte more says that it is too large.
                read = read_activities(file.read(BYTES_LARGEST + 1), choices)
        except OSError as error:
            refuse("import_transactions", f"{options['file']}: {error.strerror}")
        except FileRefused as error:
            refuse("import_transactions", str(error))
        given = {"account": options["account"], "confirmed": options["split"], "dry_run": options["dry_run"]}
        try:
            done, read = import_activities(portfolio=portfolio, read=read, **given, now=timezone.now())
        except ImportRefused as error:
            for one in error.errors:
                self.stdout.write(f"row {one.row}: {one.message}" if one.row else one.message)
            self.stdout.write(f"{error.count} wrong, so nothing is recorded.")
            raise SystemExit(1) from None
        for message, rows in read.reasons()[:ERRORS_MOST]:
            self.stdout.write(f"{len(rows)} left out (row {list_rows(rows)}): {message}")
        if done.without_cash:
            self.stdout.write(f"{done.without_cash} left out: they move cash, and {portfolio} does not track cash.")
        would = "would be recorded" if options["dry_run"] else "recorded"
        self.stdout.write(f"{done.added} {would}, {done.known} were there already.")
