"""How queries are executed: fields that are read later, and the one transaction in which all is read."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, reduce
from typing import Any, NamedTuple

from django.db import connection, transaction
from graphene.types.resolver import dict_or_attr_resolver
from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLField,
    GraphQLObjectType,
    GraphQLOutputType,
    Undefined,
    get_nullable_type,
    is_leaf_type,
    is_non_null_type,
)
from graphql.pyutils import Path
from graphql_sync_dataloaders import DeferredExecutionContext, SyncFuture

Fields = dict[str, list[FieldNode]]


class Leaf(NamedTuple):
    """A field that is an attribute of its row, or a key of it, as a scalar or an enum writes it. default: of a row
    without it."""

    attribute: str
    default: Any
    write: Callable[[Any], Any]
    may_be_null: bool


def leaf_of(field: GraphQLField | None) -> Leaf | None:
    """Return how to read a field without arguments, resolver, list or fields of its own; None for any other."""
    resolve = field.resolve if field is not None else None
    if field is None or field.args or not isinstance(resolve, partial) or resolve.func is not dict_or_attr_resolver:
        return None
    kind = get_nullable_type(field.type)
    if not is_leaf_type(kind):
        return None
    attribute, default = resolve.args
    return Leaf(attribute, default, kind.serialize, may_be_null=not is_non_null_type(field.type))


class Execution(DeferredExecutionContext):
    """The library's, which knows graphql-core from before an error's place was handed along with it; and quicker.

    Most fields of a page are attributes of its rows. They are read here in one loop, without the arguments, the path
    and the description of the place that the library makes for each. Where a value is wrong or comes later, the
    library reads the field.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # By the identity of a dict, which the library has once for all rows of a list, and which is kept here so that
        # no other gets its identity.
        self._known: dict[int, tuple[Fields, list[tuple[str, list[FieldNode], Leaf | None]]]] = {}

    def execute_fields(
        self, parent_type: GraphQLObjectType, source: Any, path: Path | None, fields: Fields
    ) -> dict[str, Any] | SyncFuture:
        """Return response name -> value, of the fields of one row; later, where one of them is read later."""
        known = self._known.get(id(fields))
        if known is None:
            own = parent_type.fields
            leaves = [(name, nodes, leaf_of(own.get(nodes[0].name.value))) for name, nodes in fields.items()]
            known = self._known[id(fields)] = fields, leaves
        values: dict[str, Any] = {}
        waiting: dict[str, SyncFuture] = {}
        for name, nodes, leaf in known[1]:
            value = _read(source, leaf) if leaf is not None else _OTHERWISE
            if value is _OTHERWISE:
                value = self.execute_field(parent_type, source, nodes, Path(path, name, parent_type.name))
                if isinstance(value, SyncFuture):
                    waiting[name] = value
                elif value is Undefined:
                    continue
            values[name] = value
        return _complete(values, waiting) if waiting else values

    def handle_field_error(self, error: GraphQLError, return_type: GraphQLOutputType, path: Path | None = None) -> None:
        """Note the error at the place that it names itself."""
        if path is None:
            path = reduce(lambda before, key: Path(before, key, None), error.path or [], None)
        super().handle_field_error(error, return_type, path)


_OTHERWISE = object()


def _read(source: Any, leaf: Leaf) -> Any:
    """Return what a leaf writes of a row; _OTHERWISE where the library is to do it, and to say what is wrong."""
    name, default = leaf.attribute, leaf.default
    value = source.get(name, default) if isinstance(source, dict) else getattr(source, name, default)
    if value is None:
        return None if leaf.may_be_null else _OTHERWISE
    if isinstance(value, SyncFuture):
        return _OTHERWISE
    try:
        written = leaf.write(value)
    except Exception:
        # The library writes it again, and reports the error.
        return _OTHERWISE
    return _OTHERWISE if written is None else written


def _complete(values: dict[str, Any], waiting: dict[str, SyncFuture]) -> SyncFuture:
    """Return the values, later: once those that are waited for are there, in their places."""
    later = SyncFuture()

    def take(name: str) -> None:
        values[name] = waiting.pop(name).result()
        if not waiting:
            later.set_result(values)

    for name, value in waiting.items():
        value.add_done_callback(partial(take, name))
    return later


# A statement of a query may take a third of what others may.
_READ_ONLY = "SET LOCAL transaction_read_only = on; SET LOCAL statement_timeout = 5000"


@contextmanager
def reading() -> Iterator[None]:
    """Have all statements within in one transaction that refuses to write, on PostgreSQL. It begins with the first one:
    what reads no rows needs no database. On SQLite a transaction would wait for whoever writes."""
    if connection.vendor != "postgresql":
        yield
        return
    with ExitStack() as begun:

        def begin(execute: Callable[..., Any], *arguments: Any) -> Any:
            wrapping.close()
            begun.enter_context(transaction.atomic())
            # Nothing was written; and after an error of the database nothing could be committed.
            begun.callback(transaction.set_rollback, True)
            with connection.cursor() as cursor:
                cursor.execute(_READ_ONLY)
            return execute(*arguments)

        with ExitStack() as wrapping:
            wrapping.enter_context(connection.execute_wrapper(begin))
            yield
