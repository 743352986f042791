"""How everything is, by the last check."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Case, Count, Q, QuerySet, Value, When

from apps.health.domain import (
    CHECK_LATE_AFTER,
    INTENDED,
    SEVERITY,
    TICK_LATE_AFTER,
    Code,
    Health,
    Level,
    ProblemCounts,
    Subject,
    is_late,
)
from apps.health.models import Check, Problem
from apps.health.wording import describe, sentence
from apps.market.models import Feed
from apps.market.queries import every_asset, every_feed
from apps.notify.models import Channel, RuleChannel
from apps.rules.models import Rule, RuleState

_MODELS: Mapping[Subject, Any] = {Subject.FEED: Feed, Subject.CHANNEL: Channel, Subject.RULE: Rule}
_TOO_NEW = "It was made after the last check; the next one comes within seconds."


def not_checked(*, now: datetime) -> Health | None:
    """Return that nothing has run or was checked lately, None where that is not so. Then nothing is known to be
    well."""
    return _stopped(Check.objects.first(), now=now)


def _stopped(row: Check | None, *, now: datetime) -> Health | None:
    ticked_at = row.ticked_at if row is not None else None
    checked_at = row.checked_at if row is not None else None
    if ticked_at is None or checked_at is None:
        return Health(
            Level.STOPPED,
            reason="Nothing has run yet: no worker has finished a tick and a check.",
            remedy="Start beat, the broker and the workers; docs/operations.md says how.",
            code=Code.NOT_CHECKED,
        )
    marks = ((ticked_at, TICK_LATE_AFTER), (checked_at, CHECK_LATE_AFTER))
    late = [at for at, most in marks if is_late(at, now=now, at_most=most)]
    if not late:
        return None
    since = min(late)
    described = describe(Code.NOT_CHECKED, since=since, facts={})
    return Health(Level.STOPPED, since, sentence(described.clause), described.remedy, Code.NOT_CHECKED, checked_at, {})


def system_health(*, now: datetime) -> Health:
    """Return how the system is as a whole: its own problems alone."""
    return _healths(Subject.SYSTEM, [0], now=now)[0]


def feed_healths(ids: Iterable[int], *, now: datetime) -> dict[int, Health]:
    """Return feed id -> how the feed is: three statements."""
    return _healths(Subject.FEED, ids, now=now)


def channel_healths(ids: Iterable[int], *, now: datetime) -> dict[int, Health]:
    """Return channel id -> how the channel is: three statements."""
    return _healths(Subject.CHANNEL, ids, now=now)


def asset_healths(ids: Iterable[int], *, now: datetime) -> dict[int, Health]:
    """Return asset id -> how the asset is, by itself and by its feed."""
    wanted = list(ids)
    feeds = dict(every_asset().filter(pk__in=wanted).order_by().values_list("pk", "feed"))
    names = dict(every_feed().filter(pk__in=set(feeds.values()) - {None}).order_by().values_list("pk", "name"))
    causes = {
        pk: [(Subject.ASSET, pk, ""), *([(Subject.FEED, feed_id, f"Feed {names[feed_id]}: ")] if feed_id else [])]
        for pk, feed_id in feeds.items()
    }
    return _by_causes(causes, now=now)


def rule_healths(ids: Iterable[int], *, now: datetime) -> dict[int, Health]:
    """Return rule id -> how the rule is, by itself and by the assets, feeds and channels that it depends on."""
    rule_ids = list(ids)
    deleted = dict(Rule.objects.filter(pk__in=rule_ids, deleted_at__isnull=False).values_list("pk", "deleted_at"))
    wanted = [pk for pk in rule_ids if pk not in deleted]
    causes: dict[int, list[tuple[Subject, int, str]]] = {pk: [(Subject.RULE, pk, "")] for pk in wanted}
    watched = RuleState.objects.filter(rule__in=wanted).order_by("rule", "asset__symbol")
    for pk, asset_id, symbol, feed_id, feed in watched.values_list(
        "rule", "asset", "asset__symbol", "asset__feed", "asset__feed__name"
    ):
        causes[pk].append((Subject.ASSET, asset_id, f"{symbol}: "))
        if feed_id is not None:
            causes[pk].append((Subject.FEED, feed_id, f"Feed {feed}: "))
    notified = RuleChannel.objects.filter(rule__in=wanted).order_by("rule", "channel__name")
    for pk, channel_id, name in notified.values_list("rule", "channel", "channel__name"):
        causes[pk].append((Subject.CHANNEL, channel_id, f"Channel {name}: "))
    ended = {pk: Health(Level.STOPPED, at, "The rule was deleted.", code=Code.OFF) for pk, at in deleted.items()}
    return ended | _by_causes(causes, now=now)


def account_health(user: AbstractBaseUser | AnonymousUser, *, now: datetime) -> Health:
    """Return how everything is that `user` depends on: the worst of the problems that they may see, without what
    somebody intended."""
    check = Check.objects.first()
    stopped = _stopped(check, now=now)
    if stopped is not None:
        return stopped
    checked_at = check.checked_at if check is not None else None
    worst = _in_order(_problems_of(user).exclude(code__in=INTENDED)).first()
    return _health_of(worst, checked_at=checked_at) if worst is not None else Health(Level.WELL, checked_at=checked_at)


def problem_counts(user: AbstractBaseUser | AnonymousUser) -> ProblemCounts:
    """Return how many problems `user` may see; one statement."""
    is_intended = Q(code__in=INTENDED)
    counted = _problems_of(user).aggregate(
        stopped=Count("pk", filter=~is_intended & Q(level=Level.STOPPED)),
        degraded=Count("pk", filter=~is_intended & Q(level=Level.DEGRADED)),
        intended=Count("pk", filter=is_intended),
    )
    return ProblemCounts(**counted)


def problems_seen_by(user: AbstractBaseUser | AnonymousUser, *, limit: int) -> list[tuple[Problem, Health]]:
    """Return the problems that `user` may see: faults before what somebody intended, the worst and oldest first.

    Operators see those of the system, of all feeds and of all assets; owners those of the feeds and assets that their
    rules depend on, and of their own rules and channels; superusers all.
    """
    rows = _in_order(_problems_of(user))[:limit]
    checked_at = Check.objects.values_list("checked_at", flat=True).first()
    return [(row, _health_of(row, checked_at=checked_at)) for row in rows]


def _in_order(problems: QuerySet[Problem]) -> QuerySet[Problem]:
    """Return faults before what somebody intended, the worst and oldest first."""
    is_intended = Case(When(code__in=INTENDED, then=Value(1)), default=Value(0))
    is_milder = Case(When(level=Level.STOPPED, then=Value(0)), default=Value(1))
    return problems.order_by(is_intended, is_milder, "since", "pk")


def _problems_of(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Problem]:
    rows = Problem.objects.order_by()
    return rows if getattr(user, "is_superuser", False) else rows.filter(_seen_by(user))


def problems_that_stop() -> list[tuple[str, str]]:
    """Return (subject, code) of each problem by which the system or a feed has stopped, unless somebody wanted it."""
    rows = Problem.objects.filter(subject__in=[Subject.SYSTEM, Subject.FEED], level=Level.STOPPED)
    return list(rows.exclude(code__in=INTENDED).values_list("subject", "code"))


def _seen_by(user: AbstractBaseUser | AnonymousUser) -> Q:
    if not user.is_authenticated:
        return Q(pk__in=[])
    watched = RuleState.objects.filter(rule__owner=user, rule__deleted_at=None)
    seen = Q(subject=Subject.RULE, subject_id__in=user.rules.values("pk"))
    seen |= Q(subject=Subject.CHANNEL, subject_id__in=user.channels.values("pk"))
    if user.is_staff and user.has_perm("market.view_feed"):
        # Problems of feeds and assets that have an owner are for their owner alone.
        seen |= Q(subject=Subject.SYSTEM) | Q(subject__in=[Subject.FEED, Subject.ASSET], subject_id__gt=0)
    seen |= Q(subject=Subject.ASSET, subject_id__in=watched.values("asset"))
    return seen | Q(subject=Subject.FEED, subject_id__in=watched.values("asset__feed"))


def _healths(subject: Subject, ids: Iterable[int], *, now: datetime) -> dict[int, Health]:
    return _by_causes({pk: [(subject, pk, "")] for pk in ids}, now=now)


def _by_causes(causes: Mapping[int, Sequence[tuple[Subject, int, str]]], *, now: datetime) -> dict[int, Health]:
    """Return id -> the worst health among its causes, the first of equals.

    causes: id -> (subject, its id, what its sentence begins with).
    """
    check = Check.objects.first()
    stopped = _stopped(check, now=now)
    if stopped is not None:
        return dict.fromkeys(causes, stopped)
    checked_at = check.checked_at if check is not None else None
    named: dict[Subject, set[int]] = {}
    for of_one in causes.values():
        for subject, pk, _ in of_one:
            named.setdefault(subject, set()).add(pk)
    wanted = Q(pk__in=[])
    for subject, ids in named.items():
        wanted |= Q(subject=subject, subject_id__in=ids)
    problems: dict[tuple[str, int], list[Problem]] = {}
    for row in Problem.objects.filter(wanted):
        problems.setdefault((row.subject, row.subject_id), []).append(row)
    unchecked = {subject: _made_since(subject, ids, checked_at) for subject, ids in named.items()}
    found = {}
    for pk, of_one in causes.items():
        known = [(row, name) for subject, its_id, name in of_one for row in problems.get((subject, its_id), ())]
        known.sort(key=lambda pair: -SEVERITY[Level(pair[0].level)])
        if known:
            row, name = known[0]
            found[pk] = _health_of(row, name=name, checked_at=checked_at)
        elif any(its_id in unchecked[subject] for subject, its_id, name in of_one if not name):
            found[pk] = Health(Level.DEGRADED, reason=_TOO_NEW, code=Code.NOT_CHECKED)
        else:
            found[pk] = Health(Level.WELL, checked_at=checked_at)
    return found


def _made_since(subject: Subject, ids: Iterable[int], checked_at: datetime | None) -> set[int]:
    """Return those of these rows that were made after the last check. Assets do not say when they were made."""
    if subject not in _MODELS or checked_at is None:
        return set()
    made = _MODELS[subject].objects.filter(pk__in=list(ids), created_at__gt=checked_at)
    return set(made.order_by().values_list("pk", flat=True))


def _health_of(row: Problem, *, checked_at: datetime | None, name: str = "") -> Health:
    described = describe(row.code, since=row.since, facts=row.facts)
    reason = sentence(described.clause, cause=name)
    return Health(Level(row.level), row.since, reason, described.remedy, row.code, checked_at, row.facts, name)
