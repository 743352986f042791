"""What every page of the site may show in its navigation."""

from collections.abc import Callable

from django.http import HttpRequest

from apps.notify.domain import describe_unread
from apps.notify.queries import unread_in_inbox


def inbox(request: HttpRequest) -> dict[str, Callable[[], str]]:
    """Return how many messages are unread, counted only by a template that shows it."""
    return {"inbox_unread": lambda: describe_unread(unread_in_inbox(request.user))}
