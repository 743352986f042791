"""Answers of few quotes that are in step, each stored whole by one statement with those of other feeds: head, entry,
quotes and the newest prices.

Most answers hold quotes of each asset that are newer than its newest, from the same provider, without a jump. The
statement stores those that do, and nothing of the others, which are to be appended quote by quote (`append_quotes`).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction
from psycopg.errors import CheckViolation, UniqueViolation

from apps import spans
from apps.market import partitions
from apps.market.domain import AdmittedQuote
from apps.market.models import FeedEntry, FeedHead

# COPY is faster per quote, but its statements take as long as some hundred quotes.
FEW = 100
# Where one of these is another than the lease saw, somebody has appended, or set the schedule back, meanwhile.
_SEEN = ("fence", "seq", "as_of", "began_at", "last_slot", "next_slot", "relived_until")
# What an append and the end of a fetch change.
_CHANGED = ("seq", "as_of", "began_at", "last_slot", "next_slot", "turn", "failures", "totals")
_ENTRY = [field.column for field in FeedEntry._meta.concrete_fields if not field.primary_key]


def _columns(names: Sequence[str], table: str = "") -> str:
    return ", ".join(f"{table}.{name}" if table else name for name in names)


# The conditions of admission are those of `placing.place`, for a quote that it would simply accept; `before` is the
# price that an asset has before it in the same answer. Heads whose lock somebody holds are left out, so that nobody
# waits for them. What is unconfirmed is few rows, so they are read whole.
_STORE = f"""
    WITH answer AS (
        SELECT * FROM jsonb_to_recordset(%(answers)s::jsonb)
            AS answer (feed_id bigint, provider text, jump_percent integer, interval_seconds integer, quotes bigint)
    ), quote (feed_id, asset_id, at, price, volume, before, is_last) AS (
        VALUES {{rows}}
    ), free AS (
        SELECT head.feed_id
        FROM jsonb_populate_recordset(NULL::market_feedhead, %(before)s::jsonb) before
        JOIN market_feedhead head ON head.feed_id = before.feed_id
        WHERE ({_columns(_SEEN, "head")}) IS NOT DISTINCT FROM ({_columns(_SEEN, "before")})
        ORDER BY head.feed_id FOR NO KEY UPDATE OF head SKIP LOCKED
    ), fit AS (
        SELECT answer.feed_id
        FROM answer JOIN free USING (feed_id) JOIN quote USING (feed_id)
        JOIN market_feed feed ON feed.id = answer.feed_id AND feed.interval_seconds = answer.interval_seconds
        JOIN market_latestquote latest ON latest.asset_id = quote.asset_id
        WHERE latest.at < quote.at AND latest.provider = answer.provider
          AND (answer.jump_percent = 0
            OR abs(quote.price - coalesce(before, latest.price)) * 100
              <= coalesce(before, latest.price) * answer.jump_percent)
          AND answer.feed_id NOT IN (
            SELECT asset.feed_id FROM market_unconfirmedquote unconfirmed
            JOIN market_asset asset ON asset.id = unconfirmed.asset_id WHERE asset.feed_id IS NOT NULL
          )
        GROUP BY answer.feed_id, answer.quotes HAVING count(*) = answer.quotes
    ), entry AS (
        INSERT INTO market_feedentry ({_columns(_ENTRY)})
        SELECT {_columns(_ENTRY, "new")}
        FROM jsonb_populate_recordset(NULL::market_feedentry, %(entries)s::jsonb) new JOIN fit USING (feed_id)
        RETURNING id, feed_id
    ), appended AS (
        UPDATE market_feedhead head
        SET {", ".join(f"{name} = after.{name}" for name in _CHANGED)}, lease_until = NULL, redispatch_at = NULL
        FROM jsonb_populate_recordset(NULL::market_feedhead, %(after)s::jsonb) after JOIN fit USING (feed_id)
        WHERE head.feed_id = fit.feed_id
    ), stored AS (
        INSERT INTO market_quote (asset_id, at, price, volume, entry_id, late)
        SELECT asset_id, at, price, volume, entry.id, false FROM quote JOIN entry USING (feed_id)
    ), moved AS (
        UPDATE market_latestquote latest SET at = quote.at, price = quote.price
        FROM quote JOIN fit USING (feed_id) WHERE latest.asset_id = quote.asset_id AND is_last
    )
    SELECT feed_id, id FROM entry"""  # noqa: S608 (constants)


class InStep(NamedTuple):
    """An answer that seems to be in step. before, after: the head of its log as the lease saw it, and as it is with the
    answer; interval_seconds: the feed's, by which its next slot was worked out."""

    before: FeedHead
    after: FeedHead
    entry: FeedEntry
    quotes: Sequence[AdmittedQuote]
    jump_percent: int
    interval_seconds: int


def store_in_step(answers: Sequence[InStep]) -> dict[int, FeedEntry]:
    """Store answers of different feeds that are in step, and end the leases of their fetches; return feed id -> entry
    of those that are stored. One statement, on PostgreSQL alone, which holds no lock beyond it."""
    try:
        # A savepoint, where the caller has a transaction.
        with (
            spans.step("store quotes", count=sum(len(one.quotes) for one in answers)),
            transaction.atomic() if connection.in_atomic_block else nullcontext(),
            connection.cursor() as cursor,
        ):
            cursor.execute(_STORE.format(rows=_rows(answers)), _facts(answers))
            ids = dict(cursor.fetchall())
    except IntegrityError as error:
        if isinstance(error.__cause__, CheckViolation):
            # As for COPY: the day is made anew at the next attempt.
            partitions.forget()
        if not isinstance(error.__cause__, UniqueViolation):
            raise
        # One of them is stored already, where a constraint says so.
        return {}
    stored = {}
    for one in answers:
        if one.entry.feed_id in ids:
            one.entry.pk = ids[one.entry.feed_id]
            one.entry._state.adding, one.entry._state.db = False, connection.alias
            stored[one.entry.feed_id] = one.entry
    return stored


def _rows(answers: Sequence[InStep]) -> str:
    # By hand, as for COPY: every value is a number or a time of our own. The first row says of which types they are.
    first, *others = (row for one in answers for row in _rows_of(one))
    rows = ["({}::bigint, {}::bigint, {}::timestamptz, {}::numeric, {}::numeric, {}::numeric, {})".format(*first)]
    rows += ["({}, {}, {}, {}, {}, {}, {})".format(*one) for one in others]
    return ", ".join(rows)


def _rows_of(answer: InStep) -> Iterator[tuple[object, ...]]:
    """Give each quote with the price that its asset has before it in the answer, and whether it is its asset's last."""
    feed_id, before = answer.entry.feed_id, {quote.asset_id: "NULL" for quote in answer.quotes}
    last = {quote.asset_id: quote.at for quote in answer.quotes}
    for asset_id, at, price, volume, _ in answer.quotes:
        written = "NULL" if volume is None else volume
        yield feed_id, asset_id, f"'{at}'", price, written, before[asset_id], at == last[asset_id]
        before[asset_id] = price


def _facts(answers: Sequence[InStep]) -> dict[str, str]:
    facts = [
        {
            "feed_id": one.entry.feed_id,
            "provider": one.entry.provider,
            "jump_percent": one.jump_percent,
            "interval_seconds": one.interval_seconds,
            "quotes": len(one.quotes),
        }
        for one in answers
    ]
    return {
        "answers": json.dumps(facts),
        "before": _written((one.before for one in answers), ["feed_id", *_SEEN]),
        "after": _written((one.after for one in answers), ["feed_id", *_CHANGED]),
        "entries": _written((one.entry for one in answers), _ENTRY),
    }


def _written(rows: Iterable[FeedHead | FeedEntry], names: Sequence[str]) -> str:
    """Return these columns of rows as JSON, times as PostgreSQL reads them."""
    found: list[dict[str, Any]] = [{name: getattr(row, name) for name in names} for row in rows]
    return json.dumps(found, default=str)
