"""`manage.py old_quotes`: the tables that a backup without old quotes leaves empty."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.command_line import refuse
from apps.market.services import tables_of_old_quotes

FEWEST_DAYS = 2


class Command(BaseCommand):
    """Exit status 0; 2 where fewer days are asked for than a restored installation needs."""

    help = "List the tables of PostgreSQL that hold only quotes of older days, which candles tell as well."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--days",
            type=int,
            required=True,
            help=f"So many days before each feed's clock are not listed; {FEWEST_DAYS} or more.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["days"] < FEWEST_DAYS:
            refuse("old_quotes", f"--days: keep {FEWEST_DAYS} days or more; evaluation goes on from the last of them")
        for name in tables_of_old_quotes(older_than=timedelta(days=options["days"]), now=timezone.now()):
            self.stdout.write(name)
