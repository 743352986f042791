"""What is asked of the rules' rows, and the feed's log as the engine reads it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, Max, Q, QuerySet

from apps.market import queries as market
from apps.market.domain import epoch_microseconds
from apps.market.models import Batch
from apps.rules.engine.engine import Entry, History, HistoryEntry, QuotesEntry, RuleChange, RulesEntry
from apps.rules.engine.instance import ERROR, OPEN, PENDING
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule, RuleState, RuleVersion
from apps.rules.models import RuleChange as RuleChangeRow

Specs = dict[int, RuleSpec | RuleInvalid]


def rules_of(user: AbstractBaseUser) -> QuerySet[Rule]:
    """Return the rules of `user` that are not deleted."""
    return Rule.objects.filter(owner=user, deleted_at=None)


def rules_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Rule]:
    """Return the rules that `user` may see and that are not deleted: their own, all for a superuser, none for a
    stranger."""
    rows = Rule.objects.filter(deleted_at=None)
    if not user.is_authenticated:
        return rows.none()
    return rows if getattr(user, "is_superuser", False) else rows.filter(owner=user)


def newest_versions(rule_ids: Iterable[int]) -> dict[int, RuleVersion]:
    """Return rule id -> its version in force."""
    newest = RuleVersion.objects.filter(rule__in=rule_ids).order_by().values("rule").annotate(newest=Max("pk"))
    return {version.rule_id: version for version in RuleVersion.objects.filter(pk__in=newest.values("newest"))}


def states_of(rule_ids: Iterable[int]) -> QuerySet[RuleState]:
    """Return where these rules stand on each of their assets, with asset and version. Whose they are is the caller's
    business."""
    return RuleState.objects.filter(rule__in=rule_ids).select_related("asset", "version")


def specs_of(version_ids: Iterable[int]) -> Specs:
    """Return version id -> what it says, or why that cannot be read."""
    specs: Specs = {}
    for version_id, document in RuleVersion.objects.filter(pk__in=version_ids).values_list("pk", "document"):
        try:
            specs[version_id] = RuleSpec.read(document)
        except RuleInvalid as error:
            specs[version_id] = error
    return specs


def changes_in_force(rule: Rule) -> dict[int, tuple[int | None, list[int]]]:
    """Return feed id -> (version id, asset ids) as the rule's last change in each feed's log says."""
    # Ids rise within a feed: they are given under its head's lock.
    last = RuleChangeRow.objects.filter(rule=rule).values("batch__feed").annotate(last=Max("pk")).values("last")
    rows = RuleChangeRow.objects.filter(pk__in=last).values_list("batch__feed_id", "version_id", "asset_ids")
    return {feed_id: (version_id, asset_ids) for feed_id, version_id, asset_ids in rows}


def entry_of(batch: Batch) -> Entry:
    """Return one entry of the log as the engine reads it."""
    as_of = epoch_microseconds(batch.as_of)
    if batch.kind == Batch.Kind.QUOTES:
        return QuotesEntry(batch.seq, as_of, market.judged_quotes(batch))
    if batch.kind == Batch.Kind.HISTORY:
        return HistoryEntry(batch.seq, as_of, market.asset_ids_in(batch))
    rows = list(batch.rule_changes.order_by("rule_id").values_list("rule_id", "version_id", "asset_ids"))
    specs = specs_of([version_id for _, version_id, _ in rows if version_id is not None])
    return RulesEntry(
        batch.seq,
        as_of,
        [
            RuleChange(rule_id, version_id, specs[version_id] if version_id is not None else None, asset_ids)
            for rule_id, version_id, asset_ids in rows
        ],
    )


def history_at(batch: Batch) -> History:
    """Return the reader of stored quotes as of this entry of the log."""

    def read(reach: Mapping[int, int]) -> Mapping[int, Iterable[tuple[int, int]]]:
        return market.stored_path(reach, feed_id=batch.feed_id, up_to_seq=batch.seq)

    return read


class RuleCounts(NamedTuple):
    """How many rules there are, and how many of them have an instance that stands so."""

    rules: int
    firing: int
    pending: int
    unknown: int
    error: int


def rule_counts_of(user: AbstractBaseUser | AnonymousUser) -> RuleCounts:
    """Return how the rules that `user` may see stand; two statements."""
    rules = rules_seen_by(user)

    def in_state(chosen: Q) -> Count:
        return Count("rule", filter=chosen, distinct=True)

    counted = RuleState.objects.filter(rule__in=rules.order_by().values("pk")).aggregate(
        firing=in_state(Q(state__in=OPEN)),
        pending=in_state(Q(state=PENDING)),
        unknown=in_state(~Q(unknown="")),
        error=in_state(Q(state=ERROR)),
    )
    return RuleCounts(rules=rules.count(), **counted)
