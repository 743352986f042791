"""The stored copies of portfolios, compared with what their transactions come to."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.portfolios.copying import differences, stored_copy
from apps.portfolios.models import Portfolio
from apps.portfolios.services import TransactionsRefused, copies_now, recompute


class Command(BaseCommand):
    """Exit status 0; 1 where a copy differs, or cannot be made; 2 where nothing was asked for."""

    help = "Compare the stored copy of every portfolio with what its transactions come to, or write it anew."

    def add_arguments(self, parser: CommandParser) -> None:
        asked = parser.add_mutually_exclusive_group(required=True)
        asked.add_argument("--check", action="store_true", help="Name every difference, and change nothing.")
        asked.add_argument(
            "--recompute",
            action="store_true",
            help="Write every copy anew, and look again for rates and prices that were missing.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wrong = 0
        portfolios = list(Portfolio.objects.select_related("owner").order_by("pk"))
        for portfolio in portfolios:
            name = f"{portfolio.owner}: {portfolio}"
            if options["recompute"]:
                try:
                    recompute(portfolio=portfolio)
                except TransactionsRefused as error:
                    wrong += 1
                    self.stdout.write(f"{name}: cannot be computed: {error}")
                continue
            found = differences(stored_copy(portfolio), copies_now(portfolio)[portfolio.pk])
            if found:
                wrong += 1
                self.stdout.write(f"{name}: differs in {', '.join(found)}")
        done = "recomputed" if options["recompute"] else "compared"
        self.stdout.write(f"{len(portfolios)} portfolios {done}, {wrong} wrong.")
        if wrong:
            raise SystemExit(1)
