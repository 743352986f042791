"""`manage.py create_token --owner NAME --name WORDS [--scope read|write|metrics]`: a token for the API or Prometheus,
printed once."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.api.tokens.models import ApiToken
from apps.api.tokens.services import create_token
from apps.command_line import refuse

DAYS_LONGEST = 3650


class Command(BaseCommand):
    """Exit status 0 and the token alone on standard output; 2 with one line on standard error and nothing written."""

    help = "Make a token and print it. Only a digest is kept: nobody can print it again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--owner", required=True, help="user name of the owner")
        parser.add_argument("--name", required=True, help="what it is for")
        parser.add_argument(
            "--scope",
            choices=ApiToken.Scope.values,
            default=ApiToken.Scope.READ,
            help="what it opens; read: queries; write: changes, pushed quotes and alerts too; metrics: /metrics alone, "
            "for Prometheus",
        )
        parser.add_argument("--days", type=int, help="after so many days it is refused; without it, never by itself")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = get_user_model().objects.filter(username=options["owner"], is_active=True).first()
        if owner is None:
            refuse("create_token", "--owner: there is no such active user")
        days = options["days"]
        if days is not None and not 1 <= days <= DAYS_LONGEST:
            refuse("create_token", f"--days must be from 1 to {DAYS_LONGEST}")
        expires_at = timezone.now() + timedelta(days=days) if days is not None else None
        try:
            _, secret = create_token(owner=owner, name=options["name"], expires_at=expires_at, scope=options["scope"])
        except ValidationError as error:
            field, text = next(iter(error.message_dict.items()))
            refuse("create_token", f"--{field}: {text[0]}")
        self.stdout.write(secret)
