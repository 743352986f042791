"""How the system, and each feed, asset, channel and rule is, by the last check."""

import re
from collections.abc import Mapping
from typing import Any

import graphene
from django.utils import timezone

from apps.api.graphql.context import Context
from apps.api.graphql.nodes import NodeId, node_ids
from apps.api.graphql.scalars import DateTime, enum
from apps.health import domain, queries
from apps.health.domain import INTENDED
from apps.health.models import Problem as ProblemRow

HealthLevel = enum("HealthLevel", [one.value for one in domain.Level], description="How well something is.")
HealthSubject = enum(
    "HealthSubject",
    [one.value for one in domain.Subject],
    description="The kinds of things whose health is checked.",
)
PROBLEMS_MOST = 200
# Mail servers like to repeat the recipient in what they say.
ADDRESS = re.compile(r"\S+(?:@|://)\S+")


class Health(graphene.ObjectType):
    """The health of one thing. A thing that was not checked is never well."""

    level = graphene.Field(HealthLevel, required=True, description="The level.")
    since = graphene.Field(DateTime, description="Since when it is not well, as far as that is known.")
    code = graphene.String(required=True, description="The code of the problem; empty where it is well.")
    reason = graphene.String(required=True, description="The problem as a sentence; empty for strangers.")
    remedy = graphene.String(required=True, description="The remedy as a sentence; empty for strangers.")
    checked_at = graphene.Field(DateTime, description="When that was checked; null: not yet.")

    def resolve_level(health: domain.Health, info: Any) -> str:
        return health.level.value

    def resolve_reason(health: domain.Health, info: Any) -> str:
        return ADDRESS.sub("…", health.reason) if info.context.user.is_authenticated else ""

    def resolve_remedy(health: domain.Health, info: Any) -> str:
        return health.remedy if info.context.user.is_authenticated else ""


class Problem(graphene.ObjectType):
    """A problem of one subject."""

    subject = graphene.Field(HealthSubject, required=True, description="The kind of object that has the problem.")
    subject_id = graphene.Field(
        NodeId, description="The id to pass to `node`; null for the system and for deleted rows."
    )
    is_intended = graphene.Boolean(required=True, description="A person has decided it: it is no fault.")
    health = graphene.Field(Health, required=True, description="The problem, with its reason and remedy.")

    def resolve_subject(problem: tuple[ProblemRow, domain.Health], info: Any) -> str:
        return problem[0].subject

    def resolve_subject_id(problem: tuple[ProblemRow, domain.Health], info: Any) -> Any:
        return info.context.load(node_ids, (problem[0].subject, problem[0].subject_id))

    def resolve_is_intended(problem: tuple[ProblemRow, domain.Health], info: Any) -> bool:
        return problem[0].code in INTENDED

    def resolve_health(problem: tuple[ProblemRow, domain.Health], info: Any) -> domain.Health:
        return problem[1]


class SystemHealth(graphene.ObjectType):
    """The problems that concern you: operators see the system, feeds and assets; owners the feeds and assets of their
    rules, and their rules and channels."""

    level = graphene.Field(HealthLevel, required=True, description="The worst among it, without what is intended.")
    checked_at = graphene.Field(DateTime, description="When everything was checked last; null: never.")
    problems = graphene.List(
        graphene.NonNull(Problem), required=True, description="The first 200, faults first, the worst before others."
    )


class HealthQuery(graphene.ObjectType):
    health = graphene.Field(SystemHealth, description="Whether everything works that you depend on.")

    def resolve_health(root: None, info: Any) -> SystemHealth:
        user, now = info.context.user, timezone.now()
        account = queries.account_health(user, now=now)
        found = queries.problems_seen_by(user, limit=PROBLEMS_MOST)
        return SystemHealth(level=account.level.value, checked_at=account.checked_at, problems=found)


def _reader(read: domain.HealthReader) -> Any:
    def load(context: Context, ids: list[int]) -> Mapping[int, Any]:
        return read(ids, now=timezone.now())

    return load


asset_health = _reader(queries.asset_healths)
feed_health = _reader(queries.feed_healths)
rule_health = _reader(queries.rule_healths)
channel_health = _reader(queries.channel_healths)
