"""How fields that are read later are executed."""

from functools import reduce

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
