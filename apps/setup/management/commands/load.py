"""`manage.py load FILE --owner NAME`: a set-up from one YAML file."""

from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError
from django.utils import timezone

from apps.command_line import refuse
from apps.setup.loading import SetupInvalid, load_setup, read_setup
from apps.tracing import new_trace_id


class Command(BaseCommand):
    """Exit status 0, or 2 with one line on standard error and nothing written."""

    help = "Load feeds, assets, channels and rules from a YAML file (docs/setup.md). Loading it again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--owner", required=True, help="user name of the owner of its rules and channels")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            owner = get_user_model().objects.filter(username=options["owner"]).first()
            if owner is None:
                raise SetupInvalid(f"--owner: there is no user {options['owner']}; make one with createsuperuser")
            setup = read_setup(options["file"])
            loaded = load_setup(setup, owner=owner, now=timezone.now(), trace_id=new_trace_id())
        except SetupInvalid as error:
            refuse("load", str(error))
        except OperationalError as error:
            why = str(error).splitlines()[0]
            refuse("load", f"the database is busy or away, nothing was written: {why}")
        counts = {"feed": loaded.feeds, "asset": loaded.assets, "derived series": loaded.series}
        counts |= {"channel": loaded.channels, "rule": loaded.rules}
        # "Series" is the same of one and of many.
        said = ", ".join(
            f"{count} {noun}{'' if count == 1 or noun.endswith('s') else 's'}" for noun, count in counts.items()
        )
        self.stdout.write(f"Loaded: {said}.")
