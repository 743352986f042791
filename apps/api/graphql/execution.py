"""How queries are executed: fields that are read later, and the one transaction in which all is read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, reduce
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from graphene.types.resolver import dict_or_attr_resolver
from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLField,
    GraphQLList,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    Undefined,
    get_nullable_type,
    is_leaf_type,
    is_non_null_type,
    is_object_type,
    located_error,
)
from graphql.pyutils import Path
from graphql_sync_dataloaders import DeferredExecutionContext, SyncFuture

Fields = dict[str, list[FieldNode]]


class Attribute(NamedTuple):
    """A field that is an attribute of its row, or a key of it. default: of a row without it; write: how a scalar or an
    enum writes it; row: the type of the row that it is. One of the last two is None."""

    name: str
    default: Any
    may_be_null: bool
    write: Callable[[Any], Any] | None
    row: GraphQLObjectType | None


def attribute_of(field: GraphQLField | None) -> Attribute | None:
    """Return how to read a field without arguments, resolver or list; None for any other."""
    resolve = field.resolve if field is not None else None
    if field is None or field.args or not isinstance(resolve, partial) or resolve.func is not dict_or_attr_resolver:
        return None
    kind = get_nullable_type(field.type)
    named = {"may_be_null": not is_non_null_type(field.type)}
    if is_leaf_type(kind):
        return Attribute(*resolve.args, write=kind.serialize, row=None, **named)
    if is_object_type(kind) and kind.is_type_of is None:
        return Attribute(*resolve.args, write=None, row=kind, **named)
    return None


class Resolved(NamedTuple):
    """A field that may be null, by a resolver of its own. row: the type of the row, or of the rows where is_list, that
    it gives; None where it gives a scalar or an enum. may_be_missing: a row in the list may be null."""

    field: GraphQLField
    resolve: Callable[..., Any]
    row: GraphQLObjectType | None = None
    is_list: bool = False
    may_be_missing: bool = True


def resolved_of(field: GraphQLField | None) -> Resolved | None:
    """Return how to read a field without arguments by its resolver; None for any other."""
    if field is None or field.args or field.resolve is None:
        return None
    if is_leaf_type(field.type):
        return Resolved(field, field.resolve)
    is_list = isinstance(field.type, GraphQLList)
    item = field.type.of_type if isinstance(field.type, GraphQLList) else field.type
    row = get_nullable_type(item) if is_list else item
    if isinstance(row, GraphQLObjectType) and row.is_type_of is None:
        return Resolved(field, field.resolve, row, is_list=is_list, may_be_missing=not is_non_null_type(item))
    return None


class Later(NamedTuple):
    """A value that is there once a future is done; take: gives it then, or the future of it."""

    future: SyncFuture
    take: Callable[[SyncFuture], Any]


# How to read a field: as an attribute, by its resolver, or as the library does.
Reading = Attribute | Resolved | None


class Execution(DeferredExecutionContext):
    """The library's, which knows graphql-core from before an error's place was handed along with it; and quicker.

    Most fields of a page are attributes of its rows, or scalars and rows that are read for all at once. They are put
    together here in one loop, without the arguments, the descriptions of the place and the futures that the library
    makes for each. Where the value of an attribute is wrong, the library reads the field.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # By the identity of a dict, which the library has once for all rows of a list, and which is kept here so that
        # no other gets its identity.
        self._known: dict[int, tuple[Fields, list[tuple[str, list[FieldNode], Reading]]]] = {}

    def execute_fields(
        self, parent_type: GraphQLObjectType, source: Any, path: Path | None, fields: Fields
    ) -> dict[str, Any] | SyncFuture:
        """Return response name -> value, of the fields of one row; later, where one of them is read later."""
        known = self._known.get(id(fields))
        if known is None:
            own = parent_type.fields
            readings = [(name, nodes, _reading_of(own.get(nodes[0].name.value))) for name, nodes in fields.items()]
            known = self._known[id(fields)] = fields, readings
        values: dict[str, Any] = {}
        waiting: dict[str, Later] = {}
        for name, nodes, reading in known[1]:
            value = _OTHERWISE
            if isinstance(reading, Attribute):
                value = _read(source, reading)
                if reading.row is not None and value is not None and value is not _OTHERWISE:
                    place = Path(path, name, parent_type.name)
                    value = self._execute_row(reading.row, value, nodes, place, may_be_null=reading.may_be_null)
            elif reading is not None:
                value = self._resolve(reading, parent_type, source, nodes, Path(path, name, parent_type.name))
            if value is _OTHERWISE:
                value = self.execute_field(parent_type, source, nodes, Path(path, name, parent_type.name))
            if isinstance(value, SyncFuture):
                value = Later(value, SyncFuture.result)
            if isinstance(value, Later):
                waiting[name] = value
            elif value is Undefined:
                continue
            values[name] = value
        return _complete(values, waiting) if waiting else values

    def _resolve(
        self, reading: Resolved, parent_type: GraphQLObjectType, source: Any, nodes: list[FieldNode], path: Path
    ) -> Any:
        """Return what a resolver gives, as it is answered; or Later."""
        info = self.build_resolve_info(reading.field, nodes, parent_type, path)
        try:
            value = reading.resolve(source, info)
        except Exception as error:
            return self._failed(error, reading, info)
        if not isinstance(value, SyncFuture):
            return self._answered(reading, info, value)
        take = partial(self._taken, reading, info)
        if value.done():
            return take(value)
        if value.deferred_callback is not None:
            self._deferred_callbacks.append(value.deferred_callback)
        return Later(value, take)

    def _taken(self, reading: Resolved, info: GraphQLResolveInfo, future: SyncFuture) -> Any:
        try:
            value = future.result()
        except Exception as error:
            return self._failed(error, reading, info)
        return self._answered(reading, info, value)

    def _answered(self, reading: Resolved, info: GraphQLResolveInfo, value: Any) -> Any:
        """Return a value as it is answered, or the future of it; None, and the error noted, where that fails."""
        if value is None:
            return None
        nodes, path = info.field_nodes, info.path
        try:
            if isinstance(value, Exception):
                raise value
            if reading.row is None:
                return self.complete_leaf_value(reading.field.type, value)
            if not reading.is_list:
                return self.execute_fields(reading.row, value, path, self.collect_subfields(reading.row, nodes))
            if isinstance(value, list | tuple) and not any(isinstance(one, _NO_ROWS) for one in value):
                return self._execute_rows(reading.row, value, info, may_be_null=reading.may_be_missing)
            return self.complete_value(reading.field.type, nodes, info, path, value)
        except Exception as error:
            return self._failed(error, reading, info)

    def _failed(self, error: Exception, reading: Resolved, info: GraphQLResolveInfo) -> None:
        self.handle_field_error(located_error(error, info.field_nodes, info.path.as_list()), reading.field.type)

    def _execute_rows(
        self, kind: GraphQLObjectType, rows: Sequence[Any], info: GraphQLResolveInfo, *, may_be_null: bool
    ) -> list[Any] | SyncFuture:
        """Return the fields of each of the rows of a list; later, where one of them is read later."""
        values = [
            self._execute_row(kind, row, info.field_nodes, Path(info.path, index, None), may_be_null=may_be_null)
            for index, row in enumerate(rows)
        ]
        waiting = {
            index: Later(one, SyncFuture.result) for index, one in enumerate(values) if isinstance(one, SyncFuture)
        }
        return _complete(values, waiting) if waiting else values

    def _execute_row(
        self, kind: GraphQLObjectType, row: Any, nodes: list[FieldNode], path: Path, *, may_be_null: bool
    ) -> Any:
        """Return the fields of a row that is an attribute of another; None where one of them had to be there and
        failed."""
        try:
            return self.execute_fields(kind, row, path, self.collect_subfields(kind, nodes))
        except Exception as error:
            if not may_be_null:
                raise
            self.handle_field_error(located_error(error, nodes, path.as_list()), kind)
            return None

    def handle_field_error(self, error: GraphQLError, return_type: GraphQLOutputType, path: Path | None = None) -> None:
        """Note the error at the place that it names itself."""
        if path is None:
            path = reduce(lambda before, key: Path(before, key, None), error.path or [], None)
        super().handle_field_error(error, return_type, path)


_OTHERWISE = object()
# What the library has to look at in a list of rows.
_NO_ROWS = (type(None), SyncFuture, Exception)


def _read(source: Any, attribute: Attribute) -> Any:
    """Return what is written of a scalar, or the row; _OTHERWISE where the library is to do it, and to say what is
    wrong."""
    name, default = attribute.name, attribute.default
    value = source.get(name, default) if isinstance(source, dict) else getattr(source, name, default)
    if value is None:
        return None if attribute.may_be_null else _OTHERWISE
    if isinstance(value, SyncFuture | Exception):
        return _OTHERWISE
    if attribute.write is None:
        return value
    try:
        written = attribute.write(value)
    except Exception:
        # The library writes it again, and reports the error.
        return _OTHERWISE
    return _OTHERWISE if written is None else written


def _reading_of(field: GraphQLField | None) -> Reading:
    return attribute_of(field) or resolved_of(field)


def _complete(values: Any, waiting: dict[Any, Later]) -> SyncFuture:
    """Return the values, a dict or a list, later: once those that are waited for are there, in their places."""
    complete = SyncFuture()

    def take(place: Any) -> None:
        later = waiting[place]
        value = later.take(later.future)
        if isinstance(value, SyncFuture):
            waiting[place] = Later(value, SyncFuture.result)
            value.add_done_callback(partial(take, place))
            return
        values[place] = value
        del waiting[place]
        if not waiting:
            complete.set_result(values)

    for place, later in waiting.items():
        later.future.add_done_callback(partial(take, place))
    return complete


# A statement of a query may take a third of what others may.
_READ_ONLY = "SET LOCAL transaction_read_only = on; SET LOCAL statement_timeout = 5000"


@contextmanager
def reading() -> Iterator[None]:
    """Have all statements within in one transaction that refuses to write, on PostgreSQL, and those of a replica in one
    there. It begins with the first one: what reads no rows needs no database. On SQLite a transaction would wait for
    whoever writes."""
    with ExitStack() as stack:
        for one in connections.all():
            if one.vendor == "postgresql":
                stack.enter_context(_reading(one))
        yield


@contextmanager
def _reading(connection: BaseDatabaseWrapper) -> Iterator[None]:
    with ExitStack() as begun:

        def begin(execute: Callable[..., Any], *arguments: Any) -> Any:
            wrapping.close()
            begun.enter_context(transaction.atomic(using=connection.alias))
            # Nothing was written; and after an error of the database nothing could be committed.
            begun.callback(transaction.set_rollback, True, using=connection.alias)
            with connection.cursor() as cursor:
                cursor.execute(_READ_ONLY)
            return execute(*arguments)

        with ExitStack() as wrapping:
            wrapping.enter_context(connection.execute_wrapper(begin))
            yield
