"""The schema, and the file that shows it."""

from inspect import getsource

from graphql import GraphQLInputField, GraphQLNonNull, Undefined, build_schema

from apps.api.graphql.schema import print_schema_text, schema
from apps.api.management.commands.graphql_schema import SCHEMA_FILE
from tests.api.asking import MUTATION, QUERY, SUBSCRIPTION, object_types


def fields_of_types():
    """Return "Type.field" and its definition, of each type of ours, those of inputs too."""
    return [
        (f"{kind}.{name}", field)
        for kind, definition in schema.type_map.items()
        if not kind.startswith("__")
        for name, field in getattr(definition, "fields", {}).items()
    ]


def arguments_of(fields):
    return [(f"{name}({key})", one) for name, field in fields for key, one in getattr(field, "args", {}).items()]


def test_the_file_is_the_schema():
    """Write it anew by manage.py graphql_schema."""
    assert SCHEMA_FILE.read_text(encoding="utf-8") == print_schema_text()
    assert build_schema(print_schema_text()).type_map.keys() == schema.type_map.keys()


def test_every_type_says_what_it_is():
    assert [name for name in object_types() if not schema.type_map[name].description] == []


def test_every_field_and_every_argument_says_what_it_is():
    fields = fields_of_types()
    arguments = arguments_of(fields)
    assert len(fields) > 300
    assert [name for name, one in [*fields, *arguments] if not one.description] == []


def test_what_has_a_default_takes_no_null():
    """Left out, it is its default; a null would be a value that no resolver expects."""
    fields = fields_of_types()
    inputs = [(name, field) for name, field in fields if isinstance(field, GraphQLInputField)]
    with_default = [(name, one) for name, one in [*inputs, *arguments_of(fields)] if one.default_value is not Undefined]
    assert len(with_default) > 20
    assert [name for name, one in with_default if not isinstance(one.type, GraphQLNonNull)] == []


def test_no_root_field_takes_the_others_down_with_it():
    fields = [*QUERY.fields.items(), *MUTATION.fields.items(), *SUBSCRIPTION.fields.items()]
    assert [name for name, field in fields if isinstance(field.type, GraphQLNonNull)] == []


def test_every_change_answers_with_what_is_wrong():
    assert {str(field.type.fields["errors"].type) for field in MUTATION.fields.values()} == {"[UserError!]!"}
    assert [name for name, field in MUTATION.fields.items() if not field.description] == []


def test_every_change_that_creates_takes_an_idempotency_key():
    """A change of what has an id does the same when it is repeated; a preview records nothing."""
    arguments = {name: field.args for name, field in MUTATION.fields.items()}
    keys = [given["idempotencyKey"].type for given in arguments.values() if "idempotencyKey" in given]
    assert {str(one) for one in keys} == {"String!"}
    assert [name for name, given in arguments.items() if not given.keys() & {"idempotencyKey", "id"}] == [
        "previewImport"
    ]


def test_fields_that_are_read_later_may_be_null():
    """An error of theirs could otherwise not be reported: the executor would wait for them for ever."""
    later = [
        (name, field_name, field.type)
        for name in object_types() | {QUERY.name}
        for field_name, field in schema.type_map[name].fields.items()
        if field.resolve is not None and ".load(" in getsource(getattr(field.resolve, "func", field.resolve))
    ]
    assert len(later) > 12
    assert [one for one in later if isinstance(one[2], GraphQLNonNull)] == []


def test_every_argument_is_one_that_is_checked_before_execution():
    """Scalars refuse what is none of their values, and limits.py knows after; words of an enum, true, false and null
    need no check. Those of metrics and logs are checked by apps/api/monitoring. Another one is to be a scalar, or to be
    added there."""
    arguments = {
        (name, str(argument.type))
        for kind in object_types() | {QUERY.name}
        for field in schema.type_map[kind].fields.values()
        for name, argument in field.args.items()
    }
    assert {(name, kind) for name, kind in arguments if kind.strip("!") != "Boolean"} == {
        ("asset", "AssetId!"),
        ("asset", "AssetId"),
        ("of", "PortfolioSum!"),
        ("newer", "Skip!"),
        ("before", "Date"),
        ("at", "DateTime"),
        ("portfolio", "UUID!"),
        ("rule", "UUID!"),
        ("since", "Date"),
        ("until", "Date"),
        ("since", "DateTime"),
        ("until", "DateTime"),
        ("order", "NameOrder"),
        ("order", "TimeOrder"),
        ("limit", "Int!"),
        ("query", "LogsQuery"),
        ("query", "MetricsQuery!"),
        ("query", "String!"),
        ("range", "TimeRange"),
        ("stepSeconds", "Int"),
        ("traceId", "String"),
        ("after", "String"),
        ("search", "String"),
        ("feed", "FeedId"),
        ("kind", "TransactionKind"),
        ("rule", "UUID"),
        ("resolution", "CandleResolution!"),
        ("state", "AlertState"),
        ("first", "PageSize!"),
        *(("id", kind) for kind in ("AssetId!", "FeedId!", "NodeId!", "UUID!")),
    }
