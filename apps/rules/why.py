"""Why a rule did or did not fire: the engine, rebuilt for one asset as it stood at one moment, asked and put into
words."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from apps.locales import STANDARD, Reader
from apps.market import queries as market
from apps.market.domain import epoch_microseconds, from_epoch_microseconds, price_of
from apps.market.models import Asset, FeedEntry
from apps.rules import explain, queries
from apps.rules.engine.codes import Unknown
from apps.rules.engine.instance import OPEN, InstanceStatus
from apps.rules.engine.pure import FOREVER
from apps.rules.engine.rule import RuleSpec
from apps.rules.models import Rule, RuleVersion
from apps.rules.services import rebuild_engine
from apps.wording import format_time

# More than a rebuild in a request may read.
ENTRIES_MOST = 100_000


class WhyRefused(Exception):
    """The question cannot be answered. The text says why not."""


@dataclass(frozen=True, slots=True)
class PriceSeen:
    """A quote that was evaluated."""

    at: datetime
    price: Decimal


@dataclass(frozen=True, slots=True)
class Why:
    """Where a rule stood on an asset at a moment, and what it saw.

    summary: the state; state, unknown, since, opened_at, evidence: as the engine has them, None where there is none;
    cooling_until: until then the next opening would be silent; evaluated_at: the moment of the last evaluation before;
    tree: the parts of the condition, None before a first quote and after the end; newest, previous: the last two
    quotes; version: what was evaluated; entry: the last one of the log that was read.

    What only the apps downstream know (whether somebody was told, and why not) is not in it: they lay it beside it.
    """

    summary: str
    state: str
    unknown: str | None
    since: datetime | None
    opened_at: datetime | None
    suppressed: bool
    cooling_until: datetime | None
    evaluated_at: datetime | None
    tree: explain.Part | None
    evidence: dict[str, object] | None
    newest: PriceSeen | None
    previous: PriceSeen | None
    version: RuleVersion
    entry: FeedEntry


def why(
    user: AbstractBaseUser | AnonymousUser | None,
    *,
    rule: Rule,
    asset: Asset,
    now: datetime,
    at: datetime | None = None,
    reader: Reader = STANDARD,
) -> Why:
    """Return where `rule` stood on `asset` after the last entry of the feed's log that came at or before `at`.

    By the feed's own clock; at: None for the last evaluated entry. user: who asks, None for the system itself;
    reader: whom the texts are for. Raises
    Rule.DoesNotExist for a rule that `user` may not see, and WhyRefused.
    """
    if user is not None:
        rule = queries.rules_ever_seen_by(user).get(pk=rule.pk)
    entry = _entry_at(asset, at=at, now=now)
    _refuse_what_is_forgotten(entry)
    engine = rebuild_engine(feed_id=entry.feed_id, seq=entry.seq, asset_ids={asset.pk})
    status_of_instance = engine.status_of_instance(rule.pk, asset.pk)
    if status_of_instance is None:
        raise WhyRefused(f"{rule} did not watch {asset} at that moment{_watched_since(rule, asset, entry, reader)}")
    return _answer(status_of_instance, asset=asset, entry=entry, reader=reader)


def _entry_at(asset: Asset, *, at: datetime | None, now: datetime) -> FeedEntry:
    if asset.feed is None:
        raise WhyRefused(f"{asset} is in no feed, so nothing is evaluated")
    if at is not None and at > now:
        raise WhyRefused("that time is in the future")
    evaluated = asset.feed.evaluation_cursor.seq
    if at is None:
        entry = FeedEntry.objects.filter(feed=asset.feed, seq=evaluated).select_related("feed").first()
        if entry is None:
            raise WhyRefused(f"nothing is evaluated yet in {asset.feed}")
        return entry
    entry = queries.last_entry_at(asset.feed.pk, at=at, up_to_seq=evaluated, entries_most=ENTRIES_MOST)
    if entry is None:
        raise WhyRefused(
            "that moment lies before the feed's log begins, or farther back than it can be evaluated again"
        )
    return entry


def _refuse_what_is_forgotten(entry: FeedEntry) -> None:
    start = queries.checkpoint_seq_before(entry)
    if entry.seq - start > ENTRIES_MOST:
        raise WhyRefused(
            f"that moment lies too far from a checkpoint: {entry.seq - start} entries of the log would have to be read"
        )
    read = FeedEntry.objects.filter(feed=entry.feed_id, seq__gt=start, seq__lte=entry.seq)
    # The oldest quotes are dropped first.
    first = read.filter(kind=FeedEntry.Kind.QUOTES, accepted__gt=0).order_by("seq").first()
    if first is not None and not market.has_quotes(first):
        raise WhyRefused("the quotes from before that moment are kept no more")


def _watched_since(rule: Rule, asset: Asset, entry: FeedEntry, reader: Reader) -> str:
    begun = queries.watch_begins(rule, asset, after=entry)
    return f"; it does since {format_time(epoch_microseconds(begun.as_of), reader=reader)}" if begun is not None else ""


def _answer(status_of_instance: InstanceStatus, *, asset: Asset, entry: FeedEntry, reader: Reader) -> Why:
    version = RuleVersion.objects.select_related("rule").get(pk=status_of_instance.version_id)
    read = queries.specs_of([status_of_instance.version_id])[status_of_instance.version_id]
    spec = read if isinstance(read, RuleSpec) else None
    path = market.quoted_path({asset.pk: 0}, feed_id=entry.feed_id, up_to_seq=entry.seq).get(asset.pk, [])
    newest = path[-1][0] if path else None
    evaluated_at = status_of_instance.since if status_of_instance.since > -FOREVER else None
    if newest is not None and spec is not None and status_of_instance.unknown != Unknown.NOT_EVALUATED:
        by_clock = spec.is_clocked or (spec.expires_at is not None and not spec.is_event)
        moment = queries.clock_at(entry) if by_clock else newest
        evaluated_at = moment if evaluated_at is None else max(moment, evaluated_at)
    tree = None
    if spec is not None and status_of_instance.evidence is not None:
        is_open = status_of_instance.state in OPEN
        tree = explain.parts_of(spec.condition, status_of_instance.evidence, is_open=is_open, reader=reader)
    moment = evaluated_at if evaluated_at is not None else epoch_microseconds(entry.as_of)
    cooling = explain.cooling_until(spec, status_of_instance, moment=moment) if spec is not None else None
    text = explain.describe_state(spec, status_of_instance, moment=moment, newest_at=newest, tree=tree, reader=reader)
    if cooling is not None:
        text += f"; cooling down until {format_time(cooling, reader=reader)}: the next opening would be silent"
    return Why(
        summary=text,
        state=status_of_instance.state,
        unknown=status_of_instance.unknown,
        since=_time(status_of_instance.since),
        opened_at=_time(status_of_instance.opened_at),
        suppressed=status_of_instance.suppressed,
        cooling_until=_time(cooling),
        evaluated_at=_time(evaluated_at),
        tree=tree,
        evidence=status_of_instance.evidence,
        newest=_seen(path, -1),
        previous=_seen(path, -2),
        version=version,
        entry=entry,
    )


def _time(microseconds: int | None) -> datetime | None:
    return from_epoch_microseconds(microseconds) if microseconds is not None and microseconds > -FOREVER else None


def _seen(path: list[tuple[int, int]], place: int) -> PriceSeen | None:
    if len(path) < -place:
        return None
    at, units = path[place]
    return PriceSeen(from_epoch_microseconds(at), price_of(units))
