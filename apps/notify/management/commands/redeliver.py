"""`manage.py redeliver`: have what was given up sent again."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.canary import is_not_canary
from apps.command_line import moment, refuse
from apps.notify.models import Channel, Message
from apps.notify.services import redeliver


class Command(BaseCommand):
    """Exit status 0 where what was asked for is done, be it nothing; 2 where a name is unknown or nothing is named."""

    help = "Have messages that were given up sent again, with the same ids: a receiver can drop what it had already."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--channel", metavar="NAME", help="only those of channels of this name")
        parser.add_argument("--owner", metavar="NAME", help="only those of this user's channels")
        parser.add_argument("--since", type=moment, metavar="TIME", help="only those made since then")
        parser.add_argument("--dry-run", action="store_true", help="say which, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        name, owner, since = options["channel"], options["owner"], options["since"]
        if not (name or owner or since):
            refuse("redeliver", "say which: --channel NAME, --owner NAME, --since TIME, or several of them")
        channels = Channel.objects.filter(is_not_canary("pk")).select_related("owner")
        channels = channels.order_by("owner__username", "name")
        if owner:
            if not get_user_model().objects.filter(username=owner).exists():
                refuse("redeliver", f"there is no user {owner}")
            channels = channels.filter(owner__username=owner)
        if name:
            channels = channels.filter(name=name)
            if not channels:
                refuse("redeliver", f"there is no channel {name}" + (f" of {owner}" if owner else ""))
        total = sum(self._redeliver(channel, since=since, is_dry=options["dry_run"]) for channel in channels)
        if not total:
            self.stdout.write("Nothing to send again.")
        elif not options["dry_run"]:
            self.stdout.write("They are sent within some seconds while beat and a notifier run.")

    def _redeliver(self, channel: Channel, *, since: Any, is_dry: bool) -> int:
        """Return how many messages are sent again, or would be."""
        failed = Message.objects.filter(channel=channel, status=Message.Status.FAILED)
        if since:
            failed = failed.filter(created_at__gte=since)
        count = failed.count()
        whose = f"{channel.owner.get_username()}: {channel}"
        if not count:
            return 0
        if not channel.is_enabled:
            self.stdout.write(f"{whose}: disabled, so {count} stay as they are; enable it first")
            return 0
        if not is_dry:
            count = redeliver(messages=failed, now=timezone.now())
        self.stdout.write(f"{whose}: {count} {'would be sent' if is_dry else 'to be sent'} again")
        return count
