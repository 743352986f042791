"""How the system, and each feed, asset, channel and rule is, by the last check."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

import graphene
from django.utils import timezone

from apps.api.graphql.context import Context
from apps.api.graphql.scalars import DateTime, enum
from apps.health import domain, queries
from apps.health.domain import INTENDED, SEVERITY
from apps.health.models import Problem as ProblemRow

HealthLevel = enum("HealthLevel", [one.value for one in domain.Level], description="How well something is.")
HealthSubject = enum("HealthSubject", [one.value for one in domain.Subject], description="What has a health.")
PROBLEMS_MOST = 200
# Mail servers like to repeat the recipient in what they say.
ADDRESS = re.compile(r"\S+(?:@|://)\S+")


class _Reader(Protocol):
    def __call__(self, ids: Iterable[int], *, now: datetime) -> Mapping[int, domain.Health]: ...


class Health(graphene.ObjectType):
    """How something is. Nothing is well that was not checked."""

    level = graphene.Field(HealthLevel, required=True)
    since = graphene.Field(DateTime, description="Since when it is not well, as far as that is known.")
    code = graphene.String(required=True, description="What is wrong, as a code; empty where it is well.")
    reason = graphene.String(required=True, description="The same for people; empty for strangers.")
    remedy = graphene.String(required=True, description="What would mend it; empty for strangers.")
    checked_at = graphene.Field(DateTime, description="When that was checked; null: not yet.")

    def resolve_level(health: domain.Health, info: Any) -> str:
        return health.level.value

    def resolve_reason(health: domain.Health, info: Any) -> str:
        return ADDRESS.sub("…", health.reason) if info.context.user.is_authenticated else ""

    def resolve_remedy(health: domain.Health, info: Any) -> str:
        return health.remedy if info.context.user.is_authenticated else ""


class Problem(graphene.ObjectType):
    """Something that is wrong with one subject."""

    subject = graphene.Field(HealthSubject, required=True)
    subject_id = graphene.ID(required=True, description="Its number; 0 for the system.")
    is_intended = graphene.Boolean(required=True, description="A person has decided it: it is no fault.")
    health = graphene.Field(Health, required=True)

    def resolve_subject(problem: tuple[ProblemRow, domain.Health], info: Any) -> str:
        return problem[0].subject

    def resolve_subject_id(problem: tuple[ProblemRow, domain.Health], info: Any) -> int:
        return problem[0].subject_id

    def resolve_is_intended(problem: tuple[ProblemRow, domain.Health], info: Any) -> bool:
        return problem[0].code in INTENDED

    def resolve_health(problem: tuple[ProblemRow, domain.Health], info: Any) -> domain.Health:
        return problem[1]


class SystemHealth(graphene.ObjectType):
    """What is wrong with what you depend on: for operators the system, feeds and assets; for owners the feeds and
    assets of their rules, their rules and channels."""

    level = graphene.Field(HealthLevel, required=True, description="The worst among it, without what is intended.")
    checked_at = graphene.Field(DateTime, description="When everything was checked last; null: never.")
    problems = graphene.List(
        graphene.NonNull(Problem), required=True, description="The first 200, faults first, the worst before others."
    )


class HealthQuery(graphene.ObjectType):
    health = graphene.Field(SystemHealth, description="Whether everything works that you depend on.")

    def resolve_health(root: None, info: Any) -> SystemHealth:
        now = timezone.now()
        stopped = queries.not_checked(now=now)
        found = queries.problems_seen_by(info.context.user, now=now)
        levels = [health.level for problem, health in found if problem.code not in INTENDED]
        if stopped is not None:
            levels.append(stopped.level)
        worst = max(levels, key=SEVERITY.__getitem__, default=domain.Level.WELL)
        checked_at = stopped.checked_at if stopped is not None else queries.system_health(now=now).checked_at
        return SystemHealth(level=worst.value, checked_at=checked_at, problems=found[:PROBLEMS_MOST])


def _reader(read: _Reader) -> Any:
    def load(context: Context, ids: list[int]) -> Mapping[int, Any]:
        return read(ids, now=timezone.now())

    return load


asset_health = _reader(queries.asset_healths)
feed_health = _reader(queries.feed_healths)
rule_health = _reader(queries.rule_healths)
channel_health = _reader(queries.channel_healths)
