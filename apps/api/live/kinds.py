"""The two kinds of streams, and how each reads on from a place: no row ever appears before a place already read."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

from apps.alerts import queries as alerts
from apps.alerts.models import AlertEvent
from apps.api.errors import Refused
from apps.api.graphql.connections import cursor_of, place_of
from apps.api.graphql.context import Context
from apps.api.graphql.errors import Unauthenticated
from apps.api.graphql.types.alerts import AlertChange, alerts_by_id
from apps.api.graphql.types.market import QuoteUpdate
from apps.market.queries import assets_known_as, following
from apps.owned_ids import is_owned

ASSETS_LARGEST = 100
OLDEST = timedelta(hours=1)
MISSED_LARGEST = 10_000


class Update(NamedTuple):
    """Something new for one viewer. place: where it stands, (feed id, number) or (transaction, event id); subject: what
    it is about; root: what the field of the subscription gives."""

    cursor: str
    place: tuple[int, int]
    subject: int
    root: Any


class Kind(Protocol):
    """One field of the schema's subscription. A place is what its cursors name: JSON."""

    name: str

    def end(self) -> Any:
        """Return the place behind all that is committed, in front of which nothing will come."""

    def wanted(self, arguments: Mapping[str, Any], context: Context) -> frozenset[int]:
        """Return the ids that are followed; none where all are. Raises Refused, Unauthenticated."""

    def place(self, cursor: str, *, end: Any, context: Context) -> Any:
        """Return the place that a cursor names. Raises Refused where it is none, or not of this log."""

    def is_behind(self, place: tuple[int, int], after: Any) -> bool:
        """Tell whether what stands at a place comes behind another."""

    def missed(
        self, after: Any, up_to: Any, *, wanted: Collection[int], context: Context, before: datetime
    ) -> tuple[bool, int]:
        """Return whether something between two places is older than a time, and how much there is, up to the limit."""

    def between(
        self, after: Any, up_to: Any, *, wanted: Collection[int], now: datetime, limit: int
    ) -> tuple[Sequence[Any], Any]:
        """Return what stands behind one place and not behind another, and the place that was reached."""

    def subjects(self, rows: Sequence[Any]) -> frozenset[int] | None:
        """Return which of the ids that are followed rows are about; None where no ids are followed."""

    def updates(
        self, rows: Sequence[Any], *, after: Any, reached: Any, wanted: Collection[int], context: Context
    ) -> Iterator[Update]:
        """Yield what is for this viewer of what was read between two places."""


def refuse_too_old() -> Refused:
    """Return the refusal of a cursor behind which too much was missed."""
    return Refused("CURSOR_TOO_OLD", "The cursor is too old. Read what is there by a query, and follow without it.")


class Quotes:
    """Quotes. A place is feed id -> number of the last entry."""

    name = "quoteUpdated"

    def end(self) -> dict[int, int]:
        return following.ends_of_logs()

    def wanted(self, arguments: Mapping[str, Any], context: Context) -> frozenset[int]:
        context.in_market()
        names = arguments["assets"]
        if not 1 <= len(names) <= ASSETS_LARGEST:
            raise Refused("BAD_USER_INPUT", f"assets must be 1 to {ASSETS_LARGEST} names.")
        user: Any = context.user
        known = assets_known_as(names, reader=user)
        # Superusers see those of all owners; each is followed by its owner alone.
        found = {name: asset for name, asset in known.items() if asset.owner_id in (None, user.pk)}
        unknown = next((name for name in names if name not in found), None)
        if unknown is not None:
            raise Refused("BAD_USER_INPUT", f"No asset is called {unknown[:64]}.")
        return frozenset(asset.pk for asset in found.values())

    def place(self, cursor: str, *, end: Any, context: Context) -> dict[int, int]:
        written = place_of(cursor, name=self.name, context=context)
        if not isinstance(written, dict):
            raise Refused("BAD_USER_INPUT", "after is not a cursor of quoteUpdated.")
        place = {int(feed_id): seq for feed_id, seq in written.items()}
        # A feed of an owner that it does not name was not followed: from now on.
        place |= {feed_id: seq for feed_id, seq in end.items() if is_owned(feed_id) and feed_id not in place}
        if any(place[feed_id] > end[feed_id] for feed_id in place.keys() & end.keys()):
            raise refuse_too_old()
        return place

    def is_behind(self, place: tuple[int, int], after: Any) -> bool:
        feed_id, seq = place
        return seq > after.get(feed_id, 0)

    def missed(
        self, after: Any, up_to: Any, *, wanted: Collection[int], context: Context, before: datetime
    ) -> tuple[bool, int]:
        return following.missed_quotes(after, up_to, asset_ids=list(wanted), before=before, limit=MISSED_LARGEST + 1)

    def between(
        self, after: Any, up_to: Any, *, wanted: Collection[int], now: datetime, limit: int
    ) -> tuple[list[following.FollowedQuote], dict[int, int]]:
        return following.quotes_followed(after, up_to, asset_ids=wanted, limit=limit)

    def subjects(self, rows: Sequence[following.FollowedQuote]) -> frozenset[int] | None:
        return frozenset(row.asset.pk for row in rows)

    def updates(
        self,
        rows: Sequence[following.FollowedQuote],
        *,
        after: Any,
        reached: Any,
        wanted: Collection[int],
        context: Context,
    ) -> Iterator[Update]:
        mine = [row for row in rows if row.asset.pk in wanted]
        if not mine:
            return
        # Cursors name the installation's feeds, and of those of owners what is followed.
        named = following.feeds_read_for({*after, *reached}, asset_ids=wanted)
        place = {feed_id: seq for feed_id, seq in after.items() if feed_id in named}
        for row, following_row in zip_longest(mine, mine[1:]):
            is_last_of_entry = following_row is None or following_row[:2] != row[:2]
            # Of an entry with several, only the last one leaves it behind: whoever goes on from another gets it again.
            place[row.feed_id] = row.seq if is_last_of_entry else row.seq - 1
            cursor = cursor_of(place, name=self.name, context=context)
            root = QuoteUpdate(cursor=cursor, asset=row.asset, at=row.at, price=row.price, volume=row.volume)
            yield Update(cursor, row[:2], row.asset.pk, root)
            if following_row is None or following_row.feed_id != row.feed_id:
                place[row.feed_id] = reached[row.feed_id]


class AlertEvents:
    """Steps of alerts. A place is the number of a transaction and the id of an event."""

    name = "alertChanged"

    def end(self) -> alerts.Place:
        return alerts.end_of_events()

    def wanted(self, arguments: Mapping[str, Any], context: Context) -> frozenset[int]:
        context.owner()
        return frozenset()

    def place(self, cursor: str, *, end: Any, context: Context) -> alerts.Place:
        written = place_of(cursor, name=self.name, context=context)
        if not isinstance(written, list):
            raise Refused("BAD_USER_INPUT", "after is not a cursor of alertChanged.")
        number, event_id = written
        if (number, event_id) > end:
            raise refuse_too_old()
        return number, event_id

    def is_behind(self, place: tuple[int, int], after: Any) -> bool:
        return place > after

    def missed(
        self, after: Any, up_to: Any, *, wanted: Collection[int], context: Context, before: datetime
    ) -> tuple[bool, int]:
        return alerts.missed_events(context.user, after, up_to, before=before, limit=MISSED_LARGEST + 1)

    def between(
        self, after: Any, up_to: Any, *, wanted: Collection[int], now: datetime, limit: int
    ) -> tuple[list[AlertEvent], alerts.Place]:
        events = alerts.events_between(after, up_to, since=now - 2 * OLDEST, limit=limit)
        return events, up_to if len(events) < limit else (events[-1].transaction, events[-1].pk)

    def subjects(self, rows: Sequence[AlertEvent]) -> frozenset[int] | None:
        return None if rows else frozenset()

    def updates(
        self, rows: Sequence[AlertEvent], *, after: Any, reached: Any, wanted: Collection[int], context: Context
    ) -> Iterator[Update]:
        user: Any = context.user
        # Most are nobody else's: whether this viewer may see them, the rows say.
        near = [one for one in rows if user.is_superuser or one.alert.owner_id in (user.pk, None)]
        seen = alerts_by_id(context, [one.alert_id for one in near]) if near else {}
        for event in near:
            if event.alert_id in seen:
                cursor = cursor_of((event.transaction, event.pk), name=self.name, context=context)
                root = AlertChange(cursor=cursor, event=event, alert=seen[event.alert_id])
                yield Update(cursor, (event.transaction, event.pk), event.pk, root)


KINDS: dict[str, Kind] = {one.name: one for one in (Quotes(), AlertEvents())}


def wanted_by(kind: Kind, arguments: Mapping[str, Any], context: Context) -> frozenset[int]:
    """Return what is followed. Raises Refused: 401 where a stranger may not."""
    try:
        return kind.wanted(arguments, context)
    except Unauthenticated as error:
        headers = {"WWW-Authenticate": "Bearer"}
        raise Refused(error.code, error.message, status=401, headers=headers) from None
