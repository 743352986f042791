"""The base classes of mutations. They check the permission, open one transaction, return what is wrong as data, and
make nothing twice under one idempotency key."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import graphene
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, QuerySet
from django.utils import timezone
from graphene.utils.props import props

from apps.accounts.services import KeyReused, claim_key, note_created
from apps.api.graphql.context import Context
from apps.api.graphql.errors import Forbidden
from apps.api.graphql.mutations.faults import Code, Fault, Faulty, faults_of, not_found
from apps.api.graphql.scalars import enum
from apps.public_ids import with_public_id

Row = TypeVar("Row", bound=Model)

KEY_LONGEST = 64

_KEY = re.compile(r"[!-~]{1,64}\Z")

ErrorCode = enum("ErrorCode", Code, description="What is wrong with a change; docs/api.md says what each means.")


class UserError(graphene.ObjectType):
    """Something that is wrong with a change, and that its client can mend."""

    field = graphene.String(description="The argument, and the place in it; null where it is no single one.")
    code = graphene.Field(ErrorCode, required=True, description="The code of the error.")
    message = graphene.String(required=True, description="The same as a sentence.")

    def resolve_code(fault: Fault, info: Any) -> str:
        return str(fault.code)


class Mutation(graphene.Mutation):
    """A change, made whole in one transaction or not at all.

    permission, for_staff: what its user needs, as in the admin; columns_within: column -> the argument that has it.
    change() makes it, and returns the fields of the answer by name; it raises Faulty and ValidationError.
    """

    class Meta:
        abstract = True

    permission: str
    for_staff = False
    columns_within: Mapping[str, str] = {}
    errors = graphene.List(
        graphene.NonNull(UserError), required=True, description="Why nothing was changed; empty where it was."
    )

    @classmethod
    def __init_subclass_with_meta__(cls, **options: Any) -> None:
        super().__init_subclass_with_meta__(name=f"{cls.__name__}Payload", **options)

    def resolve_errors(root: Any, info: Any) -> Any:
        return root.errors or []

    @classmethod
    def mutate(cls, root: None, info: Any, **arguments: Any) -> "Mutation":
        """Make the change and answer with it, or with what is wrong. Raises Unauthenticated and Forbidden."""
        user = info.context.owner()
        if not user.has_perm(cls.permission) or (cls.for_staff and not user.is_staff):
            raise Forbidden
        try:
            with transaction.atomic():
                return cls(**cls.run(info.context, timezone.now(), **arguments))
        except Faulty as error:
            return cls(errors=error.faults)
        except ValidationError as error:
            return cls(errors=faults_of(error, within=cls.columns_within))

    @classmethod
    def run(cls, context: Context, now: datetime, **arguments: Any) -> dict[str, Any]:
        """Make the change, in the caller's transaction, and return the fields of the answer."""
        return cls.change(context, now, **arguments)

    @classmethod
    def change(cls, context: Context, now: datetime, **arguments: Any) -> Any:
        """Make the change. Each mutation has its own; its class says what it returns."""
        raise NotImplementedError


class Creation(Mutation):
    """A change that makes something, once for each idempotency key.

    change() returns the new thing alone, and found() is given its id, so that a repeat gets the same answer.
    gives: the name of the field of the answer.
    """

    class Meta:
        abstract = True

    gives: str

    @classmethod
    def __init_subclass_with_meta__(cls, **options: Any) -> None:
        key = graphene.String(
            required=True,
            description="A text of your own, of 1 to 64 characters of ASCII without spaces, like a UUID. A repeat "
            "under it within 24 hours makes nothing new, and gets the same answer.",
        )
        arguments = {"idempotency_key": key} | props(cls.Arguments)
        super().__init_subclass_with_meta__(arguments=arguments, **options)

    @classmethod
    def run(cls, context: Context, now: datetime, *, idempotency_key: str, **arguments: Any) -> dict[str, Any]:
        """Create it in the caller's transaction, or find what was created under this key before."""
        if not _KEY.match(idempotency_key):
            text = f"Send 1 to {KEY_LONGEST} characters of ASCII without spaces."
            raise Faulty(Fault(Code.INVALID, text, "idempotencyKey"))
        content = [cls.__name__, arguments]
        try:
            claimed = claim_key(owner=context.owner(), key=idempotency_key, content=content, now=now)
        except KeyReused:
            text = "Something else was created under this key. Send another key."
            raise Faulty(Fault(Code.IDEMPOTENCY_KEY_REUSED, text, "idempotencyKey")) from None
        if claimed.created:
            return {cls.gives: cls.found(context, claimed.created)}
        made = cls.change(context, now, **arguments)
        note_created(claimed=claimed, created=cls.id_of(made))
        return {cls.gives: cls.found(context, cls.id_of(made))} | cls.beside(made, **arguments)

    @classmethod
    def id_of(cls, made: Any) -> str:
        """Return the id of what was made."""
        return str(made.pk)

    @classmethod
    def beside(cls, made: Any, **arguments: Any) -> dict[str, Any]:
        """Return further fields of the first answer, which a repeat does not have."""
        return {}

    @classmethod
    def found(cls, context: Context, id: str) -> Any:
        """Return what was made under an id, as the reader sees it; None where it is gone."""
        raise NotImplementedError


def row_of(rows: QuerySet[Row], id: UUID, *, field: str = "id") -> Row:
    """Return the row of a public id, of those that the reader may change. Raises Faulty, in the same words whether
    nothing has the id, or what is somebody else's."""
    row = with_public_id(rows, id)
    if row is None:
        raise not_found(field)
    return row


def check_column(model: type[Model], column: str, value: Any) -> None:
    """Raise ValidationError where the column does not take the value, as where a whole row is cleaned."""
    try:
        model._meta.get_field(column).run_validators(value)  # type: ignore[union-attr]
    except ValidationError as error:
        raise ValidationError({column: error}) from None
