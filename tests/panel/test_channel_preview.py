"""The preview of a message in the form of a channel."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify.models import Channel, Message, Notification
from apps.notify.services import create_channel
from tests.builders import at, make_notified_alerts, make_operator, make_owner
from tests.panel.channel_pages import BY_MAIL, CHANNEL_PERMISSIONS, page_of, posted, preview

NAMING = "The last alert of a rule that names it"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _mail(settings):
    settings.EMAIL_CONFIGURED = True


def test_what_would_be_sent_is_shown_with_what_stands_in_the_form_and_nothing_is_saved(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    channel = Channel.objects.get()
    changed = posted(channel, subject_template="{asset}!", text_template="{severity}: {rule}")
    shown = preview(admin_client, page_of(channel, "preview"), changed)
    assert (shown["about"], shown["text"]) == (NAMING, "NOTIFIED-0!\n\nwarning: rule of NOTIFIED-0")
    assert (shown["errors"], shown["is_whole"]) == ([], True)
    new = preview(admin_client, reverse("admin:notify_channel_preview_new"), {**BY_MAIL, "owner": admin_user.pk})
    assert new["text"].startswith("[warning] rule of NOTIFIED-0: NOTIFIED-0")
    assert (Channel.objects.get().subject_template, Channel.objects.count()) == ("", 1)
    assert (Message.objects.count(), Notification.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("wrong", "said", "is_whole"),
    [
        ({"text_template": "{level}"}, "Text: {level} is no placeholder", True),
        ({"quiet_from": "22:00", "quiet_until": "06:00", "quiet_zone": "Moon/Crater"}, "Time zone: There is no", True),
        ({"email_to": ""}, "", False),
        ({"kind": "pigeon"}, "", False),
        ({"owner": ""}, "", True),
        ({"text_template": "a\0b"}, "Text: Null characters", True),
    ],
)
def test_a_form_that_is_wrong_is_previewed_as_far_as_it_goes(admin_client, admin_user, wrong, said, is_whole):
    data = {**BY_MAIL, "owner": admin_user.pk, **wrong}
    shown = preview(admin_client, reverse("admin:notify_channel_preview_new"), data)
    assert (shown["about"], "An example: BTC-USD" in shown["text"]) == ("An invented alert", True)
    assert ([one[: len(said)] for one in shown["errors"]], shown["is_whole"]) == ([said] if said else [], is_whole)


def test_a_preview_says_that_quiet_hours_defer_it(admin_client, admin_user):
    now = timezone.now()
    hours = {"quiet_from": (now - timedelta(hours=1)).time(), "quiet_until": (now + timedelta(hours=1)).time()}
    data = {**BY_MAIL, "owner": admin_user.pk, **{name: f"{at:%H:%M:%S}" for name, at in hours.items()}}
    shown = preview(admin_client, reverse("admin:notify_channel_preview_new"), data)
    assert shown["deferred"].startswith("Quiet hours hold it back until ")


def test_a_preview_prefers_the_alerts_of_rules_that_name_the_channel(admin_client, admin_user):
    make_notified_alerts(admin_user, 2, name="older")
    make_notified_alerts(admin_user, 1, name="newer")
    Alert.objects.filter(asset__symbol="NEWER-0").update(opened_at=at(60))
    channel = Channel.objects.get(name="Inbox of older")
    shown = preview(admin_client, page_of(channel, "preview"), posted(channel))
    assert (shown["about"], shown["text"].splitlines()[0]) == (NAMING, "[warning] rule of OLDER-1: OLDER-1")
    unnamed = create_channel(owner=admin_user, name="Unnamed", kind="inbox", config={})
    shown = preview(admin_client, page_of(unnamed, "preview"), posted(unnamed))
    assert (shown["about"], shown["text"].splitlines()[0]) == ("Your last alert", "[warning] rule of NEWER-0: NEWER-0")
    assert "those shown here lead nowhere" in admin_client.get(page_of(unnamed)).text


def test_nobody_previews_with_the_channels_or_the_alerts_of_others(client):
    ada, grace = make_owner("ada"), make_operator("grace", *CHANNEL_PERMISSIONS)
    make_notified_alerts(ada, 1)
    client.force_login(grace)
    assert client.post(page_of(Channel.objects.get(), "preview"), BY_MAIL).status_code == 404
    new = preview(client, reverse("admin:notify_channel_preview_new"), {**BY_MAIL, "owner": ada.pk})
    assert "NOTIFIED-0" not in new["text"]
    looker = make_operator("eve", "notify.view_channel")
    own = create_channel(owner=looker, name="Own", kind="inbox", config={})
    client.force_login(looker)
    assert client.post(page_of(own, "preview"), {}).status_code == 403
    assert client.post(reverse("admin:notify_channel_preview_new"), {}).status_code == 403
