"""`manage.py first_account`: the account of who runs a new installation, its password printed once."""

import secrets
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction


class Command(BaseCommand):
    """Exit status 0; prints the password alone, or nothing where a superuser is there already."""

    help = "Where there is no superuser, make one with a random password and print it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="admin", help="of the account; without it admin")

    def handle(self, *args: Any, **options: Any) -> None:
        password = secrets.token_urlsafe(12)
        with transaction.atomic():
            if User.objects.filter(is_superuser=True).exists():
                return
            User.objects.create_superuser(options["name"], password=password)
        self.stdout.write(password)
