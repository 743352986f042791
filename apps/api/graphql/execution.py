"""How queries are executed: fields that are read later, and the one transaction in which all is read."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any

from django.db import connection, transaction
from graphql import GraphQLError, GraphQLOutputType
from graphql.pyutils import Path
from graphql_sync_dataloaders import DeferredExecutionContext


class Execution(DeferredExecutionContext):
    """The library's, which knows graphql-core from before an error's place was handed along with it."""

    def handle_field_error(self, error: GraphQLError, return_type: GraphQLOutputType, path: Path | None = None) -> None:
        """Note the error at the place that it names itself."""
        if path is None:
            path = reduce(lambda before, key: Path(before, key, None), error.path or [], None)
        super().handle_field_error(error, return_type, path)


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
