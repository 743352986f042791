"""`manage.py service_token FILE --account NAME --permission APP.CODE --scope SCOPE`: account and token of a program."""

import os
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Permission, User
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from apps.api.tokens.models import ApiToken
from apps.api.tokens.services import create_token
from apps.command_line import refuse


class Command(BaseCommand):
    """Exit status 0, also where the file is there already; 2 with one line on standard error and nothing written."""

    help = "Make an account without a password and with one permission, and a token of it, alone in a new file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--account", required=True, help="user name; it is made where it is not there")
        parser.add_argument("--permission", required=True, help="like api.read_metrics")
        parser.add_argument("--scope", required=True, choices=ApiToken.Scope.values)

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["file"]
        if path.exists():
            return
        app, _, code = options["permission"].partition(".")
        permission = Permission.objects.filter(content_type__app_label=app, codename=code).first()
        if permission is None:
            refuse("service_token", "--permission: there is no such permission")
        written = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with transaction.atomic():
                account, is_new = User.objects.get_or_create(username=options["account"])
                if is_new:
                    account.set_unusable_password()
                    account.save()
                account.user_permissions.add(permission)
                _, secret = create_token(owner=account, name=path.name, scope=options["scope"])
                written.write_text(secret, encoding="ascii")
                written.replace(path)
        except OSError as error:
            refuse("service_token", f"{path} cannot be written: {error.strerror}")
