"""Run by `manage.py shell` on the database of a running demo: `inject` stops things there, `mend` ends that again."""

from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from apps.market.models import Asset, Feed, FeedHead
from apps.market.services import pause_feeds, resume_feeds
from apps.notify.models import Channel
from apps.notify.services import create_channel, set_channels, switch_on
from apps.rules.models import Rule
from apps.rules.services import delete_rule, save_rule
from apps.sources import services as sources
from apps.sources.models import FeedSource
from apps.tracing import new_trace_id


def make_rule(name, assets):
    document = {"assets": assets, "condition": {"kind": "above", "level": "1000000"}}
    owner = User.objects.get(username="admin")
    return save_rule(owner=owner, name=name, document=document, now=timezone.now(), trace_id=new_trace_id())


def inject():
    admin = User.objects.get(username="admin")
    inbox = Channel.objects.get(name="Inbox")
    Channel.objects.filter(pk=inbox.pk).update(wants_system=True, group_wait_seconds=0)
    for name, provider in (("keyless", "coincap"), ("sourceless", "simulated"), ("empty", "simulated")):
        feed = sources.create_feed(name=name, interval_seconds=2, sources=[(provider, {})], now=timezone.now())
        if name != "empty":
            Asset.objects.create(symbol=f"{name}-USD".upper(), feed=feed)
            set_channels(rule=make_rule(f"on {name}", [f"{name}-USD".upper()]), channels=[inbox])
    FeedSource.objects.filter(feed__name="sourceless").delete()
    Feed.objects.filter(name__in=["keyless", "sourceless", "empty"]).update(
        created_at=timezone.now() - timedelta(minutes=5)
    )
    create_channel(owner=admin, name="off", kind="inbox", config={}, is_enabled=False)
    create_channel(owner=admin, name="mail", kind="email", config={"to": "admin@example.org"})
    make_rule("nobody", ["MOON-USD"])
    set_channels(rule=make_rule("nothing", {"tag": "none"}), channels=[inbox])
    pause_feeds([Feed.objects.get(name="simulated-market").pk])


def mend():
    market = Feed.objects.get(name="simulated-market")
    resume_feeds([market.pk])
    options = market.sources.get().options
    FeedSource.objects.filter(feed__name="keyless").update(provider="simulated", options=options)
    FeedSource.objects.create(
        feed=Feed.objects.get(name="sourceless"), provider="simulated", options=options, position=1
    )
    Asset.objects.create(symbol="EMPTY-USD", feed=Feed.objects.get(name="empty"))
    FeedHead.objects.filter(feed__name__in=["keyless", "sourceless", "empty"]).update(next_slot=timezone.now())
    switch_on(channel=Channel.objects.get(name="off"))
    Channel.objects.get(name="mail").delete()
    set_channels(rule=Rule.objects.get(name="nobody"), channels=[Channel.objects.get(name="off")])
    delete_rule(rule=Rule.objects.get(name="nothing"), now=timezone.now(), trace_id=new_trace_id())
