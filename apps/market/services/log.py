"""Entries appended to a feed's log, under its head's lock, with the quotes, the newest prices and the cache that follow
from them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from psycopg.errors import CheckViolation, UniqueViolation

from apps import spans
from apps.market import cache, domain, partitions, placing, queries
from apps.market.domain import AdmittedQuote
from apps.market.models import FeedEntry, FeedHead, LatestQuote, ProviderSwitch, Quote, UnconfirmedQuote
from apps.market.services.in_step import FEW
from apps.market.services.switching import asset_ids_by_provider_before, switches_of
from apps.totals import Totals, added, named

logger = logging.getLogger(__name__)

_NULL = r"\N"  # as COPY's text format writes it
_ROWS_AT_ONCE = 500
_OF_ENTRY = "FROM market_quote WHERE entry_id = %(entry)s AND NOT late AND at BETWEEN %(first)s AND %(last)s"
# SQLite takes the other columns from the row that has the maximum.
_NEWEST_OF_ENTRY = {
    "postgresql": f"SELECT DISTINCT ON (asset_id) asset_id, at, price {_OF_ENTRY} ORDER BY asset_id, at DESC",
    "sqlite": f"SELECT asset_id, max(at) AS at, price {_OF_ENTRY} GROUP BY asset_id",
}
_UPSERT = {
    vendor: f"""
    INSERT INTO market_latestquote (asset_id, at, price, provider)
    SELECT asset_id, at, price, %(provider)s FROM ({newest}) newest WHERE true
    ON CONFLICT (asset_id) DO UPDATE SET at = excluded.at, price = excluded.price, provider = excluded.provider
    WHERE market_latestquote.at < excluded.at"""  # noqa: S608 (constants)
    for vendor, newest in _NEWEST_OF_ENTRY.items()
}
# What is unconfirmed is few rows, so the plan is tied down: from them to assets.
_MOVES = """
    WHERE latest.asset_id = quote.asset_id AND latest.at < quote.at AND latest.provider = %(provider)s
      AND (%(percent)s = 0 OR abs(quote.price - latest.price) * 100 <= latest.price * %(percent)s)
      AND NOT EXISTS (
        SELECT FROM market_unconfirmedquote unconfirmed
        WHERE (SELECT feed_id FROM market_asset WHERE id = unconfirmed.asset_id) = %(feed)s
      )"""
# A new entry is in no statistics, so OFFSET 0 ties the plan down: from its quotes to the newest.
_IN_STEP = f"""
    UPDATE market_latestquote latest SET at = quote.at, price = quote.price
    FROM (SELECT asset_id, at, price {_OF_ENTRY} OFFSET 0) quote {_MOVES}"""  # noqa: S608 (constants)
_WRITTEN = [field for field in FeedEntry._meta.concrete_fields if not field.primary_key]
_FEW_IN_STEP = f"""
    WITH entry AS (
        INSERT INTO market_feedentry ({", ".join(field.column for field in _WRITTEN)})
        VALUES ({", ".join(f"%({field.attname})s" for field in _WRITTEN)}) RETURNING id
    ), quote (asset_id, at, price, volume) AS (
        VALUES {{rows}}
    ), stored AS (
        INSERT INTO market_quote (asset_id, at, price, volume, entry_id, late)
        SELECT asset_id, at, price, volume, entry.id, false FROM quote, entry
    ), moved AS (
        UPDATE market_latestquote latest SET at = quote.at, price = quote.price FROM quote {_MOVES} RETURNING 1
    )
    SELECT entry.id, (SELECT count(*) FROM moved) FROM entry"""  # noqa: S608 (constants)
_LOCK_HEAD = f"""
    SELECT {", ".join(field.column for field in FeedHead._meta.concrete_fields)}
    FROM market_feedhead WHERE feed_id = %s"""  # noqa: S608 (constants)
_FOR_UPDATE = {"postgresql": " FOR NO KEY UPDATE", "sqlite": ""}


class NotInStep(Exception):
    """Quotes that were tried in step are not; the transaction is to be rolled back and done again without a trial."""


class Trial(Enum):
    """Whether quotes are tried in step. TRANSACTION: where they are not, NotInStep is raised, which spares a
    savepoint."""

    NONE = "none"
    SAVEPOINT = "savepoint"
    TRANSACTION = "transaction"


def append_rules_entry(*, feed_id: int, now: datetime, trace_id: str) -> FeedEntry:
    """Append the place at which a change of rules takes effect, in the caller's transaction, and return it.

    It does not move the log's clock, which for a recording is the recording's time.
    """
    head = lock_head(feed_id)
    entry = append_entry(head, kind=FeedEntry.Kind.RULES, now=now, trace_id=trace_id)
    head.save(update_fields=FeedHead.APPENDED)
    return entry


def lock_head(feed_id: int) -> FeedHead:
    """Return the head of a feed's log, locked until the caller's transaction ends."""
    # By hand, since each fetch needs it, and Django would take longer to build it than PostgreSQL to run it.
    head = next(iter(FeedHead.objects.raw(_LOCK_HEAD + _FOR_UPDATE[connection.vendor], [feed_id])), None)
    if head is None:
        raise FeedHead.DoesNotExist(f"feed {feed_id} has no head")
    return head


def move_clock(head: FeedHead, *, as_of: datetime) -> None:
    """Move the log's clock on; it does not go back, whatever a provider or this machine says."""
    head.as_of = max(as_of, head.as_of) if head.as_of else as_of


def append_entry(head: FeedHead, *, kind: str, now: datetime, **columns: Any) -> FeedEntry:
    """Number and store one entry; the caller holds the head's lock and saves it."""
    entry = next_entry(head, kind=kind, now=now, **columns)
    entry.save(force_insert=True)
    return entry


def next_entry(head: FeedHead, *, kind: str, now: datetime, **columns: Any) -> FeedEntry:
    """Return the next entry of a log, not stored yet, counted in its head."""
    head.seq += 1
    as_of = head.as_of or now
    entry = FeedEntry(feed_id=head.feed_id, seq=head.seq, kind=kind, as_of=as_of, received_at=now, **columns)
    head.totals = added(head.totals, _totals_of(entry))
    return entry


def _totals_of(entry: FeedEntry) -> Totals:
    """Return what an entry adds to its feed's totals: quotes by what became of them, and apart from these the quotes
    of the past that history and corrections bring."""
    is_now = entry.kind == FeedEntry.Kind.QUOTES
    counts = {"late": entry.late, "repeated": entry.repeated, "unconfirmed": entry.unconfirmed}
    return added(
        {f"entries:{entry.kind}": 1, "missed_slots": entry.missed_slots},
        named("quotes", {"accepted": entry.accepted, **counts}) if is_now else {f"past:{entry.kind}": entry.accepted},
        named("rejected", entry.rejected) if is_now else {},
        {f"failed:{entry.failure}": 1} if entry.failure else {},
    )


def append_quotes(
    head: FeedHead,
    admitted: domain.Admission,
    *,
    as_of: datetime,
    provider: str,
    jump_percent: int,
    trial: Trial = Trial.SAVEPOINT,
    **columns: Any,
) -> tuple[FeedEntry, list[AdmittedQuote]]:
    """Move the clock on, append one answer's quotes, and return the entry with those that are new and not late, their
    prices as they count now. trial: TRANSACTION only where the caller catches NotInStep."""
    clock = head.as_of
    move_clock(head, as_of=as_of)
    # Of several quotes of an asset, its statements would see the last one alone.
    is_single = len({quote.asset_id for quote in admitted.quotes}) == len(admitted.quotes)
    if trial is not Trial.NONE and is_single and seems_in_step(admitted.quotes, clock=clock):
        facts = {"provider": provider, "jump_percent": jump_percent, **columns}
        entry = _append_in_step(head, admitted, trial=trial, **facts)
        if entry is not None:
            return entry, admitted.quotes
    newest = queries.newest_quotes(head.feed_id)
    splits = queries.splits_of(feed_id=head.feed_id)
    placement = placing.place(
        admitted.quotes,
        newest=newest,
        unconfirmed=queries.unconfirmed_quotes(head.feed_id),
        provider=provider,
        jump_percent=jump_percent,
        stored_prices=queries.stored_prices,
        replaced_prices=queries.replaced_prices,
        oldest_at=as_of - retention(),
        signed=queries.signed_assets(head.feed_id),
        price_now=lambda quote: splits.price(quote.asset_id, quote.at, quote.price),
    )
    fresh = [one._replace(price=splits.price(one.asset_id, one.at, one.price)) for one in placement.fresh]
    switches = switches_of(fresh, newest=newest, provider=provider, feed_id=head.feed_id)
    switched = asset_ids_by_provider_before(switches)
    entry = append_entry(
        head,
        kind=FeedEntry.Kind.QUOTES,
        provider=provider,
        accepted=len(placement.fresh),
        late=len(placement.late),
        repeated=admitted.repeated + placement.repeated,
        unconfirmed=placement.newly_unconfirmed,
        rejected=dict(admitted.rejected + placement.rejected),
        first_at=min((quotes[0].at for quotes in (placement.fresh, placement.late) if quotes), default=None),
        last_at=max((quotes[-1].at for quotes in (placement.fresh, placement.late) if quotes), default=None),
        switched=switched or None,
        **columns,
    )
    store_quotes(entry=entry, quotes=placement.fresh)
    store_quotes(entry=entry, quotes=placement.late, late=True)
    for one in switches:
        one.entry = entry
    ProviderSwitch.objects.bulk_create(switches, batch_size=2_000)
    _advance_latest(entry)
    _multiply_newest(entry)
    _keep_unconfirmed(placement.unconfirmed)
    for before, asset_ids in switched.items():
        facts = {"feed": head.feed_id, "before": before, "provider": provider, "assets": len(asset_ids)}
        logger.warning("provider switched", extra=facts)
    return entry, fresh


def seems_in_step(quotes: Sequence[AdmittedQuote], *, clock: datetime | None) -> bool:
    """Tell whether an answer may be in step: of each asset quotes of different times, later than the clock was."""
    if connection.vendor != "postgresql" or not quotes or clock is None or quotes[0].at <= clock:
        return False
    return len({(quote.asset_id, quote.at) for quote in quotes}) == len(quotes)


def _append_in_step(
    head: FeedHead, admitted: domain.Admission, *, jump_percent: int, trial: Trial, **columns: Any
) -> FeedEntry | None:
    """Append one answer's quotes by the fast path; else write nothing and return None, or raise NotInStep where the
    transaction is the trial.

    The fast path is right where every asset has one quote, newer than its newest and from the same provider, none
    jumped, and no asset of the feed has an unconfirmed one. The row count of the UPDATE tells: it must equal the number
    of quotes. So thousands of rows need not be read and compared here, which takes as long as COPY.
    """
    quotes = admitted.quotes
    before = head.seq, head.totals
    try:
        with transaction.atomic() if trial is Trial.SAVEPOINT else nullcontext():
            entry = next_entry(
                head,
                kind=FeedEntry.Kind.QUOTES,
                accepted=len(quotes),
                repeated=admitted.repeated,
                rejected=dict(admitted.rejected),
                first_at=quotes[0].at,
                last_at=quotes[-1].at,
                **columns,
            )
            if len(quotes) <= FEW:
                moved = _store_few_in_step(entry, quotes, jump_percent=jump_percent)
            else:
                entry.save(force_insert=True)
                store_quotes(entry=entry, quotes=quotes)
                moved = _advance_latest(entry, in_step_within=jump_percent)
            if moved == len(quotes):
                return entry
            raise NotInStep
    except (NotInStep, UniqueViolation, IntegrityError) as error:
        # One of them is stored already, where a constraint says so.
        if isinstance(error, IntegrityError) and not isinstance(error.__cause__, UniqueViolation):
            raise
        if trial is Trial.TRANSACTION:
            raise NotInStep from error
    head.seq, head.totals = before
    return None


def _store_few_in_step(entry: FeedEntry, quotes: Sequence[AdmittedQuote], *, jump_percent: int) -> int:
    """Store an entry and its quotes, move the newest ones on as `_IN_STEP` does, and return how many moved."""
    # By hand, as for COPY: every value is a number or a time of our own. The first row says of which types they are.
    first, *others = (
        (asset_id, f"'{at}'", price, "NULL" if volume is None else volume) for asset_id, at, price, volume, _ in quotes
    )
    rows = ["({}::bigint, {}::timestamptz, {}::numeric, {}::numeric)".format(*first)]
    rows += ["({}, {}, {}, {})".format(*one) for one in others]
    facts = {field.attname: field.get_db_prep_save(getattr(entry, field.attname), connection) for field in _WRITTEN}
    facts |= {"percent": jump_percent, "feed": entry.feed_id}
    try:
        with spans.step("store quotes", count=len(quotes)), connection.cursor() as cursor:
            cursor.execute(_FEW_IN_STEP.format(rows=", ".join(rows)), facts)
            entry.pk, moved = cursor.fetchone()
    except IntegrityError as error:
        if isinstance(error.__cause__, CheckViolation):
            # As for COPY: the day is made anew at the next attempt.
            partitions.forget()
        raise
    entry._state.adding, entry._state.db = False, connection.alias
    return moved


def _keep_unconfirmed(unconfirmed: Mapping[int, domain.Unconfirmed | None]) -> None:
    """Make the rows agree with what waits now."""
    if not unconfirmed:
        return
    UnconfirmedQuote.objects.filter(
        asset__in=[asset_id for asset_id, one in unconfirmed.items() if one is None]
    ).delete()
    UnconfirmedQuote.objects.bulk_create(
        [
            UnconfirmedQuote(
                asset_id=asset_id,
                at=one.quote.at,
                price=one.quote.price,
                volume=one.quote.volume,
                provider=one.provider,
                times=one.times,
            )
            for asset_id, one in unconfirmed.items()
            if one is not None
        ],
        update_conflicts=True,
        unique_fields=["asset"],
        update_fields=["at", "price", "volume", "provider", "times"],
        batch_size=2_000,
    )


def still_here(head: FeedHead, admitted: domain.Admission) -> domain.Admission:
    """Return only the quotes whose asset is still in this feed, under its head's lock: an asset may have moved since
    they were admitted."""
    here = set(queries.every_asset().filter(feed=head.feed_id).values_list("pk", flat=True))
    quotes = [quote for quote in admitted.quotes if quote.asset_id in here]
    rejected = admitted.rejected + Counter(unknown_asset=len(admitted.quotes) - len(quotes))
    return domain.Admission(quotes, admitted.repeated, rejected)


def not_stored(past: domain.Admission) -> domain.Admission:
    """Return the quotes of a piece of history that are not stored yet, equal times set apart."""
    left = placing.spread(past.quotes, stored=queries.stored_prices(past.quotes), newest=None)
    left.repeated += past.repeated
    left.rejected += past.rejected
    return left


def append_history(head: FeedHead, past: domain.Admission, **columns: Any) -> FeedEntry:
    """Append a piece of history that is not stored yet, and return its entry: quotes that windows see and nobody
    evaluates. A price that jumps is taken as it is: nothing opens by it."""
    entry = append_entry(
        head,
        kind=FeedEntry.Kind.HISTORY,
        accepted=len(past.quotes),
        repeated=past.repeated,
        rejected=dict(past.rejected),
        first_at=past.quotes[0].at if past.quotes else None,
        last_at=past.quotes[-1].at if past.quotes else None,
        **columns,
    )
    store_quotes(entry=entry, quotes=past.quotes)
    _advance_latest(entry)
    _multiply_newest(entry)
    return entry


def store_quotes(*, entry: FeedEntry, quotes: Sequence[AdmittedQuote], late: bool = False) -> None:
    """Write quotes that are not stored yet: by COPY on PostgreSQL, in bulk elsewhere. Their partitions are there."""
    if quotes:
        with spans.step("store quotes", count=len(quotes)):
            _store(entry, quotes, late=late)


def _store(entry: FeedEntry, quotes: Sequence[AdmittedQuote], *, late: bool) -> None:
    if connection.vendor != "postgresql":
        rows = (
            Quote(asset_id=one.asset_id, at=one.at, price=one.price, volume=one.volume, entry=entry, late=late)
            for one in quotes
        )
        Quote.objects.bulk_create(rows, batch_size=500)
        return
    columns = "asset_id, at, price, volume, entry_id, late"
    end = f"{entry.pk}\t{'t' if late else 'f'}\n"
    # Text rows by hand: every value is a number or a time of our own, so nothing needs escaping. Most times are equal.
    written = {at: str(at) for at in {one.at for one in quotes}}
    rows = (
        f"{asset_id}\t{written[at]}\t{price}\t{_NULL if volume is None else volume}\t{end}"
        for asset_id, at, price, volume, _ in quotes
    )
    try:
        with connection.cursor() as cursor, cursor.copy(f"COPY market_quote ({columns}) FROM STDIN") as copy:
            # In pieces, so that PostgreSQL stores one while the next is written.
            while piece := "".join(islice(rows, _ROWS_AT_ONCE)):
                copy.write(piece)
    except CheckViolation:
        # Another process has dropped a day that this one knows to be there; the feed's next attempt makes it anew.
        partitions.forget()
        raise


def _advance_latest(entry: FeedEntry, *, in_step_within: int | None = None) -> int:
    """Move the newest quote of each asset on to what is newer in this entry, without a row leaving the database, and
    return how many moved.

    in_step_within: only quotes that `placing.place` would simply accept: from the same provider, without a jump of so
    many percent, with nothing unconfirmed in the feed. On PostgreSQL, whose numbers are exact.
    """
    statement = _IN_STEP if in_step_within is not None else _UPSERT[connection.vendor]
    facts = {"entry": entry.pk, "feed": entry.feed_id, "provider": entry.provider, "percent": in_step_within}
    # SQLite's driver would write an aware time in another form than Django does, and compare the two as text.
    for name, bound in (("first", entry.first_at), ("last", entry.last_at)):
        facts[name] = connection.ops.adapt_datetimefield_value(bound)
    with connection.cursor() as cursor:
        cursor.execute(statement, facts)
        return cursor.rowcount


def _multiply_newest(entry: FeedEntry) -> None:
    """Let the newest prices that an entry has just stored count as they do after later splits that are known: seldom,
    since quotes are from after them."""
    if entry.first_at is None:
        return
    splits = queries.splits_of(feed_id=entry.feed_id, after=entry.first_at)
    if not splits:
        return
    stored = Quote.objects.filter(entry=entry, late=False, at__gte=entry.first_at, at__lte=entry.last_at)
    for asset_id, at, price in stored.filter(asset__latest__at=F("at")).values_list("asset_id", "at", "price"):
        LatestQuote.objects.filter(asset=asset_id).update(price=splits.price(asset_id, at, price))


def cache_latest(
    *,
    feed_ids: Sequence[int],
    newest: Mapping[int, tuple[datetime, Decimal]],
    interval_seconds: int,
    now: datetime,
    again: bool = False,
) -> None:
    """Put asset id -> (at, price) of these feeds into the cache, with `again` also over a price of the same time; where
    that fails, leave word for `sweep`."""
    rows = ((asset_id, at, price) for asset_id, (at, price) in newest.items())
    with spans.step("cache prices", count=len(newest)):
        is_cached = cache.put_latest(rows, seconds_to_live=2 * interval_seconds, now=now, again=again)
    if not is_cached:
        FeedHead.objects.filter(pk__in=feed_ids).update(is_cache_stale=True)


def redo_cache_writes(*, now: datetime) -> int:
    """Write again what could not be written to the cache, and return how many feeds that were."""
    heads = list(FeedHead.objects.filter(is_cache_stale=True).select_related("feed"))
    for head in heads:
        # Before the rows are read: what fails from now on leaves word again. A later answer's success does not clear
        # it, for that answer may hold other assets.
        FeedHead.objects.filter(pk=head.pk).update(is_cache_stale=False)
        asset_ids = list(queries.every_asset().filter(feed=head.pk).values_list("pk", flat=True))
        # A correction may have set a newest price back, which is not written over a newer one.
        cache.forget_latest(asset_ids)
        newest = queries.newest_stored(asset_ids)
        facts = {"interval_seconds": head.feed.interval_seconds, "now": now}
        cache_latest(feed_ids=[head.pk], newest=newest, again=True, **facts)
    return len(heads)


def retention() -> timedelta:
    """Return for how long raw quotes are kept."""
    return timedelta(days=settings.QUOTE_RETENTION_DAYS)
