"""Lists by pages: Relay's connections over keys, so that a page costs the same however deep it lies."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import graphene
from django.core.signing import BadSignature, Signer
from django.db.models import F, Model, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from apps.api.graphql.context import Context
from apps.api.graphql.scalars import PAGE_DEFAULT, PAGE_LARGEST, PageSize


class TimeOrder(graphene.Enum):
    """The order of a list by time: from its newest row to its oldest, or the other way."""

    NEWEST_FIRST = "descending"
    OLDEST_FIRST = "ascending"


class NameOrder(graphene.Enum):
    """The order of a list by name: from A to Z, or from Z to A."""

    ASCENDING = "ascending"
    DESCENDING = "descending"


class Paging(NamedTuple):
    """Which page of a list is asked for: the arguments that every field with pages has. order: None is the list's
    own."""

    first: int = PAGE_DEFAULT
    after: str | None = None
    order: Any = None

    @property
    def limit(self) -> int:
        """Return how many rows to read: one more says that there is a next page."""
        return self.first + 1


@dataclass(frozen=True, slots=True)
class Order:
    """In which order a kind of list has its rows.

    name: the list's and the order's; fields: together unique, and all up or all down. Their values are the place of a
    row: its cursor.
    """

    name: str
    fields: tuple[str, ...]
    is_descending: bool = False

    def applied(self) -> list[str]:
        """Return it as order_by takes it."""
        return [f"-{field}" for field in self.fields] if self.is_descending else list(self.fields)

    def place(self, cursor: str | None, context: Context) -> Any:
        """Return the values that a cursor names, as texts; limits.py has refused what is none."""
        return place_of(cursor, name=self.name, context=context) if cursor is not None else None

    def behind(self, cursor: str | None, context: Context) -> Q:
        """Return the condition that holds for the rows behind a cursor."""
        condition, equal = Q(), Q()
        place = self.place(cursor, context)
        than = "lt" if self.is_descending else "gt"
        for field, value in zip(self.fields, place or (), strict=place is not None):
            condition |= equal & Q(**{f"{field}__{than}": value})
            equal &= Q(**{field: value})
        return condition

    def cursor(self, row: Model, context: Context) -> str:
        """Return the place of a row, signed for this kind of list and this reader."""
        return cursor_of([_written(getattr(row, field)) for field in self.fields], name=self.name, context=context)


def _written(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _signer(name: str, context: Context) -> Signer:
    return Signer(salt=f"cursor of {name} for {context.user.pk}")


def cursor_of(place: Any, *, name: str, context: Context) -> str:
    """Return a place as a cursor, signed for this kind of list and this reader."""
    return _signer(name, context).sign_object(place)


def place_of(cursor: str, *, name: str, context: Context) -> Any:
    """Return the place that a cursor names; None for what is none, or is of another kind of list or another reader."""
    try:
        return _signer(name, context).unsign_object(cursor)
    except (BadSignature, ValueError):
        return None


class PageInfo(graphene.ObjectType):
    """Where a page lies in its list."""

    has_next_page = graphene.Boolean(required=True, description="Whether rows follow.")
    has_previous_page = graphene.Boolean(required=True, description="Whether the page begins behind a cursor.")
    start_cursor = graphene.String(description="The place of the first row; null: there are none.")
    end_cursor = graphene.String(description="The place of the last row: the argument `after` of the next page.")


class Edge:
    """A row of a page. Its cursor is signed where it is asked for."""

    __slots__ = ("_page", "node")

    def __init__(self, node: Model, page: "Page") -> None:
        self.node = node
        self._page = page

    @property
    def cursor(self) -> str:
        return self._page.order.cursor(self.node, self._page.context)


class Page:
    """One page of a list; `rows` may hold one row more, which says that there is a next page."""

    def __init__(self, rows: Sequence[Model], *, order: Order, context: Context, paging: Paging) -> None:
        self.order, self.context = order, context
        self.edges = [Edge(row, self) for row in rows[: paging.first]]
        self.page_info = self
        self.has_next_page = len(rows) > paging.first
        self.has_previous_page = paging.after is not None

    @property
    def start_cursor(self) -> str | None:
        return self.edges[0].cursor if self.edges else None

    @property
    def end_cursor(self) -> str | None:
        return self.edges[-1].cursor if self.edges else None


def connection(
    node: type[graphene.ObjectType], *, fields: Sequence[str], by: Any = None, is_descending: bool = False
) -> Any:
    """Return the connection type of `node`; fields, is_descending: its order; by: the enum of its orders, of which the
    index that serves one serves the other too. None: it has one order."""
    name = f"{node.__name__}Connection"
    edge_fields = {
        "__doc__": "A row of a page, and its place in the list.",
        "node": graphene.Field(node, required=True, description="The row."),
        "cursor": graphene.String(required=True, description="Its place: the argument `after` of a page behind it."),
    }
    edge = type(f"{node.__name__}Edge", (graphene.ObjectType,), edge_fields)
    connection_fields = {
        "__doc__": "A page of a list.",
        "edges": graphene.List(graphene.NonNull(edge), required=True, description="Its rows, in order."),
        "page_info": graphene.Field(PageInfo, required=True, description="Its position in the list."),
    }
    made = type(name, (graphene.ObjectType,), connection_fields)
    made.ordered_by = by
    made.order = Order(name=name, fields=tuple(fields), is_descending=is_descending)
    made.reverse = Order(name=f"{name} reversed", fields=tuple(fields), is_descending=not is_descending)
    return made


def order_of(connection_type: Any, chosen: Any) -> Order:
    """Return the order that an argument `order` chooses. None: the list's own."""
    own: Order = connection_type.order
    if chosen is None or (chosen.value == "descending") == own.is_descending:
        return own
    reverse: Order = connection_type.reverse
    return reverse


def pages_of(connection_type: Any, *, by: Any = None, **arguments: Any) -> graphene.Field:
    """Return a field that gives pages of this connection. It may be null: it may be refused, or read later.

    by: the enum of its orders, where the connection is given by name.
    """
    by = by or getattr(connection_type, "ordered_by", None)
    if by is not None:
        arguments["order"] = by(
            description="The order of the rows; by default the one that the list's description names."
        )
    return graphene.Field(
        connection_type,
        first=PageSize(required=True, default_value=PAGE_DEFAULT, description=f"How many rows: 1 to {PAGE_LARGEST}."),
        after=graphene.String(description="A cursor of this list in this order: the page begins behind it."),
        **arguments,
    )


def page(connection_type: Any, rows: QuerySet, context: Context, **paging: Any) -> Page:
    """Return one page of `rows`; one statement. paging: the fields of Paging."""
    asked = Paging(**paging)
    order = order_of(connection_type, asked.order)
    ordered = rows.filter(order.behind(asked.after, context)).order_by(*order.applied())
    return Page(list(ordered[: asked.limit]), order=order, context=context, paging=asked)


def pages_by(
    parent: str, connection_type: Any, rows: QuerySet, context: Context, *, keys: Iterable[Any], paging: Paging
) -> dict[Any, Page]:
    """Return key -> its page of those `rows` whose field `parent` is that key; one statement for all of them."""
    order = order_of(connection_type, paging.order)
    place = Window(RowNumber(), partition_by=[F(parent)], order_by=order.applied())
    ordered = rows.filter(order.behind(paging.after, context)).annotate(place_in_list=place).order_by("place_in_list")
    found: dict[Any, list[Model]] = {key: [] for key in keys}
    for row in ordered.filter(place_in_list__lte=paging.limit):
        found[getattr(row, parent)].append(row)
    return {key: Page(rows_of_key, order=order, context=context, paging=paging) for key, rows_of_key in found.items()}
