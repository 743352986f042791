"""The person whom an address of the administration names."""

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest


def person_to_edit(page: Any, request: HttpRequest, user_id: int) -> User:
    """Return a person whom the reader may edit. Raises PermissionDenied where they may not, Http404 where there is no
    such person."""
    person: User | None = page.get_queryset(request).filter(pk=user_id).first()
    if not page.has_change_permission(request, person):
        raise PermissionDenied
    if person is None:
        raise Http404
    return person
