"""What clients call the rows that have an owner: a random UUID, which says nothing of how many there are."""

import uuid
from typing import TypeVar

from django.db import models
from django.db.models import QuerySet

Row = TypeVar("Row", bound=models.Model)


class PublicId(models.Model):
    """A row with a number for the pages of the site, and a random UUID for clients."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        abstract = True


def public_id_of(row: models.Model) -> uuid.UUID:
    """Return what clients call a row: its public id, or its key, where that is random itself."""
    return row.public_id if isinstance(row, PublicId) else row.pk


def with_public_id(rows: QuerySet[Row], public_id: uuid.UUID) -> Row | None:
    """Return that one of these rows which clients call so; None where there is none."""
    column = "public_id" if issubclass(rows.model, PublicId) else "pk"
    return rows.filter(**{column: public_id}).first()
