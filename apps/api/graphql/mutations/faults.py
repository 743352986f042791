"""The faults of a mutation as data. Each names the argument, and has a code for programs and a message for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from graphene.utils.str_converters import to_camel_case


class Code(StrEnum):
    """The codes of faults; docs/api.md says what each means."""

    NOT_FOUND = "not_found"
    REQUIRED = "required"
    INVALID = "invalid"
    TAKEN = "taken"
    LIMIT_REACHED = "limit_reached"
    CONFLICT = "conflict"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"


# Django's codes that say more than that a value is wrong.
_CODES = {"blank": Code.REQUIRED, "null": Code.REQUIRED, "unique": Code.TAKEN, "unique_together": Code.TAKEN}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. field: the argument, as the client writes it; None: no single one."""

    code: Code
    message: str
    field: str | None = None


class Faulty(Exception):
    """The change is not made, for reasons that its client can mend."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(one.message for one in faults))
        self.faults = faults


def not_found(field: str) -> Faulty:
    """Return what is raised for an id of what is not there, or is not the reader's. The same words for both."""
    return Faulty(Fault(Code.NOT_FOUND, "There is none, or it is not yours.", field))


def faults_of(error: ValidationError, *, within: Mapping[str, str]) -> list[Fault]:
    """Return what a model or a service found wrong, by argument: those of columns have the columns' names. within:
    column -> the argument that has it."""
    by_column = error.error_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.error_list}
    return [
        Fault(_CODES.get(one.code or "", Code.INVALID), " ".join(one.messages), _field_of(column, one, within))
        for column, errors in by_column.items()
        for one in errors
    ]


def _field_of(column: str, error: ValidationError, within: Mapping[str, str]) -> str | None:
    params = error.params or {}
    if column != NON_FIELD_ERRORS:
        return f"{within[column]}.{to_camel_case(column)}" if column in within else to_camel_case(column)
    if error.code == "transport":
        return f"settings.{params['setting']}".rstrip(".") if "setting" in params else "kind"
    if error.code == "unique_together":
        # The owner is who asks.
        columns = [one for one in params["unique_check"] if one != "owner"]
        return to_camel_case(columns[0]) if len(columns) == 1 else None
    return None
