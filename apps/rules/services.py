"""Changes to rules, which take their place in the log, and the evaluating of the log."""

import json
import logging
import zlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction

from apps.accounts.services import lock_owner
from apps.market import queries as market
from apps.market.domain import from_epoch_microseconds
from apps.market.models import FeedEntry
from apps.market.services import AssetStays, append_rules_entry, forget_assets_changes, mark_assets_changed
from apps.portfolios.series import page_of
from apps.rules import queries
from apps.rules.ahead import history_at, prune_filled_windows, read_ahead
from apps.rules.domain import checkpoints_kept
from apps.rules.engine.engine import Engine
from apps.rules.engine.instance import PAUSED, Evaluation
from apps.rules.engine.pure import FOREVER
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Checkpoint, FilledWindows, Rule, RuleChange, RuleState, RuleVersion, Transition
from apps.rules.states import State, record_states

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY = timedelta(minutes=1)
CHECKPOINT_ENTRIES = 1_000
PRUNED_AT_ONCE = 10_000
# Entries of up to so many quotes are evaluated with those of other feeds.
FEW_QUOTES = 100

# feed id -> its engine, as it stood after the last commit of this process. A copy is good only if it stands at the
# feed's last evaluated entry; it is taken out to evaluate and comes back after the commit, so a failed commit costs a
# rebuild, no more.
_warm: dict[int, Engine] = {}


class QuotaExceeded(Exception):
    """The owner has as many rules as one owner may have."""


def save_rule(
    *,
    owner: AbstractBaseUser,
    name: str,
    document: Mapping[str, Any],
    severity: str = Rule.Severity.WARNING,
    rule: Rule | None = None,
    confirms: bool = False,
    now: datetime,
    trace_id: str,
    ahead: Mapping[int, FilledWindows] | None = None,
) -> Rule:
    """Create or edit a rule and return it. A changed meaning is a new version, and enters the log of each feed
    concerned.

    document: the written form without name, severity and channels; confirms: its owner has looked at it, so what a
    split has paused goes on; ahead: its windows, filled before where the caller holds locks. Raises RuleInvalid,
    ValidationError, QuotaExceeded, and Rule.DoesNotExist for a rule that is deleted.
    """
    spec = RuleSpec.read(document)
    owner_id = owner.pk if rule is None else rule.owner_id
    refuse_unfit_assets(spec, owner_id=owner_id)
    ahead = read_ahead([(spec, rule)], owner_id=owner_id) if ahead is None else ahead
    with transaction.atomic():
        if rule is None:
            # The owner's row orders two requests that would both take the last place.
            lock_owner(owner.pk)
            if queries.rules_of(owner).count() >= settings.RULES_PER_OWNER:
                raise QuotaExceeded(f"an owner has at most {settings.RULES_PER_OWNER} rules; delete one first")
            rule = Rule(owner=owner)
        else:
            # One that was deleted meanwhile stays so: back in the log it would fire where nobody sees it.
            rule = Rule.objects.select_for_update(no_key=True).get(pk=rule.pk, deleted_at=None)
        rule.name, rule.severity = name, severity
        rule.full_clean(validate_constraints=False)
        refuse_second_name(owner_id=rule.owner_id, name=name, rule=rule)
        rule.save()
        version = rule.versions.order_by("number").last()
        meaning = spec.document()
        is_new = version is None or version.document != meaning
        if is_new:
            number = version.number + 1 if version else 1
            version = RuleVersion.objects.create(rule=rule, number=number, document=meaning)
        entered = _enter_log(
            rule, version=version, spec=spec, resumes=confirms, ahead=ahead, now=now, trace_id=trace_id
        )
        if is_new or entered:
            # An asset that is tagged or moved beside this transaction is not seen by it.
            mark_assets_changed()
    return rule


def refuse_second_name(*, owner_id: int, name: str, rule: Rule | None) -> None:
    """Raise ValidationError where another rule of the owner has this name."""
    others = Rule.objects.filter(owner=owner_id, name=name, deleted_at=None)
    if others.exclude(pk=rule.pk if rule is not None else None).exists():
        raise ValidationError({"name": ValidationError("There is a rule of this name already.", code="unique")})


def switch_rule(*, rule: Rule, is_enabled: bool, now: datetime, trace_id: str) -> bool:
    """Switch a rule on or off from here on, and tell whether that changed anything. Raises what save_rule raises."""
    version = queries.newest_versions([rule.pk]).get(rule.pk)
    document = version.document if version is not None else {}
    if queries.is_enabled(document) == is_enabled:
        return False
    save_rule(
        owner=rule.owner,
        name=rule.name,
        severity=rule.severity,
        document=document | {"enabled": is_enabled},
        rule=rule,
        now=now,
        trace_id=trace_id,
    )
    return True


def confirm_rule(*, rule: Rule, now: datetime, trace_id: str) -> bool:
    """Let what a split has paused of a rule go on as it is, from here on, and tell whether there was any. Raises
    Rule.DoesNotExist for a rule that is deleted, RuleInvalid for one that cannot be read."""
    with transaction.atomic():
        rule = Rule.objects.select_for_update(no_key=True).get(pk=rule.pk, deleted_at=None)
        version = rule.versions.order_by("number").last()
        spec = RuleSpec.read(version.document) if version is not None else None
        return _enter_log(rule, version=version, spec=spec, resumes=True, now=now, trace_id=trace_id) > 0


def delete_rule(*, rule: Rule, now: datetime, trace_id: str) -> None:
    """End the rule at its place in each log; its alerts, versions and history stay."""
    with transaction.atomic():
        rule = Rule.objects.select_for_update(no_key=True).get(pk=rule.pk)
        if rule.deleted_at is None:
            rule.deleted_at = now
            rule.save(update_fields=["deleted_at"])
            _enter_log(rule, version=None, spec=None, now=now, trace_id=trace_id)


def follow_assets(*, now: datetime, trace_id: str) -> int:
    """Let rules follow assets that were added, removed, tagged or moved, and their calendars, and return how many
    entries of logs that made. One small statement where no asset and no rule has changed since the last call."""
    changes = market.assets_changes()
    if not changes:
        return 0
    changed = 0
    for rule_id in queries.rules_to_follow():
        ahead = _read_ahead_of(rule_id)
        with transaction.atomic():
            # Locked, since it may be edited or deleted meanwhile.
            rule = Rule.objects.select_for_update(no_key=True).filter(pk=rule_id, deleted_at=None).first()
            version = rule.versions.order_by("number").last() if rule is not None else None
            if rule is not None and version is not None:
                changed += _follow(rule, version, ahead=ahead, now=now, trace_id=trace_id)
    forget_assets_changes(changes)
    return changed


def _read_ahead_of(rule_id: int) -> dict[int, FilledWindows]:
    """Fill the windows of a rule's newest version where it needs others than it has."""
    version = queries.newest_versions([rule_id]).get(rule_id)
    try:
        if version is None:
            return {}
        return read_ahead([(RuleSpec.read(version.document), version.rule)], owner_id=version.rule.owner_id)
    except RuleInvalid:
        return {}


def _follow(
    rule: Rule, version: RuleVersion, *, now: datetime, trace_id: str, ahead: Mapping[int, FilledWindows] | None = None
) -> int:
    """Enter the logs where the rule's assets are others now than those in force, and return how many logs that were."""
    try:
        spec = RuleSpec.read(version.document)
    except RuleInvalid:
        return 0
    return _enter_log(rule, version=version, spec=spec, ahead=ahead, now=now, trace_id=trace_id)


def lock_rules_on(*asset_ids: int) -> list[Rule]:
    """Return the rules that are evaluated on some assets, in order, locked until the caller's transaction ends: before
    heads of feeds are, as where a rule is saved."""
    evaluated = RuleState.objects.filter(asset__in=asset_ids).values("rule")
    return list(Rule.objects.select_for_update(no_key=True).filter(pk__in=evaluated).order_by("pk"))


def follow_moved_asset(
    *, asset_id: int, rules: Sequence[Rule], left_feed_id: int | None, now: datetime, trace_id: str
) -> dict[int, FeedEntry]:
    """Enter the logs where an asset that has just moved is evaluated by these rules no more, and where it is from now
    on;
    return rule id -> the entry at which it ended. In the transaction of the move.

    rules: as lock_rules_on gave them before. Raises AssetStays where there are others by now. Rules that choose the new
    feed follow within seconds, as with any asset that is added to it.
    """
    if RuleState.objects.filter(asset=asset_id, state=PAUSED).exists():
        raise AssetStays("A rule on it is paused after a split; its owner has to check its levels first.")
    if {rule.pk for rule in rules} != set(RuleState.objects.filter(asset=asset_id).values_list("rule", flat=True)):
        raise AssetStays("Rules on it were changed at this moment; try again.")
    ended: dict[int, FeedEntry] = {}
    for rule in rules:
        version = rule.versions.order_by("number").last()
        if version is not None and _follow(rule, version, now=now, trace_id=trace_id):
            entered = RuleChange.objects.filter(rule=rule, entry__feed=left_feed_id, entry__trace_id=trace_id)
            ended.update((change.rule_id, change.entry) for change in entered.select_related("entry"))
    return ended


def refuse_unfit_assets(spec: RuleSpec, *, owner_id: int | None = None) -> None:
    """Raise RuleInvalid for a symbol that no asset has which this owner may name, whose asset is in no feed, or to
    which the condition does not apply. Of assets that are chosen by tag or feed, those to which it does not apply are
    left out."""
    known = {asset.symbol: asset for asset in market.assets_chosen(symbols=spec.assets.symbols, owner_id=owner_id)}
    for index, symbol in enumerate(spec.assets.symbols):
        if symbol not in known:
            raise RuleInvalid(f"assets[{index}]", f"there is no asset {symbol}")
        if known[symbol].feed_id is None:
            raise RuleInvalid(f"assets[{index}]", f"{symbol} is in no feed, so nothing would ever be evaluated")
        why = queries.why_not(spec, known[symbol])
        if why is not None:
            page = page_of(known[symbol].pk) if known[symbol].has_flows else ""
            raise RuleInvalid(f"assets[{index}]", f"{symbol}: {why}" + (f", at {page}" if page else ""))


def _enter_log(
    rule: Rule,
    *,
    version: RuleVersion | None,
    spec: RuleSpec | None,
    resumes: bool = False,
    now: datetime,
    trace_id: str,
    ahead: Mapping[int, FilledWindows] | None = None,
) -> int:
    """Append the rule's change to the log of each feed where it differs from what is in force there, with `resumes`
    also where a split has paused it; return how many."""
    wanted: dict[int, queries.InForce] = {}
    if version is not None and spec is not None:
        named, owner_id = spec.assets, rule.owner_id
        chosen = market.assets_chosen(symbols=named.symbols, tag=named.tag, feed=named.feed, owner_id=owner_id)
        wanted = queries.wanted_in_logs(version, spec, chosen)
    # In order of feed, so that two changes over the same feeds cannot wait for each other.
    changes = queries.differing(wanted, queries.changes_in_force(rule))
    paused = queries.feeds_paused(rule) if resumes else set()
    changes |= {feed_id: wanted[feed_id] for feed_id in paused & wanted.keys()}
    for feed_id, (version_id, asset_ids, calendars) in sorted(changes.items()):
        entry = append_rules_entry(feed_id=feed_id, now=now, trace_id=trace_id)
        RuleChange.objects.create(
            entry=entry,
            rule=rule,
            version_id=version_id,
            asset_ids=asset_ids,
            calendars=calendars,
            resumes=feed_id in paused,
            filled=(ahead or {}).get(feed_id),
        )
    return len(changes)


def take_engine(*, feed_id: int, seq: int) -> Engine:
    """Return the feed's engine as it stands after entry `seq`: the warm one, or one rebuilt from the last
    checkpoint."""
    return _take_warm(feed_id=feed_id, seq=seq) or rebuild_engine(feed_id=feed_id, seq=seq)


def _take_warm(*, feed_id: int, seq: int) -> Engine | None:
    engine = _warm.pop(feed_id, None)
    return engine if engine is not None and engine.seq == seq else None


def keep_engine(*, feed_id: int, engine: Engine) -> None:
    """Keep the engine warm. Call it only once the commit of what it evaluated is known to have succeeded."""
    _warm[feed_id] = engine


def rebuild_engine(*, feed_id: int, seq: int, asset_ids: Collection[int] | None = None) -> Engine:
    """Return the feed's engine at `seq`, from the last checkpoint and the entries since.

    asset_ids: evaluate these assets alone, which reads no more of the log than is about them.
    """
    engine = Engine()
    checkpoints = Checkpoint.objects.filter(feed_id=feed_id, seq__lte=seq).order_by("-seq")
    for checkpoint_id in list(checkpoints.values_list("pk", flat=True)):
        # One at a time, since each is large; it may have been pruned meanwhile.
        checkpoint = checkpoints.filter(pk=checkpoint_id).first()
        if checkpoint is None:
            continue
        try:
            state = json.loads(zlib.decompress(checkpoint.data))
            version_ids = {
                version_id
                for _, version_id, asset_id, _ in state.get("instances", [])
                if asset_ids is None or asset_id in asset_ids
            }
            engine = Engine.load(state, queries.specs_of(version_ids), only=asset_ids)
            break
        except (ValueError, zlib.error):
            logger.warning("checkpoint passed over", extra={"feed": feed_id, "seq": checkpoint.seq})
    began = engine.seq
    for entry in queries.entries(feed_id=feed_id, after_seq=began, up_to_seq=seq, asset_ids=asset_ids):
        engine.evaluate(entry, queries.history_of(feed_id=feed_id, seq=entry.seq))
    logger.info("engine rebuilt", extra={"feed": feed_id, "seq": seq, "entries": engine.seq - began})
    return engine


def keep_checkpoint(*, feed_id: int, seq: int) -> None:
    """Store the engine as it stands after entry `seq`, where no checkpoint does, in the caller's transaction: candles
    from which its windows were filled are about to be replaced. The caller holds the evaluation cursor's lock."""
    entry = FeedEntry.objects.filter(feed=feed_id, seq=seq).first()
    if entry is not None and not Checkpoint.objects.filter(feed=feed_id, seq=seq).exists():
        _store_checkpoint(entry, rebuild_engine(feed_id=feed_id, seq=seq))


def evaluate(*, entry: FeedEntry, engine: Engine) -> Evaluation:
    """Evaluate one entry of the log and record what it changed, in the caller's transaction."""
    evaluation = engine.evaluate(queries.entry_of(entry), history_at(entry))
    if entry.kind == FeedEntry.Kind.RULES:
        for change in entry.rule_changes.select_related("rule"):
            evaluated = queries.changes_in_force(change.rule) | {entry.feed_id: (None, change.asset_ids, {})}
            # An asset that moved to another feed may be evaluated there already.
            kept = {asset_id for _, asset_ids, _ in evaluated.values() for asset_id in asset_ids}
            states = RuleState.objects.filter(rule_id=change.rule_id).values_list("pk", "asset_id")
            gone = [pk for pk, asset_id in states if asset_id not in kept]
            if gone:
                RuleState.objects.filter(pk__in=gone).delete()
    record(entry=entry, engine=engine, evaluation=evaluation)
    return evaluation


def evaluate_few(entries: Sequence[FeedEntry]) -> list[tuple[FeedEntry, Engine, Evaluation]]:
    """Evaluate those of these entries, each the next one of its feed, that bring few quotes and whose feed's engine is
    warm, and return them with what they changed, which is not recorded yet. Three statements.

    keep_engine or a rebuild follows, as for take_engine.
    """
    warm = []
    for entry in entries:
        if entry.kind == FeedEntry.Kind.QUOTES and entry.accepted <= FEW_QUOTES and not entry.switched:
            engine = _take_warm(feed_id=entry.feed_id, seq=entry.seq - 1)
            if engine is not None:
                warm.append((entry, engine))
    read = queries.entries_of([entry for entry, _ in warm])
    return [
        (entry, engine, engine.evaluate(one, history_at(entry)))
        for (entry, engine), one in zip(warm, read, strict=True)
    ]


def is_quiet(evaluation: Evaluation) -> bool:
    """Tell whether an entry changed the state of nothing, so that there is nothing to record of it but that it is
    evaluated."""
    return not evaluation.touched and not evaluation.transitions


def record(*, entry: FeedEntry, engine: Engine, evaluation: Evaluation) -> None:
    """Record what an entry changed, and the engine from time to time, in the caller's transaction."""
    _record(entry, evaluation)
    _checkpoint_if_due(entry, engine)


def _record(entry: FeedEntry, evaluation: Evaluation) -> None:
    if evaluation.touched:
        alike: dict[State, list[int]] = {}
        for (rule_id, asset_id), one in evaluation.touched.items():
            state = State(
                *(rule_id, one.version_id, one.state),
                since=from_epoch_microseconds(one.since) if one.since > -FOREVER else None,
                unknown=one.unknown or "",
                unknown_since=entry.as_of if one.unknown else None,
                reason=one.reason,
                detail=one.detail,
            )
            alike.setdefault(state, []).append(asset_id)
        record_states(alike)
    Transition.objects.bulk_create(
        [
            Transition(
                entry=entry,
                position=position,
                rule_id=one.rule_id,
                version_id=one.version_id,
                asset_id=one.asset_id,
                from_state=one.from_state,
                to_state=one.to_state,
                at=from_epoch_microseconds(one.moment),
                reason=one.reason,
                detail=one.detail,
                suppressed=one.suppressed,
                evidence=one.evidence,
            )
            for position, one in enumerate(evaluation.transitions)
        ],
        batch_size=2_000,
    )


def _checkpoint_if_due(entry: FeedEntry, engine: Engine) -> None:
    """Write a checkpoint: at the beginning, then at most once a minute of the feed's clock, or after many entries.

    The clock stands still after the end of a recording, and may seem to go back at its beginning.
    """
    if engine.checkpoint is None:
        stored = Checkpoint.objects.filter(feed_id=entry.feed_id).order_by("-seq")
        engine.checkpoint = stored.values_list("seq", "as_of").first()
    seq, as_of = engine.checkpoint or (entry.seq - CHECKPOINT_ENTRIES, entry.as_of)
    if entry.seq - seq >= CHECKPOINT_ENTRIES or not timedelta(0) <= entry.as_of - as_of < CHECKPOINT_EVERY:
        _store_checkpoint(entry, engine)
        engine.checkpoint = (entry.seq, entry.as_of)


def _store_checkpoint(entry: FeedEntry, engine: Engine) -> None:
    data = zlib.compress(json.dumps(engine.dump(), separators=(",", ":")).encode(), level=1)
    Checkpoint.objects.create(feed_id=entry.feed_id, seq=entry.seq, as_of=entry.as_of, data=data)


def prune_checkpoints(*, now: datetime, dry_run: bool = False) -> int:
    """Thin the checkpoints of each feed by its own clock (by the minute, the hour, the day), drop those older than raw
    quotes are kept, and return how many went, or with dry_run would go. Windows that were filled ahead go too."""
    dropped = 0
    if not dry_run:
        prune_filled_windows(now=now)
    kept_for = timedelta(days=settings.QUOTE_RETENTION_DAYS)
    for feed_id in set(Checkpoint.objects.order_by().values_list("feed_id", flat=True)):
        rows = list(Checkpoint.objects.filter(feed_id=feed_id).order_by("seq").values_list("pk", "as_of"))
        clocks = [as_of for _, as_of in rows]
        kept = checkpoints_kept(clocks, oldest=clocks[-1] - kept_for)
        over = [pk for index, (pk, _) in enumerate(rows) if index not in kept]
        dropped += len(over) if dry_run else Checkpoint.objects.filter(pk__in=over).delete()[0]
    return dropped


def prune_transitions(*, now: datetime, dry_run: bool = False) -> int:
    """Drop the steps of instances that were recorded longer ago than they are kept, and return how many; with dry_run,
    how many would go.

    By the wall clock: a recording of years ago is history from today on. Alerts keep their own evidence.
    """
    before = now - timedelta(days=settings.TRANSITION_RETENTION_DAYS)
    over = Transition.objects.filter(entry__received_at__lt=before).order_by("pk")
    if dry_run:
        return over.count()
    dropped = 0
    # In parts, each well within the statement's time limit.
    while pks := list(over[:PRUNED_AT_ONCE].values_list("pk", flat=True)):
        dropped += Transition.objects.filter(pk__in=pks).delete()[0]
    return dropped
