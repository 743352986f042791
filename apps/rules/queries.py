"""What is asked of the rules' rows, and the feed's log as the engine reads it."""

from collections.abc import Iterable, Mapping

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Max, QuerySet

from apps.market import queries as market
from apps.market.domain import epoch_microseconds
from apps.market.models import Batch
from apps.rules.engine.conditions import RuleInvalid
from apps.rules.engine.engine import Entry, History, HistoryEntry, QuotesEntry, RuleChange, RulesEntry
from apps.rules.engine.rule import RuleSpec
from apps.rules.models import Rule, RuleVersion
from apps.rules.models import RuleChange as RuleChangeRow

Specs = dict[int, RuleSpec | RuleInvalid]


def rules_of(user: AbstractBaseUser) -> QuerySet[Rule]:
    """Return the rules of `user` that are not deleted."""
    return Rule.objects.filter(owner=user, deleted_at=None)


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
