"""What `node` finds: everything that has an id, by its kind and that id, like "rule:0f8fad5b-…"."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import graphene
from django.db.models import Model, QuerySet
from graphql import GraphQLError, StringValueNode

from apps.api.graphql.context import Context
from apps.api.graphql.scalars import UUID
from apps.public_ids import public_id_of, with_public_id


class _Kind(NamedTuple):
    """A kind of node; is_node says what its parts are."""

    name: str
    type: type[graphene.ObjectType]
    form: Any
    find: Callable[[Context, Any], Any]
    id_of: Callable[[Any], Any]


_BY_NAME: dict[str, _Kind] = {}
_BY_MODEL: dict[type[Model], _Kind] = {}


class NodeName(NamedTuple):
    """A node id as it was read."""

    kind: str
    id: Any


class NodeId(graphene.Scalar):
    """What `node` finds something by: its kind, a colon and its id, like "rule:0f8fad5b-d9cb-469f-a165-70867728950e",
    "asset:BTC-USD" or "feed:crypto-spot"."""

    @staticmethod
    def serialize(value: str) -> str:
        """Return the text itself."""
        return value

    @staticmethod
    def parse_value(value: Any) -> NodeName:
        """Return the kind and the id that a text names. Raises GraphQLError."""
        name, _, id = value.partition(":") if isinstance(value, str) else ("", "", "")
        if name not in _BY_NAME:
            raise GraphQLError('Write a kind and an id like "asset:BTC-USD", as `nodeId` gives them.')
        return NodeName(name, _BY_NAME[name].form.parse_value(id))

    @classmethod
    def parse_literal(cls, node: Any, variables: Any = None) -> NodeName:
        """Return the same of a literal."""
        return cls.parse_value(node.value if isinstance(node, StringValueNode) else None)


class Node(graphene.Interface):
    """An object with an id."""

    node_id = graphene.Field(NodeId, required=True, description="The id to pass to `node`.")

    def resolve_node_id(row: Model, info: Any) -> str:
        return node_id_of(row)

    @classmethod
    def resolve_type(cls, row: Model, info: Any) -> type[graphene.ObjectType]:
        """Return the type of a row that `node` has found."""
        return _BY_MODEL[type(row)].type


def public_id() -> graphene.Field:
    """Return the field `id` of what has an owner."""
    said = "Random; never that of anything else."
    return graphene.Field(UUID, required=True, description=said, resolver=lambda row, info: public_id_of(row))


def among(rows: Callable[[Context], QuerySet[Any]]) -> Callable[[Context, Any], Any]:
    """Return what finds a row by its public id among those that the reader may see. rows: raises Unauthenticated for a
    stranger."""
    return lambda context, id: with_public_id(rows(context), id)


def is_node(
    kind: type[graphene.ObjectType],
    model: type[Model],
    find: Callable[[Context, Any], Any],
    *,
    form: Any = UUID,
    id_of: Callable[[Any], Any] = public_id_of,
) -> None:
    """Let `node` find rows of a model, of which this is the type. find: gives the row of an id as the reader sees it,
    or None; form, id_of: where ids are not public ids, their scalar and how a row gives its own."""
    name = kind.__name__[0].lower() + kind.__name__[1:]
    _BY_NAME[name] = _BY_MODEL[model] = _Kind(name, kind, form, find, id_of)


def node_id_of(row: Model) -> str:
    """Return what `node` finds a row by."""
    kind = _BY_MODEL[type(row)]
    return f"{kind.name}:{kind.form.serialize(kind.id_of(row))}"


def kinds_of_nodes() -> Mapping[str, type[graphene.ObjectType]]:
    """Return kind -> its type."""
    return {name: kind.type for name, kind in _BY_NAME.items()}


def node_ids(context: Context, subjects: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], str]:
    """Return (kind, key) -> what `node` finds it by, for those that are there; a statement for each kind. Whether the
    reader sees them is the caller's business."""
    keys: dict[str, set[int]] = {}
    for name, key in subjects:
        if name in _BY_NAME:
            keys.setdefault(name, set()).add(key)
    models = {kind.name: model for model, kind in _BY_MODEL.items()}
    return {
        (name, row.pk): node_id_of(row)
        for name, of_kind in keys.items()
        for row in models[name]._base_manager.filter(pk__in=of_kind)
    }


class NodesQuery(graphene.ObjectType):
    node = graphene.Field(
        Node,
        id=NodeId(required=True, description="A kind and an id, as `nodeId` gives them."),
        description="The object with this id; null if there is none, or it is not yours.",
    )

    def resolve_node(root: None, info: Any, id: NodeName) -> Any:
        return _BY_NAME[id.kind].find(info.context, id.id)
