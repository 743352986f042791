"""Many ways to stop, all injected at once into the running system: who sees them, who is notified, and that all of it
ends when it is mended. The stops of processes are in test_health.py; tests/health/test_stops.py has each stop alone."""

import html
from contextlib import suppress
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert
from apps.api.tokens.services import create_token
from apps.health.alerting import NAMED_BY
from apps.health.domain import Code, Subject
from apps.health.models import Problem
from apps.health.wording import describe
from apps.market import partitions
from apps.market.models import Asset, Feed, FeedHead
from apps.market.services import pause_feeds, resume_feeds
from apps.notify.models import Channel
from apps.notify.services import configure_channel, create_channel, send_test, set_channels, switch_on
from apps.rules.services import delete_rule
from apps.sources import services as sources
from apps.sources.models import FeedSource, SenderClock
from fintech.settings.env import place
from tests.builders import START, TRACE, above, make_operator, make_rule
from tests.rig import free_port, rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

FEED, CHANNEL, RULE = Subject.FEED, Subject.CHANNEL, Subject.RULE
PROBLEMS = {
    (FEED, "paused", Code.PAUSED),
    (FEED, "failing", Code.FAILING),
    (FEED, "keyless", Code.NO_KEY),
    (FEED, "sourceless", Code.NO_SOURCE),
    (FEED, "empty", Code.NO_FEED_ASSET),
    (FEED, "pushed", Code.NOTHING_PUSHED),
    (FEED, "ahead", Code.SENDER_AHEAD),
    (CHANNEL, "gone", Code.SWITCHED_OFF),
    (CHANNEL, "down", Code.NOT_DELIVERED),
    (CHANNEL, "mail", Code.NO_MAIL_SERVER),
    (CHANNEL, "off", Code.OFF),
    (RULE, "nobody", Code.NOTIFIES_NOBODY),
    (RULE, "nothing", Code.NO_ASSET),
}
# Whose alerts open: Ada's, and the operators' (None), who know what they have paused. One that fails for less than five
# minutes opens none.
OF_OPERATORS = {"failing", "keyless", "sourceless", "empty", "pushed"}
OF_ADA = {"paused", "failing", "keyless", "sourceless", "pushed", "gone", "mail"}


def problems():
    """Return (subject, name, code) of all problems."""
    names = {subject: dict(model.objects.values_list("pk", column)) for subject, (model, column) in NAMED_BY.items()}
    rows = Problem.objects.values_list("subject", "subject_id", "code")
    return {(subject, names.get(subject, {}).get(pk, "system"), code) for subject, pk, code in rows}


def alerts(**chosen):
    """Return (owner's name, name) of the alerts about health, but of the channel that fails."""
    rows = Alert.objects.filter(kind="health", **chosen).values_list("owner__username", "evidence__labels__instance")
    return {(owner, instance.split()[1]) for owner, instance in rows} - {("ada", "down")}


def delivered(channel):
    """Return the names in the messages about health that were delivered on a channel."""
    items = [item for message in channel.messages.filter(status="delivered") for item in message.items]
    return {item["symbol"].split()[1] for item in items if item["kind"] == "health"} - {"down"}


def wait_for(read, expected):
    """Wait until `read` returns what is expected; the failure shows how what it returns differs."""
    with suppress(AssertionError):
        wait_until(lambda: read() == expected, timeout_seconds=240)
    assert read() == expected


def dashboard(client, user):
    client.force_login(user)
    return html.unescape(client.get("/admin/").text)


def is_green(client, feed):
    return "Well, by the check at" in client.get(reverse("admin:market_feed_change", args=[feed.pk])).text


def make_feeds():
    """Return name -> feed, as if made five minutes ago."""
    made = {
        "well": ("simulated", {}),
        "paused": ("simulated", {}),
        "failing": ("kraken", {"base_url": f"http://127.0.0.1:{free_port()}"}),
        "keyless": ("coincap", {}),
        "sourceless": ("simulated", {}),
        "empty": ("simulated", {}),
        "pushed": ("push", {"expect_every": "1m"}),
        "ahead": ("push", {}),
    }
    feeds = {
        name: sources.create_feed(name=name, interval_seconds=2, sources=[source], now=START)
        for name, source in made.items()
    }
    for name, feed in feeds.items():
        if name != "empty":
            Asset.objects.create(symbol=f"{name}-USD".upper(), feed=feed)
    FeedSource.objects.filter(feed=feeds["sourceless"]).delete()
    Feed.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    return feeds


def test_what_has_stopped_says_so_to_whom_it_concerns_until_it_is_mended(client, tmp_path, httpserver, monkeypatch):
    monkeypatch.delenv("COINCAP_API_KEY", raising=False)
    httpserver.expect_request("/gone").respond_with_data(status=410)
    httpserver.expect_request("/well").respond_with_data(status=204)
    site = f"http://127.0.0.1:{httpserver.port}"
    today = timezone.now().date()
    partitions.ensure([today, today + timedelta(days=1)])
    feeds = make_feeds()
    ada, grace = make_operator("ada"), make_operator("grace")
    ada.groups.add(Group.objects.get(name="Owner"))
    grace.groups.add(Group.objects.get(name="Operator"))
    _, secret = create_token(owner=make_operator("pusher", "market.push_quotes"), name="script", scope="write")

    def push(name, *, ahead=timedelta(0)):
        quote = {"symbol": f"{name}-USD".upper(), "price": "1", "at": (timezone.now() + ahead).isoformat()}
        headers = {"Authorization": f"Bearer {secret}"}
        answer = client.post(f"/ingest/{name}", {"quotes": [quote]}, "application/json", headers=headers)
        assert answer.status_code == 200, answer.content

    with override_settings(OUTBOUND_ALLOW=[place("127.0.0.1")]), rig(tmp_path, OUTBOUND_ALLOW="127.0.0.1") as processes:
        make = {"owner": ada, "group_wait_seconds": 0}
        inbox = create_channel(**make, name="Inbox", kind="inbox", config={})
        gone = create_channel(**make, name="gone", kind="webhook", config={"url": f"{site}/gone"})
        down = create_channel(**make, name="down", kind="webhook", config={"url": f"http://127.0.0.1:{free_port()}/"})
        mail = create_channel(**make, name="mail", kind="email", config={"to": "ada@example.org"})
        off = create_channel(**make, name="off", kind="inbox", config={}, is_enabled=False)
        operators = create_channel(owner=grace, name="Operators", kind="inbox", config={}, wants_system=True)
        for name in feeds.keys() - {"empty"}:
            level = "0.000001" if name == "well" else 1_000_000
            rule = make_rule(ada, name=f"on {name}", assets=[f"{name}-USD".upper()], condition=above(level))
            set_channels(rule=rule, channels=[inbox, gone, down] if name == "well" else [inbox])
        nobody = make_rule(ada, name="nobody", assets=["WELL-USD"], condition=above(1_000_000))
        nothing = make_rule(ada, name="nothing", assets={"tag": "none"}, condition=above(1))
        set_channels(rule=nothing, channels=[inbox])
        pause_feeds([feeds["paused"].pk])
        push("ahead", ahead=timedelta(seconds=30))
        processes.beat()
        processes.worker(name="everything", concurrency=2)

        wait_for(problems, PROBLEMS)
        client.force_login(grace)
        assert {name for name, feed in feeds.items() if is_green(client, feed)} == {"well"}
        seen_by_grace, seen_by_ada = dashboard(client, grace), dashboard(client, ada)
        for row in Problem.objects.all():
            clause = describe(row.code, since=row.since, facts=row.facts).clause[1:]
            is_of_feed, is_watched = row.subject == FEED, row.code != Code.NO_FEED_ASSET
            assert (clause in seen_by_grace, clause in seen_by_ada) == (is_of_feed, is_watched), row

        expected = {(None, name) for name in OF_OPERATORS} | {("ada", name) for name in OF_ADA}
        wait_for(alerts, expected)
        wait_for(lambda: (delivered(inbox), delivered(operators)), (OF_ADA, OF_OPERATORS))
        assert problems() == PROBLEMS

        simulated = feeds["well"].sources.get().options
        resume_feeds([feeds["paused"].pk])
        for name in ("failing", "keyless"):
            FeedSource.objects.filter(feed=feeds[name]).update(provider="simulated", options=simulated)
        FeedSource.objects.create(feed=feeds["sourceless"], provider="simulated", options=simulated, position=1)
        Asset.objects.create(symbol="EMPTY-USD", feed=feeds["empty"])
        push("pushed")
        SenderClock.objects.all().delete()
        FeedHead.objects.update(next_slot=timezone.now())
        Channel.objects.filter(pk=mail.pk).delete()
        for channel in (gone, down):
            channel.refresh_from_db()
            configure_channel(channel=channel, kind="webhook", config={"url": f"{site}/well"})
            switch_on(channel=channel)
            send_test(channel=channel, asked_by="ada", now=timezone.now())
        switch_on(channel=off)
        set_channels(rule=nobody, channels=[inbox])
        delete_rule(rule=nothing, now=timezone.now(), trace_id=TRACE)

        # The next push into that feed may be due again before all of the rest is found well.
        pushed = {(None, "pushed"), ("ada", "pushed")}
        wait_for(lambda: problems() - {(FEED, "pushed", Code.NOTHING_PUSHED)}, set())
        wait_for(lambda: alerts(resolved_at=None) - pushed, set())
        assert alerts(resolved_at__isnull=False) >= expected - pushed
