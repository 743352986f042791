"""What the pages of rules, and of the apps downstream, have in common."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.utils import display_for_label

from apps.canary import is_not_canary
from apps.reader import active_reader
from apps.rules.domain import describe_rule
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid

STATE_LABEL = {
    "firing": "danger",
    "recovering": "warning",
    "pending": "warning",
    "unknown": "info",
    "paused": "warning",
    "error": "danger",
    "ended": "",
    "inactive": "",
}


class OwnedRows:
    """Shows people their own rows, and superusers all but the canary's. owner_lookup: the way from a row to its
    owner."""

    owner_lookup = "owner"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)  # type: ignore[misc]
        if request.user.is_superuser:
            return rows.filter(is_not_canary(self.owner_lookup.partition("__")[0]))
        return rows.filter(**{self.owner_lookup: request.user})


class ChosenOwner:
    """Offers the owners for whom the reader may make rows, the reader first."""

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "owner":
            kwargs["initial"] = request.user
            kwargs["queryset"] = owners_to_choose(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]


def owners_to_choose(user: Any) -> QuerySet[User]:
    """Return whom `user` may make rows for: themselves; a superuser everybody."""
    return User.objects.filter(Q(pk__gt=0) if user.is_superuser else Q(pk=user.pk))


def state_label(state: str, text: str = "") -> SafeString:
    """Return a state in its colour."""
    return display_for_label((state, text or state), "", STATE_LABEL)


def describe_document(document: Any) -> str:
    """Return a version in words, or why it cannot be read."""
    try:
        spec = RuleSpec.read(document)
    except RuleInvalid as error:
        return f"cannot be read: {error}"
    return describe_rule(spec, reader=active_reader()) + ("" if spec.enabled else " (disabled)")
