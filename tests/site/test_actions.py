"""The page behind a link in a message: it says what it is about, and does it when its button is pressed."""

import logging
import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.core import signing
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.notify.models import Message, Silence
from apps.notify.services import Done, action_links, create_channel, create_silence, perform_action, set_channels
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule
from fintech.logs import json_lines
from tests.builders import above, append_quotes, at, make_feed, make_operator, make_owner, make_rule, notify_all
from tests.threads import at_once

pytestmark = pytest.mark.django_db
WEEK = 7 * 86_400


def notify_of(owner, *symbols):
    """Return a delivered message about one open alert on each of these assets, all of one rule."""
    feed = make_feed(*symbols)
    channel = create_channel(owner=owner, name="Phone", kind="inbox", config={})
    set_channels(rule=make_rule(owner, assets=list(symbols), condition=above(10)), channels=[channel])
    append_quotes(feed, [(symbol, at(0), "9") for symbol in symbols])
    append_quotes(feed, [(symbol, at(1), "11") for symbol in symbols])
    evaluate_pending(feed_id=feed.pk)
    notify_all()
    return Message.objects.get()


def end(symbol):
    """Have the alert on an asset resolve."""
    alert = Alert.objects.get(asset__symbol=symbol)
    append_quotes(alert.asset.feed, [(symbol, at(2), "9")])
    evaluate_pending(feed_id=alert.asset.feed_id)


def path_to(action, message, *, seconds_ago=0):
    """Return the path of the link that stands in the message, which was made so long ago."""
    Message.objects.filter(pk=message.pk).update(created_at=timezone.now() - timedelta(seconds=seconds_ago))
    links = {one.label: urlsplit(one.url).path for one in action_links(message_id=message.pk)}
    return links[action]


def acknowledge_path(message, **more):
    return path_to("Acknowledge", message, **more)


def silence_path(message, **more):
    return path_to("Silence 1 h", message, **more)


def is_untouched():
    """Nobody has acknowledged or silenced anything."""
    return (
        not Alert.objects.filter(acknowledged_at__isnull=False).exists()
        and not AlertEvent.objects.filter(kind="acknowledged").exists()
        and not Silence.objects.exists()
    )


def headings(answer):
    return re.findall(r"<h1>(.*?)</h1>", answer.text)


@pytest.fixture
def ada():
    return make_owner("ada")


def test_a_link_says_what_it_is_about_and_has_one_button(client, ada):
    message = notify_of(ada, "BTC-USD", "ETH-USD")

    answer = client.get(acknowledge_path(message))

    assert answer.status_code == 200
    assert headings(answer) == ["Acknowledge?"]
    assert "<h2>[warning] 2 alerts: BTC-USD, ETH-USD</h2>" in answer.text
    assert "BTC-USD is above 10" in answer.text
    assert "ETH-USD is above 10" in answer.text
    assert re.findall(r"<button[^>]*>(.*?)</button>", answer.text) == ["Acknowledge"]
    assert "<script" not in answer.text


def test_a_link_about_many_alerts_shows_20_and_says_how_many_more(client, ada):
    message = notify_of(ada, *(f"A-{number}" for number in range(23)))

    text = client.get(acknowledge_path(message)).text

    assert text.count('class="severity') == 20
    assert "And 3 more." in text


@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize("path", [acknowledge_path, silence_path])
def test_who_only_looks_at_a_link_changes_nothing(client, ada, method, path):
    message = notify_of(ada, "BTC-USD")

    assert getattr(client, method)(path(message)).status_code == 200

    assert is_untouched()


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_a_link_takes_no_other_method(client, ada, method):
    assert getattr(client, method)(acknowledge_path(notify_of(ada, "BTC-USD"))).status_code == 405
    assert is_untouched()


def test_to_acknowledge_is_one_step_in_each_alerts_life_in_its_owners_name(client, ada):
    message = notify_of(ada, "BTC-USD", "ETH-USD")
    before = timezone.now()

    answer = client.post(acknowledge_path(message))

    assert headings(answer) == ["Done"]
    assert "2 of 2 acknowledged." in answer.text
    for alert in Alert.objects.all():
        assert before <= alert.acknowledged_at <= timezone.now()
        assert (alert.acknowledged_by, alert.note) == (ada, "by the link in a message to Phone")
        event = alert.events.get(kind="acknowledged")
        assert (event.at, event.by, event.detail) == (alert.acknowledged_at, ada, "by the link in a message to Phone")
    assert Alert.objects.count() == 2
    assert not Silence.objects.exists()


def test_a_second_click_says_that_it_was_done_and_does_nothing(client, ada):
    message = notify_of(ada, "BTC-USD")
    client.post(acknowledge_path(message))
    first = Alert.objects.get().acknowledged_at

    answer = client.post(acknowledge_path(message))

    assert headings(answer) == ["It was done already"]
    assert Alert.objects.get().acknowledged_at == first
    assert AlertEvent.objects.filter(kind="acknowledged").count() == 1


def test_what_is_over_meanwhile_is_not_acknowledged_and_the_rest_is(client, ada):
    message = notify_of(ada, "BTC-USD", "ETH-USD")
    end("BTC-USD")

    answer = client.post(acknowledge_path(message))

    assert "1 of 2 acknowledged." in answer.text
    assert "The rest was acknowledged already, or is over." in answer.text
    assert list(Alert.objects.filter(acknowledged_at__isnull=False).values_list("asset__symbol", flat=True)) == [
        "ETH-USD"
    ]


def test_before_the_button_is_pressed_it_says_how_many_wait_and_what_became_of_the_rest(client, ada):
    message = notify_of(ada, "BTC-USD", "ETH-USD", "SOL-USD")
    end("BTC-USD")
    Alert.objects.filter(asset__symbol="ETH-USD").update(acknowledged_at=timezone.now())

    text = client.get(acknowledge_path(message)).text

    assert "1 of 3 waits to be acknowledged." in text
    assert re.findall(r"\w+-USD · opened <time [^>]+>[\d :-]+ UTC</time>(?: · (\w+))?</p>", text) == [
        "resolved",
        "acknowledged",
        "",
    ]
    Alert.objects.update(resolved_at=None, acknowledged_at=None)
    assert "3 of 3 wait to be acknowledged." in client.get(acknowledge_path(message)).text


def test_when_all_is_over_there_is_nothing_to_acknowledge(client, ada):
    message = notify_of(ada, "BTC-USD")
    end("BTC-USD")

    answer = client.post(acknowledge_path(message))

    assert headings(answer) == ["It was done already"]
    assert "or it is over" in answer.text
    assert is_untouched()


def test_a_link_to_acknowledge_what_waits_no_more_has_no_button(client, ada):
    message = notify_of(ada, "BTC-USD")
    Alert.objects.update(acknowledged_at=timezone.now())

    answer = client.get(acknowledge_path(message))

    assert headings(answer) == ["It was done already"]
    assert "<button" not in answer.text


def test_to_silence_is_one_silence_of_an_hour_for_each_rule_and_asset(client, ada):
    message = notify_of(ada, "BTC-USD", "ETH-USD")
    before = timezone.now()

    answer = client.post(silence_path(message))

    assert headings(answer) == ["Done"]
    assert "2 of 2 silenced for an hour" in answer.text
    assert sorted(Silence.objects.values_list("rule__name", "asset__symbol", "severity")) == [
        ("rule", "BTC-USD", ""),
        ("rule", "ETH-USD", ""),
    ]
    for silence in Silence.objects.all():
        assert (silence.owner, silence.author) == (ada, ada)
        assert before <= silence.starts_at <= timezone.now()
        assert silence.ends_at - silence.starts_at == timedelta(hours=1)
        assert silence.comment == "Silence 1 h, by the link in a message to Phone"
    assert not AlertEvent.objects.filter(kind="acknowledged").exists()


def test_alerts_are_silenced_until_they_are_over(client, ada):
    message = notify_of(ada, "BTC-USD", "ETH-USD", "SOL-USD")
    path = path_to("Silence until over", message)
    end("SOL-USD")
    assert headings(client.get(path)) == ["Silence until over?"]
    assert is_untouched()

    first, second = (client.post(path) for _ in range(2))

    assert headings(first) == ["Done"]
    assert "2 of 3 silenced until they are over." in first.text
    assert "The rest was silenced already, or is over." in first.text
    assert headings(second) == ["It was done already"]
    found = Silence.objects.values_list("alert__asset__symbol", "owner", "author", "ends_at", "comment")
    comment = "Silence until over, by the link in a message to Phone"
    assert set(found) == {(symbol, ada.pk, ada.pk, None, comment) for symbol in ("BTC-USD", "ETH-USD")}
    assert Silence.objects.count() == 2


def test_a_link_does_not_silence_an_alert_that_was_handed_to_somebody_else(client, ada):
    message = notify_of(ada, "BTC-USD")
    Alert.objects.update(owner=make_owner("bob"))

    client.post(path_to("Silence until over", message))

    assert not Silence.objects.exists()


def test_a_second_silence_is_made_only_where_none_is_in_force(client, ada):
    message = notify_of(ada, "BTC-USD", "ETH-USD")
    now = timezone.now()
    btc = Alert.objects.get(asset__symbol="BTC-USD")
    match = {"owner": ada, "rule": btc.rule, "asset": btc.asset}
    create_silence(author=ada, starts_at=now, ends_at=now + timedelta(hours=2), comment="mine", **match)

    first, second = (client.post(silence_path(message)) for _ in range(2))

    assert "1 of 2 silenced for an hour" in first.text
    assert "The rest was silenced already." in first.text
    assert headings(second) == ["It was done already"]
    assert sorted(Silence.objects.values_list("asset__symbol", "comment")) == [
        ("BTC-USD", "mine"),
        ("ETH-USD", "Silence 1 h, by the link in a message to Phone"),
    ]


def test_a_silence_of_another_origin_that_is_soon_over_does_not_stand_for_the_hour(client, ada):
    message = notify_of(ada, "BTC-USD")
    now = timezone.now()
    match = {"owner": ada, "rule": Alert.objects.get().rule, "asset": Alert.objects.get().asset}
    create_silence(author=ada, starts_at=now, ends_at=now + timedelta(minutes=5), comment="mine", **match)

    first, second = (client.post(silence_path(message)) for _ in range(2))

    assert "1 of 1 silenced for an hour" in first.text
    assert headings(second) == ["It was done already"]
    assert Silence.objects.count() == 2


def test_a_silence_holds_back_what_comes_next_of_the_rule(client, ada):
    message = notify_of(ada, "BTC-USD")
    client.post(silence_path(message))

    end("BTC-USD")
    notify_all()

    assert list(Message.objects.all()) == [message]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ["silence", "silence_alert"])
def test_of_two_clicks_at_once_one_silences(ada, action):
    message = notify_of(ada, "BTC-USD")

    results = at_once(*[lambda: perform_action(message=message, action=action, now=timezone.now())] * 2)

    assert sorted(result.done for result in results) == [0, 1]
    assert Silence.objects.count() == 1


def test_alerts_of_the_installation_have_no_rule_and_are_not_silenced(client, admin_user):
    message = notify_of(admin_user, "BTC-USD")
    labels = {"alertname": "QueueGrows", "instance": "broker"}
    Alert.objects.update(
        kind="system",
        owner=None,
        rule=None,
        version=None,
        asset=None,
        entry=None,
        fingerprint="f",
        evidence={"labels": labels},
    )

    answer = client.post(silence_path(message))

    assert headings(answer) == ["Nothing was done"]
    assert "in Alertmanager" in answer.text
    assert not Silence.objects.exists()
    assert perform_action(message=message, action="acknowledge", now=timezone.now()) == Done(done=1, of=1)


def test_a_link_of_seven_days_works_and_an_older_one_says_that_it_is_too_old(client, ada):
    message = notify_of(ada, "BTC-USD")
    assert client.get(acknowledge_path(message, seconds_ago=WEEK - 60)).status_code == 200

    for method in (client.get, client.post):
        answer = method(acknowledge_path(message, seconds_ago=WEEK + 60))
        assert answer.status_code == 410
        assert "older than 7 days" in answer.text
        assert message.subject not in answer.text
    assert is_untouched()


def forgeries(message):
    """Return paths that are like a link and are none."""
    token = acknowledge_path(message).removeprefix("/action/")
    payload, signature = token.split(":")
    other = silence_path(message).removeprefix("/action/").split(":")[0]
    changed = ("a" if signature[0] != "a" else "b") + signature[1:]
    return [
        *("x", token[:-1], payload, f"{payload}:", f"{payload}:{changed}", f"{other}:{signature}"),
        *(f"{payload}:zzzzzz:{signature}", "é", "%00", "a" * 5_000),
        signing.Signer(salt="another door").sign_object([str(message.pk), "acknowledge"]),
        signing.Signer(salt="notify.action", key="another key" * 5).sign_object([str(message.pk), "acknowledge"]),
    ]


def test_a_link_that_was_not_made_here_is_none(client, ada):
    message = notify_of(ada, "BTC-USD")

    for forged in forgeries(message):
        for method in (client.get, client.post):
            answer = method(f"/action/{forged}")
            assert (answer.status_code, forged) == (404, forged)
            assert headings(answer) == ["This link does nothing"]
            assert message.subject not in answer.text
    assert is_untouched()


def test_the_links_of_a_message_are_the_same_on_every_attempt(ada, monkeypatch):
    message = notify_of(ada, "BTC-USD")
    first = action_links(message_id=message.pk)

    monkeypatch.setattr(signing.time, "time", lambda: 2_000_000_000)

    assert action_links(message_id=message.pk) == first


def test_a_link_dies_with_its_message_and_with_its_owners_account(client, ada):
    message = notify_of(ada, "BTC-USD")
    path = acknowledge_path(message)

    ada.is_active = False
    ada.save()
    assert client.post(path).status_code == 410
    assert is_untouched()
    message.delete()
    assert client.post(path).status_code == 410


def test_a_form_of_another_site_presses_no_button(ada):
    message = notify_of(ada, "BTC-USD")

    assert Client(enforce_csrf_checks=True).post(acknowledge_path(message)).status_code == 403

    assert is_untouched()


def test_no_log_line_has_the_link(ada, caplog):
    caplog.set_level(logging.DEBUG)
    token = acknowledge_path(notify_of(ada, "BTC-USD")).removeprefix("/action/")
    for seconds_ago in (0, WEEK + 60):
        one = acknowledge_path(Message.objects.get(), seconds_ago=seconds_ago).removeprefix("/action/")
        assert Client(enforce_csrf_checks=True).post(f"/action/{one}").status_code == 403
        Client().get(f"/action/{one}")

    lines = [json_lines().format(record) for record in caplog.records]
    assert sum("/action/" in line for line in lines) >= 3
    assert [line for line in lines if token.split(":")[1] in line] == []


def test_the_pages_own_form_is_taken_from_who_is_not_signed_in(ada):
    path = acknowledge_path(notify_of(ada, "BTC-USD"))
    browser = Client(enforce_csrf_checks=True)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(path).text)[1]

    assert headings(browser.post(path, {"csrfmiddlewaretoken": token})) == ["Done"]


def test_only_who_may_see_alerts_is_led_to_them(client, ada):
    path = acknowledge_path(notify_of(ada, "BTC-USD"))
    page = reverse("admin:alerts_alert_change", args=[Alert.objects.get().pk])
    assert page not in client.get(path).text
    client.force_login(make_operator("grace", "alerts.view_alert"))
    assert page in client.get(path).text
    assert page in client.post(path).text


@pytest.mark.parametrize("method", ["get", "post"])
def test_the_address_is_kept_by_no_cache_and_sent_to_no_other_page(client, ada, method):
    for path in (acknowledge_path(notify_of(ada, "BTC-USD")), "/action/forged"):
        answer = getattr(client, method)(path)
        assert "no-store" in answer["Cache-Control"]
        assert answer["Referrer-Policy"] == "strict-origin"


def test_names_in_a_message_are_text_and_not_markup(client, ada):
    message = notify_of(ada, "BTC-USD")
    message.subject = message.items[0]["summary"] = message.items[0]["rule"] = "<script>alert(1)</script>"
    message.save()

    text = client.get(acknowledge_path(message)).text

    assert text.count("&lt;script&gt;") == 3
    assert "<script" not in text
    assert Rule.objects.count() == 1
