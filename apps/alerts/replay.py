"""The log read again, beside the alerts on record: what fired live is what should have fired."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from apps.accounts.domain import DELETED_ACCOUNT
from apps.alerts.episodes import OPENED, RESOLVED, events_of
from apps.alerts.models import Alert, AlertEvent
from apps.alerts.wording import describe_event_reason
from apps.market import queries as market
from apps.market.domain import PathCandle, PathItem, epoch_microseconds, from_epoch_microseconds
from apps.market.models import EvaluationCursor, Feed, FeedEntry
from apps.rules import queries as rules
from apps.rules.engine.series import History
from apps.rules.engine.windows import WindowKey, reach_of
from apps.rules.engine.written import write_moment
from apps.rules.models import Checkpoint, Rule
from apps.rules.services import rebuild_engine

# Takes the part that is done, from 0 to 1.
Progress = Callable[[float], None]


class ReplayRefused(ValueError):
    """The range cannot be read again; the text says why, and what can be."""


class Step(NamedTuple):
    """An alert that opened or resolved: at which entry of the log, when, why, what was raised, and what was seen at its
    opening."""

    seq: int
    rule_id: int
    asset_id: int
    kind: str
    at: int
    reason: str
    detail: str
    evidence: str


@dataclass(slots=True)
class Comparison:
    """The steps of one feed. missing: the log has them, the record has not; extra: the other way round."""

    feed: str
    entries: int = 0
    same: int = 0
    missing: list[Step] = field(default_factory=list)
    extra: list[Step] = field(default_factory=list)


def replay(feed: Feed, *, since: datetime, until: datetime, progress: Progress) -> Comparison:
    """Read the evaluated entries of a feed's log whose clock is in [since, until] again, from the nearest checkpoint,
    and compare what opens and resolves there with what is on record. Raises ReplayRefused."""
    comparison = Comparison(feed.name)
    evaluated = EvaluationCursor.objects.get(feed=feed).seq
    entries = FeedEntry.objects.filter(feed=feed, seq__lte=evaluated).order_by("seq")
    first = entries.filter(as_of__gte=since).values_list("seq", flat=True).first()
    last = entries.filter(as_of__lte=until).values_list("seq", flat=True).last()
    if first is None or last is None or last < first:
        return comparison
    forgotten = market.forgotten_before(feed.pk)
    nearest = (
        Checkpoint.objects.filter(feed=feed, seq__lt=first).order_by("seq").values_list("seq", flat=True).last() or 0
    )
    _refuse_forgotten(feed, after=nearest, last=last, forgotten=forgotten)
    engine = rebuild_engine(feed_id=feed.pk, seq=nearest)
    open_keys = _open_at(feed, seq=first - 1)
    found: list[Step] = []
    # Alerts of deleted accounts are gone, and their rules are still in the log.
    nobodys = set(Rule.objects.filter(owner=DELETED_ACCOUNT).values_list("pk", flat=True))
    for entry in rules.entries(feed_id=feed.pk, after_seq=nearest, up_to_seq=last):
        history = rules.history_of(feed_id=feed.pk, seq=entry.seq)
        evaluation = engine.evaluate(entry, _whole(history, forgotten=forgotten, seq=entry.seq))
        if entry.seq < first:
            continue  # On the way from the checkpoint to the range.
        found += [
            _step(entry.seq, kind, (one.rule_id, one.asset_id), one.moment, (one.reason, one.detail), one.evidence)
            for kind, one in events_of(evaluation.transitions, open_keys=open_keys)
            if one.rule_id not in nobodys
        ]
        progress((entry.seq - first + 1) / (last - first + 1))
    recorded = [
        _step(
            event.entry.seq,
            event.kind,
            (event.alert.rule_id, event.alert.asset_id),
            epoch_microseconds(event.at),
            (event.reason, event.detail),
            event.alert.evidence,
        )
        for event in AlertEvent.objects.filter(entry__feed=feed, entry__seq__gte=first, entry__seq__lte=last)
        .filter(kind__in=(OPENED, RESOLVED))
        .select_related("entry", "alert")
        .iterator(chunk_size=2_000)
    ]
    # As multisets: several episodes of one rule may open and resolve within one entry.
    in_log, on_record = Counter(found), Counter(recorded)
    comparison.entries = last - first + 1
    comparison.same = (in_log & on_record).total()
    comparison.missing = sorted((in_log - on_record).elements())
    comparison.extra = sorted((on_record - in_log).elements())
    return comparison


def describe(steps: Iterable[Step]) -> list[str]:
    """Return a line for each step, with the names of its rule and asset."""
    steps = list(steps)
    names = dict(Rule.objects.filter(pk__in={one.rule_id for one in steps}).values_list("pk", "name"))
    symbols = dict(market.every_asset().filter(pk__in={one.asset_id for one in steps}).values_list("pk", "symbol"))
    return [
        f"entry {one.seq}, {write_moment(one.at)}: {names.get(one.rule_id, one.rule_id)} on "
        f"{symbols.get(one.asset_id, one.asset_id)} {one.kind} ({describe_event_reason(one.reason, one.detail)})"
        for one in steps
    ]


def _step(
    seq: int, kind: str, key: tuple[int, int], at: int, why: tuple[str, str], evidence: Mapping[str, object] | None
) -> Step:
    # The alert keeps what was seen at its opening only.
    seen = "" if kind == RESOLVED else json.dumps(evidence or {}, sort_keys=True)
    return Step(seq, *key, kind, at, *why, seen)


def _open_at(feed: Feed, *, seq: int) -> set[tuple[int, int]]:
    """Return the (rule, asset) whose alert was open after entry `seq`."""
    opened = AlertEvent.objects.filter(entry__feed=feed, entry__seq__lte=seq, kind=AlertEvent.Kind.OPENED)
    over = AlertEvent.objects.filter(entry__feed=feed, entry__seq__lte=seq, kind=AlertEvent.Kind.RESOLVED)
    alerts = Alert.objects.filter(pk__in=opened.values("alert")).exclude(pk__in=over.values("alert"))
    return set(alerts.order_by().values_list("rule_id", "asset_id"))


def _refuse_forgotten(feed: Feed, *, after: int, last: int, forgotten: datetime | None) -> None:
    if forgotten is None:
        return
    needed = FeedEntry.objects.filter(feed=feed, seq__gt=after, seq__lte=last, accepted__gt=0, first_at__lt=forgotten)
    gone = needed.order_by("seq").last()
    if gone is not None:
        later = Checkpoint.objects.filter(feed=feed, seq__gte=gone.seq).order_by("seq").first()
        hint = f"; begin after {write_moment(epoch_microseconds(later.as_of))}" if later else ""
        raise ReplayRefused(
            f"{feed.name}: the range needs quotes from before {write_moment(epoch_microseconds(forgotten))}, "
            f"and those are no longer stored{hint}"
        )


def _whole(history: History, *, forgotten: datetime | None, seq: int) -> History:
    """Return `history`, which refuses to fill windows that reach to where quotes are no longer stored."""
    if forgotten is None:
        return history
    oldest = epoch_microseconds(forgotten)

    def read(wanted: Mapping[int, Collection[WindowKey]]) -> Mapping[int, Iterable[PathItem]]:
        stored = {asset_id: list(path) for asset_id, path in history(wanted).items()}
        for asset_id, path in stored.items():
            # Candles of quotes that are gone may hold what came after this entry.
            is_whole = not any(isinstance(one, PathCandle) and one.first_at < oldest for one in path)
            newest = path[-1].last_at if isinstance(path[-1], PathCandle) else path[-1][0]
            if not (is_whole and newest - reach_of(wanted[asset_id]) >= oldest):
                raise ReplayRefused(
                    f"a rule that begins at entry {seq} looks back to before "
                    f"{from_epoch_microseconds(oldest):%Y-%m-%d}, and those quotes are no longer stored; begin after it"
                )
        return stored

    return read
