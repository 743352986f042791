"""Queries made from the schema, so that what is new in it is asked for too."""

import json

from django.core.serializers.json import DjangoJSONEncoder
from graphql import GraphQLObjectType, get_named_type, is_abstract_type, is_leaf_type

from apps.api.graphql.schema import schema

URL = "/graphql"
# A public id that nothing has.
NOBODYS = "00000000-0000-0000-0000-000000000000"
QUERY = schema.query_type
MUTATION = schema.mutation_type
SUBSCRIPTION = schema.subscription_type
# Levels below a root field from which on only fields without fields are asked for: a query has 10 at most.
DEEPEST = 7
# What fields below root fields need besides.
NEEDED = {"benchmark": 'asset: "BTC-USD"'}


def asking_by(client):
    """Return a function that posts a query, as the client's user, and returns the response."""

    def post(query, variables=None, *, user=None, **headers):
        if user is not None:
            client.force_login(user)
        body = {"query": query} | ({"variables": variables} if variables is not None else {})
        return client.post(
            URL, json.dumps(body, cls=DjangoJSONEncoder), content_type="application/json", headers=headers
        )

    return post


def object_types():
    """Return the names of the schema's object types, query, mutation and subscription themselves aside."""
    types = [one for name, one in schema.type_map.items() if not name.startswith("__")]
    return {one.name for one in types if isinstance(one, GraphQLObjectType)} - {
        QUERY.name,
        MUTATION.name,
        SUBSCRIPTION.name,
    }


def connections():
    """Return type.field for each field that gives pages."""
    return sorted(
        f"{name}.{field}"
        for name in [*object_types(), QUERY.name]
        for field, definition in schema.type_map[name].fields.items()
        if "first" in definition.args
    )


def everything(kind, *, first=2, path=()):
    """Return a selection of all fields of a type, and of theirs, as far as no type comes twice on the way and the query
    is not nested too deep."""
    kind = get_named_type(kind)
    if is_leaf_type(kind):
        return ""
    parts = []
    for name, field in kind.fields.items():
        inner = get_named_type(field.type)
        if inner.name in (*path, kind.name) or (len(path) >= DEEPEST and not is_leaf_type(inner)):
            continue
        arguments = f"(first: {first})" if "first" in field.args else ""
        arguments = f"({NEEDED[name]})" if name in NEEDED else arguments
        selection = everything(inner, first=first, path=(*path, kind.name))
        # A page so deep that only its rows would be below it has nothing to ask for.
        if selection != "{  }":
            parts.append(f"{name}{arguments} {selection}")
    return "{ " + " ".join(parts) + " }"


def selected_types(kind, *, path=()):
    """Return the types that everything() reaches; of an interface, all that it may be."""
    kind = get_named_type(kind)
    if is_abstract_type(kind):
        return set().union(*(selected_types(one, path=path) for one in schema.get_possible_types(kind)))
    if is_leaf_type(kind) or kind.name in path:
        return set()
    return {kind.name}.union(*(selected_types(one.type, path=(*path, kind.name)) for one in kind.fields.values()))


def codes(response):
    """Return the codes of the errors of an answer."""
    return [one["extensions"]["code"] for one in response.json().get("errors", [])]
