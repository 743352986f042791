"""Rows for tests, made by the project's own services: a feed, its assets, and entries of its log."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.utils import timezone

from apps.alerts.models import Alert
from apps.backtests.models import BacktestRun
from apps.health import services as health
from apps.market import partitions
from apps.market import services as market
from apps.market.domain import Admission, AdmittedQuote, RawQuote
from apps.market.models import Asset, Feed, FeedEntry
from apps.market.queries import every_asset, signed_assets
from apps.market.services.log import append_quotes as store_answer
from apps.market.services.log import lock_head
from apps.notify.queries import channels_to_plan, due_channels
from apps.notify.services import create_channel, deliver_next, plan, set_channels
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule
from apps.rules.services import save_rule
from apps.sources import services as sources
from apps.sources.providers.protocol import Answer

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TRACE = "0" * 32


def at(seconds: float) -> datetime:
    """Return the time that many seconds after START."""
    return START + timedelta(seconds=seconds)


def make_owner(name: str = "ada") -> Any:
    """Return a user."""
    return get_user_model().objects.create_user(name, email=f"{name}@example.org", password="a long enough phrase")


def make_member(name: str, group: str = "Owner", *, is_staff: bool = False) -> Any:
    """Return a user who may do what this group may. is_staff: they may enter the admin."""
    member = make_owner(name)
    if is_staff:
        member.is_staff = True
        member.save()
    member.groups.add(Group.objects.get(name=group))
    return member


def make_feed(
    *symbols: str, name: str = "feed", interval_seconds: int = 1, provider: str = "simulated", **columns: Any
) -> Feed:
    """Return a feed with these assets, due at START. columns: further ones of the feed."""
    feed = sources.create_feed(
        name=name, interval_seconds=interval_seconds, sources=[(provider, {})], now=START, **columns
    )
    for symbol in symbols:
        Asset.objects.create(symbol=symbol, feed=feed)
    return feed


def make_owned(owner: Any, *symbols: str) -> Feed:
    """Return a feed of this owner with these assets."""
    name = f"owned-{secrets.token_hex(4)}"
    feed = market.create_bare_feed(owner_id=owner.pk, name=name, interval_seconds=1, is_enabled=False)
    for symbol in symbols:
        market.create_asset(owner_id=owner.pk, symbol=symbol, feed=feed)
    return feed


def append_owned(feed: Feed, quotes: Sequence[tuple[str, datetime, str]]) -> FeedEntry:
    """Append (symbol, at, price) to the log of a feed that has an owner, without a slot, and return its entry."""
    ids = dict(every_asset().filter(feed=feed).values_list("symbol", "pk"))
    admitted = Admission([AdmittedQuote(ids[symbol], moment, Decimal(price)) for symbol, moment, price in quotes])
    partitions.ensure({moment.date() for _, moment, _ in quotes})
    with transaction.atomic():
        head = lock_head(feed.pk)
        as_of = max(moment for _, moment, _ in quotes)
        entry, _ = store_answer(
            head, admitted, as_of=as_of, provider="owned", jump_percent=0, now=as_of, trace_id=TRACE
        )
        head.save(update_fields=[*head.APPENDED, "as_of"])
    return entry


def asset_ids(feed: Feed) -> dict[str, int]:
    """Return symbol -> id of the feed's assets."""
    return dict(feed.assets.values_list("symbol", "pk"))


def append_quotes(
    feed: Feed,
    quotes: Sequence[tuple[str, datetime, str]],
    *,
    as_of: datetime | None = None,
    history: Sequence[tuple[str, datetime, str]] = (),
    provider: str = "simulated",
) -> FeedEntry:
    """Append one answer with (symbol, at, price) to the feed's log, in the slot that is due, and return its entry."""
    head = feed.head.__class__.objects.get(feed=feed)
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=head.next_slot)
    assert lease is not None
    as_of = as_of or max([moment for _, moment, _ in quotes], default=head.as_of or START)
    answer = Answer(
        quotes=[RawQuote(symbol, price, moment) for symbol, moment, price in quotes],
        history=[RawQuote(symbol, price, moment) for symbol, moment, price in history],
        as_of=as_of,
    )
    names = {"asset_ids": asset_ids(feed), "signed": signed_assets(feed.pk)}
    part = sources.admit_answer(lease=lease, provider=provider, answer=answer, **names)
    (entry,) = sources.record_answers(lease=lease, parts=[part], now=as_of, trace_id=TRACE)
    return entry


def make_rule(owner: Any, *, name: str = "rule", rule: Rule | None = None, **document: Any) -> Rule:
    """Return a saved rule; `document` is its written form, with `pending` for the keyword `for`."""
    if "pending" in document:
        document["for"] = document.pop("pending")
    return save_rule(owner=owner, name=name, document=document, rule=rule, now=START, trace_id=TRACE)


def above(level: Any, **more: Any) -> Mapping[str, Any]:
    """Return the condition `above level`."""
    return {"kind": "above", "level": str(level), **more}


def make_backtest(owner: Any, rule: Rule) -> BacktestRun:
    """Return a backtest of the rule that is done, as its row alone."""
    times = {"since": at(0), "until": at(60), "requested_at": at(0)}
    return BacktestRun.objects.create(
        owner=owner, rule=rule, status="done", document={}, result={"of": rule.name}, **times
    )


def make_notified_alerts(owner: Any, count: int, *, name: str = "notified") -> list[Alert]:
    """Return open alerts, each of a rule and on an asset of its own, with a message in the owner's inbox."""
    symbols = [f"{name}-{number}".upper() for number in range(count)]
    feed = make_feed(*symbols, name=name)
    channel = create_channel(owner=owner, name=f"Inbox of {name}", kind="inbox", config={})
    for symbol in symbols:
        rule = make_rule(owner, name=f"rule of {symbol}", assets=[symbol], condition=above(10))
        set_channels(rule=rule, channels=[channel])
    append_quotes(feed, [(symbol, at(0), "9") for symbol in symbols])
    # One after the other, so that each has a message of its own.
    for symbol in symbols:
        append_quotes(feed, [(symbol, at(1), "11")])
        evaluate_pending(feed_id=feed.pk)
        notify_all()
    return list(Alert.objects.filter(asset__feed=feed).order_by("asset__symbol"))


def notify_all() -> None:
    """Plan what is due on each channel, and send it."""
    now = timezone.now()
    for channel_id in channels_to_plan(now=now):
        plan(channel_id=channel_id, now=now)
    for channel_id, _ in due_channels(behind=timedelta(0), now=now):
        while deliver_next(channel_id=channel_id, now=now) is not None:
            pass


def make_operator(name: str = "grace", *permissions: str) -> Any:
    """Return a user who may enter the admin, with these permissions, like "market.view_feed", and no others."""
    operator = make_owner(name)
    operator.is_staff = True
    operator.save()
    for permission in permissions:
        app, _, codename = permission.partition(".")
        operator.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return operator


def check_all(*, now: datetime | None = None, readers: Mapping[str, int] | None = None) -> None:
    """Let a tick and a check have run just now, and the next day have been made, as beat does while the system
    works."""
    now = now or timezone.now()
    partitions.ensure([(now + timedelta(days=1)).date()])
    health.note_tick(now=now)
    health.check(readers=readers, now=now)
