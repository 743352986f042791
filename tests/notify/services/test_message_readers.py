"""Messages have times, numbers and dates as the channel's owner reads them, those for programs as the API has them."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts.models import Profile
from apps.alerts.models import Alert
from apps.market.domain import RawQuote
from apps.notify import services
from apps.notify.domain import compose
from apps.notify.models import Message
from apps.notify.services.previewing import last_opening, would_send
from apps.pipeline import corrections, flow
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule
from tests.notify.notifying import evaluate, items, plan, send

pytestmark = pytest.mark.django_db

RISES = {"kind": "rises", "percent": 10, "window": "24h"}


@pytest.fixture
def kyiv(owner):
    return Profile.objects.create(user=owner, time_zone="Europe/Kyiv")


def lines(message_id):
    return Message.objects.get(pk=message_id).text.splitlines()


def test_an_opening_and_its_end_are_by_the_owners_clock(feed, rule, channel, kyiv):
    (opened,) = items(feed, channel, (0, "101"))
    assert lines(opened)[:2] == [
        "BTC-USD is above 100: 101 at 14:00:00 EET",
        "Opened 2026-03-02 14:00:00 EET.",
    ]
    assert Alert.objects.get().summary == "BTC-USD is above 100: 101 at 12:00:00 UTC"
    send(channel)
    (ended,) = items(feed, channel, (9, "99"))
    assert lines(ended)[1] == "Resolved 2026-03-02 14:00:09 EET at 99 (the condition is over)."


def test_a_time_of_another_day_of_the_owner_has_its_date(feed, rule, channel, owner):
    Profile.objects.create(user=owner, time_zone="Pacific/Auckland")
    make_rule(owner, rule=rule, assets=["BTC-USD"], condition=RISES)
    # In Auckland, where it is 13 hours later, midnight lies between them.
    append_quotes(feed, [("BTC-USD", at(-7_200), "100")])
    (message_id,) = items(feed, channel, (0, "110.5"))
    assert lines(message_id)[0] == (
        "BTC-USD rose 10.5 % in 1 day: 100.0 on 2026-03-02 at 23:00:00 NZDT → 110.5 at 01:00:00 NZDT"
    )


def test_a_channel_for_programs_has_utc(feed, rule, owner, kyiv):
    hook = services.create_channel(owner=owner, name="Hook", kind="webhook", config={"url": "https://example.org/"})
    services.set_channels(rule=rule, channels=[hook])
    evaluate(feed, (0, "101"))
    (message_id,) = plan(hook, after=60)
    message = Message.objects.get(pk=message_id)
    assert message.text.splitlines()[:2] == [
        "BTC-USD is above 100: 101 at 12:00:00 UTC",
        "Opened 2026-03-02 12:00:00 UTC.",
    ]
    (item,) = message.items
    assert (item["summary"], item["at"]) == ("BTC-USD is above 100: 101 at 12:00:00 UTC", "2026-03-02T12:00:00+00:00")


def test_a_template_has_the_owners_time(feed, rule, channel, kyiv):
    channel.text_template = "{at}: {summary}"
    channel.save()
    (message_id,) = items(feed, channel, (0, "101"))
    assert lines(message_id) == ["2026-03-02 14:00:00 EET: BTC-USD is above 100: 101 at 14:00:00 EET"]


def test_a_deferred_alert_has_the_end_of_its_silence_by_the_owners_clock(feed, rule, channel, owner, kyiv):
    ends_at = timezone.now() + timedelta(minutes=1)
    services.create_silence(author=owner, owner=owner, starts_at=timezone.now(), ends_at=ends_at, comment="lunch")
    assert items(feed, channel, (0, "101")) == []
    (message_id,) = plan(channel, after=61)
    local = ends_at.astimezone(ZoneInfo("Europe/Kyiv"))
    assert lines(message_id)[0] == f"Held back by the silence “lunch” until {local:%Y-%m-%d %H:%M:%S %Z}."


def test_a_test_says_when_it_was_asked_for_by_the_owners_clock(channel, kyiv):
    message = services.send_test(channel=channel, asked_by="ada", now=at(0))
    assert "asked for by ada at 2026-03-02 14:00:00 EET." in message.text


def test_a_preview_has_the_owners_time(feed, rule, channel, owner, kyiv):
    evaluate(feed, (0, "101"))
    event = last_opening(owner=owner, rule=rule, now=timezone.now())
    assert (
        "101 at 14:00:00 EET\nOpened 2026-03-02 14:00:00 EET."
        in would_send(channel=channel, event=event, now=timezone.now()).text
    )


def test_a_transport_gets_the_zone_of_the_text(feed, rule, channel, outside, kyiv):
    items(feed, channel, (0, "101"))
    send(channel)
    (rendered,) = outside.rendered_messages
    assert compose(rendered.items, url=rendered.url, reader=rendered.reader)[1] == rendered.text


def test_a_zone_that_is_known_no_more_is_utc(feed, rule, channel, kyiv):
    Profile.objects.update(time_zone="Mars/Olympus")
    (message_id,) = items(feed, channel, (0, "101"))
    assert lines(message_id)[0] == "BTC-USD is above 100: 101 at 12:00:00 UTC"


def test_evidence_of_another_shape_keeps_the_stored_summary(feed, rule, channel, kyiv):
    evaluate(feed, (0, "101"))
    Alert.objects.update(evidence={"price": "101"})
    (message_id,) = plan(channel)
    assert lines(message_id)[:2] == [
        "BTC-USD is above 100: 101 at 12:00:00 UTC",
        "Opened 2026-03-02 14:00:00 EET.",
    ]


def test_the_time_of_a_corrected_price_is_by_the_owners_clock(feed, rule, channel, kyiv):
    items(feed, channel, (0, "101"))
    send(channel)
    admitted = corrections.admit_file(feed, [RawQuote("BTC-USD", "102", at(0))], now=at(60))
    corrections.replace_quotes(feed, admitted, now=at(60), trace_id="c" * 32)
    flow.evaluate_pending(feed_id=feed.pk)
    (message_id,) = plan(channel)
    assert "Corrected afterwards: the price of 2026-03-02 14:00:00 EET: 101 → 102." in lines(message_id)


def test_another_zone_costs_a_plan_one_statement_whatever_the_number_of_alerts(owner, outside, channel):
    counts = []
    for number, (zone, alerts) in enumerate([("UTC", 2), ("Europe/Kyiv", 2), ("Europe/Kyiv", 9)]):
        Profile.objects.update_or_create(user=owner, defaults={"time_zone": zone})
        symbols = [f"A{number}-{index}" for index in range(alerts)]
        feed = make_feed(*symbols, name=f"feed-{number}", jump_percent=0)
        rule = make_rule(owner, name=feed.name, assets=symbols, condition=above(100))
        services.set_channels(rule=rule, channels=[channel])
        append_quotes(feed, [(symbol, at(0), "101") for symbol in symbols])
        flow.evaluate_pending(feed_id=feed.pk)
        with CaptureQueriesContext(connection) as statements:
            plan(channel)
        counts.append(len(statements))
    assert (counts[1] - counts[0], counts[2] - counts[1]) == (1, 0)


def test_messages_to_two_owners_have_the_numbers_and_dates_of_each(feed, rule, channel, outside):
    Profile.objects.create(user=rule.owner, time_zone="Europe/Berlin", locale="de")
    make_rule(rule.owner, rule=rule, assets=["BTC-USD"], condition=above("1234.5"))
    eve = make_owner("eve")
    Profile.objects.create(user=eve, time_zone="America/New_York", locale="en-US")
    other = make_rule(eve, name="hers", assets=["BTC-USD"], condition=above("1234.5"))
    hers = services.create_channel(owner=eve, name="Hers", kind="inbox", config={})
    services.set_channels(rule=other, channels=[hers])

    evaluate(feed, (0, "61230.25"))
    texts = [lines(message_id)[:2] for one in (channel, hers) for message_id in plan(one)]

    assert texts == [
        [
            "BTC-USD is above 1.234,5: 61.230,25 at 13:00:00 CET",
            "Opened 02.03.2026 13:00:00 CET.",
        ],
        [
            "BTC-USD is above 1,234.5: 61,230.25 at 07:00:00 AM EST",
            "Opened 03/02/2026 07:00:00 AM EST.",
        ],
    ]
    assert set(Alert.objects.values_list("summary", flat=True)) == {
        "BTC-USD is above 1\u202f234.5: 61\u202f230.25 at 12:00:00 UTC"
    }


def test_another_locale_in_utc_is_described_anew_too(feed, rule, channel, owner):
    Profile.objects.create(user=owner, locale="fr")
    (message_id,) = items(feed, channel, (0, "1234.5"))
    assert lines(message_id)[:2] == [
        "BTC-USD is above 100: 1\u202f234,5 at 12:00:00 UTC",
        "Opened 02/03/2026 12:00:00 UTC.",
    ]


def test_a_channel_for_programs_has_points_and_iso_dates(feed, rule, owner):
    Profile.objects.create(user=owner, locale="de")
    hook = services.create_channel(owner=owner, name="Hook", kind="webhook", config={"url": "https://example.org/"})
    services.set_channels(rule=rule, channels=[hook])
    evaluate(feed, (0, "1234.5"))
    (message_id,) = plan(hook, after=60)
    assert lines(message_id)[:2] == [
        "BTC-USD is above 100: 1\u202f234.5 at 12:00:00 UTC",
        "Opened 2026-03-02 12:00:00 UTC.",
    ]
