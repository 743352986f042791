"""`manage.py graphql_schema`: write the schema to apps/api/schema.graphql."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from apps.api.graphql.schema import print_schema_text

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "schema.graphql"


class Command(BaseCommand):
    """Exit status 0. A test compares the file with the code."""

    help = "Write the schema of /graphql to apps/api/schema.graphql."

    def handle(self, *args: Any, **options: Any) -> None:
        SCHEMA_FILE.write_text(print_schema_text(), encoding="utf-8")
        self.stdout.write(f"{SCHEMA_FILE} is written.")
