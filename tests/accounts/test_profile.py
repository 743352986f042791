import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.urls import reverse

from apps.accounts.models import Profile
from apps.accounts.queries import profile_of
from apps.locales import LOCALES
from apps.notify.models import Channel
from apps.notify.services import create_channel
from tests.builders import make_operator, make_owner

pytestmark = pytest.mark.django_db
PAGE = "/accounts/profile/"


@pytest.fixture
def ada():
    return make_owner("ada")


def test_without_a_row_the_defaults_hold_and_nothing_is_written(ada):
    profile = profile_of(ada)
    assert (profile.time_zone, profile.locale) == ("UTC", "en")
    assert not Profile.objects.exists()


@pytest.mark.parametrize("code", LOCALES)
def test_the_database_takes_every_locale_that_is_offered(ada, code):
    assert Profile.objects.create(user=ada, locale=code).pk == ada.pk


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "europe/kyiv", "a\0b"])
def test_a_time_zone_that_is_none_is_refused(ada, name):
    with pytest.raises(ValidationError) as refused:
        Profile(user=ada, time_zone=name).full_clean()
    assert set(refused.value.message_dict) == {"time_zone"}


def test_the_database_refuses_a_locale_that_nothing_can_format_by(ada):
    with pytest.raises(IntegrityError), transaction.atomic():
        Profile.objects.create(user=ada, locale="xx")


def test_a_person_chooses_a_time_zone_on_their_own_page(client, ada):
    client.force_login(ada)
    assert "selected>UTC" in client.get(PAGE).text

    answer = client.post(PAGE, {"time_zone": "Europe/Kyiv", "locale": "de"}, follow=True)

    assert (answer.status_code, "Your profile is saved" in answer.text) == (200, True)
    assert list(Profile.objects.values_list("user__username", "time_zone", "locale")) == [("ada", "Europe/Kyiv", "de")]
    assert "selected>Europe/Kyiv" in client.get(PAGE).text


def test_a_choice_that_is_not_offered_is_refused_beside_its_field(client, ada):
    client.force_login(ada)
    answer = client.post(PAGE, {"time_zone": "Mars/Olympus", "locale": "en"})
    assert (answer.status_code, "Select a valid choice" in answer.text) == (200, True)
    assert not Profile.objects.exists()


def test_each_locale_is_offered_with_an_example(client, ada):
    client.force_login(ada)
    offered = dict(client.get(PAGE).context["form"].fields["locale"].choices)
    assert offered == {
        "en": "International: 1\u202f234.56 · 2026-11-30 14:05",
        "en-US": "American: 1,234.56 · 11/30/2026 02:05 PM",
        "en-GB": "British: 1,234.56 · 30/11/2026 14:05",
        "de": "German: 1.234,56 · 30.11.2026 14:05",
        "fr": "French: 1\u202f234,56 · 30/11/2026 14:05",
        "pt-BR": "Brazilian: 1.234,56 · 30/11/2026 14:05",
    }


def test_a_locale_that_is_not_offered_is_refused(client, ada):
    client.force_login(ada)
    answer = client.post(PAGE, {"time_zone": "UTC", "locale": "xx"})
    assert (set(answer.context["form"].errors), Profile.objects.exists()) == ({"locale"}, False)


@pytest.mark.parametrize("page", [PAGE, "/accounts/profile/saved/"])
def test_a_stranger_is_sent_to_the_sign_in(client, page):
    assert client.get(page)["Location"].startswith(reverse("login"))


def test_new_channels_start_with_the_owners_time_zone_unless_another_is_given(ada):
    Profile.objects.create(user=ada, time_zone="Europe/Kyiv")
    create_channel(owner=ada, name="Inbox", kind="inbox", config={})
    create_channel(owner=ada, name="Other", kind="inbox", config={}, quiet_zone="America/New_York")
    zones = Channel.objects.order_by("name").values_list("name", "quiet_zone")
    assert list(zones) == [("Inbox", "Europe/Kyiv"), ("Other", "America/New_York")]


def test_the_form_of_a_new_channel_starts_with_the_readers_time_zone(client):
    eve = make_operator("eve", "notify.add_channel", "notify.view_channel")
    Profile.objects.create(user=eve, time_zone="Europe/Kyiv")
    client.force_login(eve)
    form = client.get(reverse("admin:notify_channel_add")).context["adminform"].form
    assert form.get_initial_for_field(form.fields["quiet_zone"], "quiet_zone") == "Europe/Kyiv"
