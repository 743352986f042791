"""What a query may ask for, decided before any of it is executed.

Two passes, both linear in the length of the query, whatever its fragments would expand to: its shape as it is written
(then graphql-core may validate it without being led into long work), and its cost with types and arguments.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    ParallelVisitor,
    SelectionSetNode,
    TypeInfo,
    TypeInfoVisitor,
    ValidationContext,
    Visitor,
    get_named_type,
    get_variable_values,
    parse,
    specified_rules,
    visit,
)
from graphql.execution.values import get_argument_values
from graphql.validation.validate import ValidationAbortedError

from apps.api.errors import Refused
from apps.api.graphql.connections import order_of, place_of
from apps.api.graphql.context import Context
from apps.api.graphql.errors import Invalid, without_suggestion
from apps.api.graphql.scalars import PAGE_DEFAULT

TOKENS = 1_000
DEPTH = 10
INTROSPECTION_DEPTH = 16
ROOT_FIELDS = 30
ALIASES = 30
COST = 10_000
ERRORS_SHOWN = 5
# What a list without pages is taken to hold.
LIST_ASSUMED = 5

_META = ("__schema", "__type")
# What no database takes: NUL, and half a character.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def refuse_unstorable(value: Any) -> None:
    """Raise Refused for a text within a JSON value, however deep, keys too, that no database takes."""
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            rest += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            rest += one
        elif isinstance(one, str) and _UNSTORABLE.search(one):
            raise Refused("BAD_USER_INPUT", "The text contains an invalid character.")


class Shape(NamedTuple):
    """What a selection set expands to: levels, fields at its top, aliases."""

    depth: int
    top: int
    aliases: int


def read_query(query: str) -> DocumentNode:
    """Return the query, parsed. Raises Refused."""
    try:
        return parse(query, max_tokens=TOKENS)
    except GraphQLError as error:
        raise Refused("GRAPHQL_PARSE_FAILED", _short(error.message)) from None
    except RecursionError:
        raise Refused("LIMIT_EXCEEDED", f"The query is nested more than {DEPTH} levels deep.") from None


def _short(message: str) -> str:
    message = without_suggestion(message)
    return message if len(message) <= 200 else f"{message[:199]}…"


def operation_of(document: DocumentNode, name: str | None, *, is_followed: bool = False) -> OperationDefinitionNode:
    """Return the operation that is to be executed: a query or mutation, or one that is followed. Raises Refused."""
    operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    if name is not None:
        operations = [one for one in operations if one.name and one.name.value == name]
    if len(operations) != 1:
        raise Refused("BAD_REQUEST", "Name one operation of the query in operationName.")
    if is_followed and operations[0].operation != OperationType.SUBSCRIPTION:
        raise Refused("BAD_REQUEST", "Only subscriptions are answered here. Send it to /graphql.")
    if not is_followed and operations[0].operation == OperationType.SUBSCRIPTION:
        raise Refused("BAD_REQUEST", "Subscriptions are answered at /graphql/stream.")
    return operations[0]


def check_shape(document: DocumentNode) -> None:
    """Refuse what is too deep, too wide or goes in circles, as written. Raises Refused."""
    try:
        _Shapes(document).check()
    except RecursionError:
        raise Refused("LIMIT_EXCEEDED", f"The query is nested more than {DEPTH} levels deep.") from None


class _Shapes:
    """The shapes of a document; each fragment is measured once."""

    def __init__(self, document: DocumentNode) -> None:
        self._definitions = document.definitions
        self._fragments = {
            one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._known: dict[str, Shape | None] = {}

    def check(self) -> None:
        for definition in self._definitions:
            selections = getattr(definition, "selection_set", None)
            if selections is None:
                continue
            shape = self._of(selections)
            # A fragment is as deep as where it is used, and those of introspection are deep.
            is_operation = isinstance(definition, OperationDefinitionNode)
            if is_operation and shape.depth > DEPTH:
                raise Refused("LIMIT_EXCEEDED", f"The query is nested more than {DEPTH} levels deep.")
            if is_operation and shape.top > ROOT_FIELDS:
                raise Refused("LIMIT_EXCEEDED", f"The query has more than {ROOT_FIELDS} root fields.")
            if shape.aliases > ALIASES:
                raise Refused("LIMIT_EXCEEDED", f"The query has more than {ALIASES} aliases.")

    def _of(self, selection_set: SelectionSetNode) -> Shape:
        depth = top = aliases = 0
        for selection in selection_set.selections:
            if isinstance(selection, FieldNode):
                shape = self._of_field(selection)
            elif isinstance(selection, FragmentSpreadNode):
                shape = self._of_fragment(selection.name.value)
            else:
                shape = self._of(selection.selection_set)  # type: ignore[attr-defined]
            depth = max(depth, shape.depth)
            top, aliases = top + shape.top, aliases + shape.aliases
        return Shape(depth, top, aliases)

    def _of_field(self, field: FieldNode) -> Shape:
        inner = self._of(field.selection_set) if field.selection_set else Shape(0, 0, 0)
        aliases = inner.aliases + (field.alias is not None)
        if field.name.value in _META:
            # The schema is as large as it is: it may be asked for once, whole, and as deep as its lists of types go.
            if aliases:
                raise Refused("LIMIT_EXCEEDED", "Introspection takes no aliases.")
            if inner.depth > INTROSPECTION_DEPTH:
                raise Refused("LIMIT_EXCEEDED", f"Introspection is nested more than {INTROSPECTION_DEPTH} levels deep.")
            return Shape(1, 1, 0)
        return Shape(1 + inner.depth, 1, aliases)

    def _of_fragment(self, name: str) -> Shape:
        if name not in self._fragments:
            return Shape(0, 0, 0)  # Validation says so.
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self._of(self._fragments[name].selection_set)
        shape = self._known[name]
        if shape is None:
            raise Refused("LIMIT_EXCEEDED", "Fragments go in a circle.")
        return shape


class _Enough(Exception):
    """As many errors are found as are shown."""


def validate(schema: GraphQLSchema, document: DocumentNode, *, with_introspection: bool) -> None:
    """Refuse what does not fit the schema, with one error per rule of validation. Raises Refused."""
    rules = specified_rules if with_introspection else (*specified_rules, NoSchemaIntrospectionCustomRule)
    found: dict[Any, GraphQLError] = {}

    def note(rule: Any) -> Any:
        def on_error(error: GraphQLError) -> None:
            found.setdefault(rule, error)
            if len(found) == ERRORS_SHOWN:
                raise _Enough

        return on_error

    type_info = TypeInfo(schema)
    visitors: list[Visitor] = [rule(ValidationContext(schema, document, type_info, note(rule))) for rule in rules]
    try:
        visit(document, TypeInfoVisitor(type_info, ParallelVisitor(visitors)))
    except _Enough:
        pass
    except ValidationAbortedError:
        # Comparing repeated fields with each other takes the square of their number, and graphql-core has a budget.
        raise Refused("LIMIT_EXCEEDED", "The query repeats its fields too often.") from None
    except RecursionError:
        raise Refused("LIMIT_EXCEEDED", f"The query is nested more than {DEPTH} levels deep.") from None
    if found:
        raise Invalid(list(found.values()))


def variables_of(
    schema: GraphQLSchema, operation: OperationDefinitionNode, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the variables as the types of their definitions read them. Raises Refused."""
    try:
        read = get_variable_values(schema, operation.variable_definitions, dict(values), max_errors=1)
    except RecursionError:
        read = []
    if isinstance(read, dict):
        return read
    raise Refused("BAD_USER_INPUT", _short(read[0].message) if read else "The variables are nested too deep.")


def check_cost(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    *,
    variables: Mapping[str, Any],
    context: Context,
) -> int:
    """Return how many fields the answer may have, fragments and pages expanded. Raises Refused where that is too many,
    or where a cursor is none, or not of this list and this reader."""
    costs = _Costs(schema, document, variables=variables, context=context)
    cost = costs.of(operation.selection_set, schema.get_root_type(operation.operation))
    if cost > COST:
        raise Refused("LIMIT_EXCEEDED", f"The query costs more than {COST}: ask for smaller pages or fewer fields.")
    return cost


class _Costs:
    """The costs of a document that fits the schema; each fragment is counted once, with the arguments in it."""

    def __init__(
        self, schema: GraphQLSchema, document: DocumentNode, *, variables: Mapping[str, Any], context: Context
    ) -> None:
        self._schema = schema
        self._fragments = {
            one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._variables = dict(variables)
        self._context = context
        self._known: dict[str, int] = {}

    def of(self, selection_set: SelectionSetNode, parent: Any) -> int:
        cost = 0
        for selection in selection_set.selections:
            if isinstance(selection, FieldNode):
                cost += self._of_field(selection, parent)
            elif isinstance(selection, FragmentSpreadNode):
                cost += self._of_fragment(selection.name.value)
            else:
                condition = selection.type_condition  # type: ignore[attr-defined]
                inner = self._schema.type_map[condition.name.value] if condition else parent
                cost += self.of(selection.selection_set, inner)  # type: ignore[attr-defined]
        return cost

    def _of_fragment(self, name: str) -> int:
        if name not in self._known:
            fragment = self._fragments[name]
            self._known[name] = self.of(
                fragment.selection_set, self._schema.type_map[fragment.type_condition.name.value]
            )
        return self._known[name]

    def _of_field(self, node: FieldNode, parent: GraphQLObjectType) -> int:
        name = node.name.value
        if name.startswith("__"):
            return 1  # Without aliases its fields merge: it is no larger than the schema.
        field = parent.fields[name]
        try:
            arguments = get_argument_values(field, node, self._variables)
        except GraphQLError as error:
            raise Refused("BAD_USER_INPUT", _short(error.message)) from None
        times = self._times(field, arguments)
        # A literal may write with an escape what the text of the query does not have.
        refuse_unstorable(arguments)
        if node.selection_set is None:
            return 1
        return 1 + times * self.of(node.selection_set, get_named_type(field.type))

    def _times(self, field: GraphQLField, arguments: Mapping[str, Any]) -> int:
        """Return how many rows the field may give. Refuses a cursor that is none."""
        if "first" in field.args:
            after = arguments.get("after")
            order = order_of(get_named_type(field.type).graphene_type, arguments.get("order"))
            if after is not None and place_of(after, name=order.name, context=self._context) is None:
                raise Refused("BAD_USER_INPUT", "after is not a cursor of this list in this order.")
            return arguments.get("first") or PAGE_DEFAULT
        kind = field.type.of_type if isinstance(field.type, GraphQLNonNull) else field.type
        # The edges of a connection are counted by its page.
        return LIST_ASSUMED if isinstance(kind, GraphQLList) and not _gives_edges(field) else 1


def _gives_edges(field: GraphQLField) -> bool:
    """Say whether the field gives the edges of a page."""
    return get_named_type(field.type).name.endswith("Edge")
