"""Rules: what their owners want watched, in words, and how far each instance of it has come."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID as PythonUUID

import graphene
from django.contrib.auth import get_user_model

from apps.api.graphql.connections import NameOrder, Page, Paging, connection, page, pages_by, pages_of
from apps.api.graphql.context import Context
from apps.api.graphql.nodes import Node, among, is_node, public_id
from apps.api.graphql.scalars import JSON, UUID, DateTime, enum
from apps.api.graphql.types.health import Health, rule_health
from apps.api.graphql.types.market import Asset
from apps.public_ids import with_public_id
from apps.rules.domain import describe_reason, describe_rule, describe_unknown
from apps.rules.engine.instance import STATES
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule as RuleRow
from apps.rules.models import RuleState as RuleStateRow
from apps.rules.models import RuleVersion
from apps.rules.queries import newest_versions, rules_seen_by, states_of

Severity = enum("Severity", RuleRow.Severity.values, description="Severity of an alert of a rule.")
State = enum("State", STATES, description="Where an instance of a rule stands; docs/rules.md says what each means.")


class RuleState(graphene.ObjectType):
    """Where one rule stands on one asset, as of the last entry of the log that was evaluated."""

    asset = graphene.Field(Asset, required=True, description="The asset that it is evaluated on.")
    state = graphene.Field(State, required=True, description="Its state.")
    since = graphene.Field(DateTime, description="When it came into this state, by the feed's clock.")
    unknown = graphene.String(
        required=True,
        description="Why the last evaluation was neither yes nor no, as a code of docs/rules.md; else empty.",
    )
    unknown_text = graphene.String(required=True, description="The same as a sentence.")
    reason = graphene.String(required=True, description="Why the last step was taken, as a code of docs/rules.md.")
    reason_text = graphene.String(required=True, description="The same for people, with what was raised.")
    detail = graphene.String(required=True, description="The exception's text if the evaluation failed; else empty.")
    version = graphene.Int(required=True, description="Number of the rule's version that is evaluated.")

    def resolve_unknown_text(state: RuleStateRow, info: Any) -> str:
        return describe_unknown(state.unknown)

    def resolve_reason_text(state: RuleStateRow, info: Any) -> str:
        return describe_reason(state.reason, state.detail)

    def resolve_version(state: RuleStateRow, info: Any) -> int:
        return state.version.number


RuleStateConnection = connection(RuleState, fields=["asset_id"])


class Rule(graphene.ObjectType):
    """A rule, as its newest version says."""

    class Meta:
        interfaces = (Node,)

    id = public_id()
    name = graphene.String(required=True, description="Shown in every message.")
    severity = graphene.Field(Severity, required=True, description="Severity of its alerts.")
    owner = graphene.String(description="Whose it is.")
    description = graphene.String(description="The rule as a sentence.")
    document = graphene.Field(JSON, description="The rule in the written form of docs/rules.md.")
    version = graphene.Int(description="Number of the newest version.")
    created_at = graphene.Field(DateTime, required=True, description="When it was created.")
    deleted_at = graphene.Field(DateTime, description="A deleted rule is seen by its alerts only.")
    health = graphene.Field(Health, description="How it is, by itself and by what it depends on. For its owner.")
    states = pages_of(RuleStateConnection, description="The state of the rule on each asset.")

    def resolve_health(rule: RuleRow, info: Any) -> Any:
        return info.context.load(rule_health, rule.pk)

    def resolve_owner(rule: RuleRow, info: Any) -> Any:
        return info.context.load(usernames, rule.owner_id)

    def resolve_description(rule: RuleRow, info: Any) -> Any:
        return info.context.load(_description, rule.pk)

    def resolve_document(rule: RuleRow, info: Any) -> Any:
        return info.context.load(_documents, rule.pk)

    def resolve_version(rule: RuleRow, info: Any) -> Any:
        return info.context.load(_version_numbers, rule.pk)

    def resolve_states(rule: RuleRow, info: Any, **paging: Any) -> Any:
        return info.context.load(_states_of_rules, rule.pk, Paging(**paging))


is_node(Rule, RuleRow, among(lambda context: rules_seen_by(context.owner())))
RuleConnection = connection(Rule, fields=["name", "pk"], by=NameOrder)


class RulesQuery(graphene.ObjectType):
    rules = pages_of(RuleConnection, description="Your rules, by name; a superuser's are everybody's.")
    rule = graphene.Field(
        Rule,
        id=UUID(required=True, description="Its `id`."),
        description="A rule of yours by its id; null where it is none, or was deleted.",
    )

    def resolve_rules(root: None, info: Any, **paging: Any) -> Page:
        return page(RuleConnection, rules_seen_by(info.context.owner()), info.context, **paging)

    def resolve_rule(root: None, info: Any, id: PythonUUID) -> Any:
        return with_public_id(rules_seen_by(info.context.owner()), id)


def usernames(context: Context, user_ids: list[int]) -> Mapping[int, str]:
    """Return user id -> name."""
    return dict(get_user_model().objects.filter(pk__in=user_ids).values_list("pk", "username"))


def _versions(context: Context, rule_ids: list[int]) -> Mapping[int, RuleVersion]:
    return context.once(newest_versions, rule_ids)


def _documents(context: Context, rule_ids: list[int]) -> Mapping[int, Any]:
    return {rule_id: version.document for rule_id, version in _versions(context, rule_ids).items()}


def _version_numbers(context: Context, rule_ids: list[int]) -> Mapping[int, int]:
    return {rule_id: version.number for rule_id, version in _versions(context, rule_ids).items()}


def _description(context: Context, rule_ids: list[int]) -> Mapping[int, str]:
    return {rule_id: describe_document(document) for rule_id, document in _documents(context, rule_ids).items()}


def describe_document(document: Any) -> str:
    """Return what the written form of a rule says, in words."""
    try:
        spec = RuleSpec.read(document)
    except RuleInvalid as error:
        return f"cannot be read: {error}"
    return describe_rule(spec) + ("" if spec.enabled else " (disabled)")


def _states_of_rules(context: Context, rule_ids: list[int], paging: Paging) -> Mapping[int, Page]:
    rows = states_of(rule_ids)
    return pages_by("rule_id", RuleStateConnection, rows, context, keys=rule_ids, paging=paging)
