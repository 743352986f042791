"""What the address of an admin page may say: the filters that its list declares, and values that can be read."""

from contextlib import suppress
from datetime import UTC
from typing import Any

from django import forms
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DataError, models
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from apps.reader import zone_name

# Fields, filters and databases raise these for unreadable values.
_UNREADABLE = (ValidationError, ValueError, TypeError, OverflowError, DataError)


class CheckedList(ChangeList):
    """A list that is filtered by what its filters take and by nothing else. What they cannot read shows the whole
    list."""

    def get_filters(self, request: HttpRequest) -> Any:
        found = super().get_filters(request)
        if left := found[2]:
            raise DisallowedModelAdminLookup(f"Filtering by {next(iter(left))} not allowed")
        return found

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().get_queryset(request, *args, **kwargs)
        except _UNREADABLE as error:
            raise IncorrectLookupParameters(error) from error

    def get_results(self, request: HttpRequest) -> None:
        try:
            super().get_results(request)
        except _UNREADABLE as error:
            raise IncorrectLookupParameters(error) from error


class CheckedAddress:
    """Every page of the admin has it, before Django's own classes."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[CheckedList]:
        return CheckedList

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Let an address filter by the list's own filters and by nothing else.

        By any related row, a list would reveal rows that its reader does not see.
        """
        first = lookup.split("__", 1)[0]
        filters = [one[0] if isinstance(one, tuple) else one for one in self.get_list_filter(request)]  # type: ignore[attr-defined]
        if first not in [getattr(one, "parameter_name", one) for one in filters]:
            with suppress(FieldDoesNotExist):
                self.opts.get_field(first)  # type: ignore[attr-defined]
                return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[misc]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the form begins with by its address: what its fields can read."""
        given = super().get_changeform_initial_data(request)  # type: ignore[misc]
        fields = self.get_form(request).base_fields if given else {}  # type: ignore[attr-defined]
        initial = {}
        for name in given.keys() & fields.keys():
            with suppress(*_UNREADABLE):
                initial[name] = _initial_of(fields[name], given[name])
        return initial


def _initial_of(field: forms.Field, value: Any) -> Any:
    """Return a value of an address as the field's widget shows it; it raises one of _UNREADABLE."""
    if isinstance(field, forms.SplitDateTimeField):
        moment = forms.DateTimeField(required=False).clean(value)
        return None if moment is None else moment.astimezone(UTC)
    field.to_python(value)
    return value


class SiteAdmin(CheckedAddress, ModelAdmin):
    """The least that a page of the admin has."""

    def formfield_for_dbfield(self, db_field: models.Field, request: HttpRequest, **options: Any) -> Any:
        """Return the field of a form; one of times names the zone that it reads and shows them in."""
        field = super().formfield_for_dbfield(db_field, request, **options)
        if field is not None and isinstance(db_field, models.DateTimeField):
            field.help_text = f"{zone_name()}. {field.help_text}".strip()
        return field
