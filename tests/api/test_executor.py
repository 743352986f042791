"""The executor, beside the library's that it stands on: the same answers and the same errors."""

from decimal import Decimal as Number
from types import SimpleNamespace

import graphene
import pytest
from graphql import execute, parse
from graphql_sync_dataloaders import DeferredExecutionContext, SyncDataLoader

from apps.api.graphql.execution import Execution
from apps.api.graphql.scalars import Decimal, enum

Side = enum("Side", ["buy", "sell"], description="A side.")


class Library(Execution):
    """The executor without its loop."""

    execute_fields = DeferredExecutionContext.execute_fields


class Row(graphene.ObjectType):
    text = graphene.String(required=True)
    number = graphene.Int()
    price = graphene.Field(Decimal)
    side = graphene.Field(Side)
    tags = graphene.List(graphene.String)
    later = graphene.Int()
    failing = graphene.Int()
    refused = graphene.Int()
    wrong = graphene.Int()
    computed = graphene.Int()
    child = graphene.Field(lambda: Row)
    mother = graphene.Field(lambda: Row, required=True)
    daughter = graphene.Field(lambda: Row)
    refused_row = graphene.Field(lambda: Row)
    rows = graphene.List(lambda: Row)
    whole = graphene.List(graphene.NonNull(lambda: Row))
    rows_later = graphene.List(lambda: Row)
    whole_later = graphene.List(graphene.NonNull(lambda: Row))
    with_argument = graphene.Int(plus=graphene.Int(required=True, default_value=1))
    missing = graphene.String(default_value="by default")

    def resolve_later(row, info):
        return info.context.load(1)

    def resolve_failing(row, info):
        return info.context.load(3)

    def resolve_refused(row, info):
        raise ValueError("refused")

    def resolve_wrong(row, info):
        return info.context.load(4)

    def resolve_computed(row, info):
        return 5

    def resolve_daughter(row, info):
        return info.context.load(2)

    def resolve_refused_row(row, info):
        raise ValueError("refused")

    def resolve_rows_later(row, info):
        return info.context.load(5)

    def resolve_whole_later(row, info):
        return info.context.load(5)


class Query(graphene.ObjectType):
    rows = graphene.List(Row)
    row = graphene.Field(Row)
    later = graphene.Field(Row)

    def resolve_later(root, info):
        return info.context.load(2)


SCHEMA = graphene.Schema(query=Query).graphql_schema
ALL = "text number price side tags withArgument missing __typename"


def row(**values):
    usual = {"text": "x", "number": 1, "price": Number("1.50"), "side": "buy", "tags": ["a"], "with_argument": 2}
    return usual | {"child": None} | values


LOADED = {
    1: 7,
    2: row(text="later"),
    3: ValueError("failed"),
    4: "no number",
    5: [row(text="first"), row(text="second", number="no number")],
}
SOME = "text number later child { later } daughter { text later }"


def answer_of(executor, query, root):
    found = execute(
        SCHEMA,
        parse(query),
        root,
        SyncDataLoader(lambda keys: [LOADED[key] for key in keys]),
        execution_context_class=executor,
    )
    errors = [(error.message, error.path, [one.line for one in error.locations or ()]) for error in found.errors or ()]
    return found.data, errors


@pytest.mark.parametrize("make", [dict, lambda **values: SimpleNamespace(**values)], ids=["mappings", "objects"])
@pytest.mark.parametrize(
    ("query", "values"),
    [
        (f"{{ rows {{ {ALL} }} }}", {}),
        ("{ rows { price again: price later text } }", {}),
        (
            "{ rows { later child { later text } text } later { text later } row { text } }",
            {"child": row(text="child")},
        ),
        ("{ rows { ...on Row { text } ...F } } fragment F on Row { number text }", {}),
        ("{ rows { text @skip(if: true) number @include(if: true) } }", {}),
        (f"{{ rows {{ {ALL} }} }}", dict.fromkeys(["number", "price", "side", "tags"])),
        ("{ row { number text } rows { text } }", {"text": None}),
        ("{ rows { number later text } }", {"number": "no number"}),
        ("{ rows { side later } }", {"side": "neither"}),
        ("{ rows { price } }", {"price": object()}),
        ("{ rows { tags } }", {"tags": "no list"}),
        ("{ rows { failing computed refused wrong later } }", {}),
        ("{ rows { child { text failing later } mother { number later } } }", {"child": row(), "mother": row()}),
        ("{ rows { child { text } number later } }", {"child": row(text=None), "mother": row()}),
        ("{ rows { mother { text } later } row { number } }", {"mother": row(text=None)}),
        ("{ rows { mother { text } number } }", {"mother": None}),
        ("{ rows { child { text } } }", {"child": ValueError("no child")}),
        ("{ rows { daughter { text later daughter { later text } } refusedRow { text } } }", {}),
        ("{ rows { rowsLater { text number later } wholeLater { number daughter { later } } text } }", {}),
        (f"{{ rows {{ rows {{ {SOME} }} whole {{ {SOME} }} }} }}", {"rows": [], "whole": ()}),
        (f"{{ rows {{ rows {{ {SOME} }} }} }}", {"rows": [row(text=None), None, row(child=row()), ValueError("no")]}),
        (f"{{ rows {{ whole {{ {SOME} }} number }} }}", {"whole": [row(), row(child=row(text="child"))]}),
        ("{ rows { whole { text number } number } }", {"whole": [row(), row(text=None)]}),
        ("{ rows { whole { text number } number } }", {"whole": [row(), None]}),
        (f"{{ rows {{ whole {{ {SOME} }} number }} }}", {"whole": "no rows"}),
        (f"{{ rows {{ rows {{ {SOME} }} number }} }}", {"rows": {"not": "a list"}}),
        (f"{{ rows {{ rows {{ {SOME} }} number }} }}", {"rows": ValueError("no rows")}),
    ],
)
def test_answers_and_errors_are_those_of_the_library(query, values, make):
    def root():
        rows = [make(**row(**values)), make(**row(text="the other"))]
        return {"rows": rows, "row": rows[0]}

    assert answer_of(Execution, query, root()) == answer_of(Library, query, root())


@pytest.mark.parametrize(("failing", "place"), [(row(text=None), ["text"]), (None, [])])
def test_a_list_of_which_a_row_fails_has_that_error_alone(failing, place):
    # The library notes another for each field of the list that is still waited for.
    root = {"row": row(whole=[row(), failing])}
    data, errors = answer_of(Execution, "{ row { whole { text later } number } }", root)
    assert data == {"row": {"whole": None, "number": 1}}
    assert [path for _, path, _ in errors] == [["row", "whole", 1, *place]]


def test_a_value_that_comes_later_is_waited_for():
    loader = SyncDataLoader(lambda keys: keys)
    query = "{ rows { number text } }"

    def found():
        root = {"rows": [row(number=loader.load(5), text=loader.load("later")), row()]}
        return execute(SCHEMA, parse(query), root, loader, execution_context_class=Execution).data

    assert found() == {"rows": [{"number": 5, "text": "later"}, {"number": 1, "text": "x"}]}


def test_the_order_of_fields_is_that_of_the_query():
    data, _ = answer_of(Execution, "{ rows { later text number tags } }", {"rows": [row()]})
    assert list(data["rows"][0]) == ["later", "text", "number", "tags"]


def test_attributes_rows_and_scalars_of_resolvers_are_read_without_the_library(monkeypatch):
    asked = []
    ask = DeferredExecutionContext.execute_field

    def note(self, parent_type, source, nodes, path):
        asked.append(nodes[0].name.value)
        return ask(self, parent_type, source, nodes, path)

    monkeypatch.setattr(DeferredExecutionContext, "execute_field", note)
    answer_of(Execution, f"{{ rows {{ {ALL} {SOME} computed rowsLater {{ text }} }} }}", {"rows": [row(child=row())]})
    assert set(asked) == {"tags", "withArgument", "__typename"}
