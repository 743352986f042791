"""The page on which an administrator hands rules over and lets an account go, and the way there."""

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import Group, User
from django.urls import reverse

from apps.notify.services import create_channel
from apps.ownership.deleting import AccountStays
from apps.rules.models import Rule
from tests.builders import make_member, make_operator
from tests.ownership.test_deleting import everything
from tests.ownership.world import make_person, names_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_mail(settings):
    settings.EMAIL_CONFIGURED = False


@pytest.fixture
def ada():
    return make_person("ada")


@pytest.fixture
def eve():
    return make_member("eve")


@pytest.fixture
def inbox(eve):
    return create_channel(owner=eve, name="Inbox of Eve", kind="inbox", config={}, is_default=True)


def page_of(person):
    return reverse("admin:auth_user_leave", args=[person.pk])


def ask(client, person, **given):
    """Answer the page as it stands after it was answered once."""
    shown = client.post(page_of(person), {"then": "keep", "shown": "", **given})
    assert shown.status_code == 200, shown
    data = shown.context["form"].data
    return shown, client.post(page_of(person), data, follow=True)


def logged():
    return {(entry.user.username, entry.object_repr, entry.get_change_message()) for entry in LogEntry.objects.all()}


def test_rules_are_handed_over_once_it_was_shown_what_that_means(admin_client, admin_user, ada, eve, inbox):
    first = admin_client.get(page_of(ada)).text
    assert "ada has 4 rules, 1 open alert, 2 channels." in first
    assert "Inbox of Eve" not in first
    handed = names_of(ada) - {"own series of ada"}
    shown, done = ask(admin_client, ada, to=eve.pk, then="deactivate")
    assert "From ada to eve: 3 rules, 1 open alert. 1 rule cannot be handed over." in shown.text
    assert "no channel yet" not in shown.text
    assert "own series of ada: It is on TWICE-ADA, which ada alone sees." in shown.text
    assert "Inbox of Eve" in shown.text

    assert "Handed 3 rules of ada to eve. ada is inactive." in done.text
    assert names_of(eve) == handed
    assert {rule.rule_channels.get().channel for rule in Rule.objects.filter(owner=eve)} == {inbox}
    assert User.objects.get(pk=ada.pk).is_active is False
    names = ", ".join(sorted(handed))
    assert {(by, of, text) for by, of, text in logged() if of in ("ada", "eve")} == {
        ("admin", "ada", f"Handed 3 rules of ada to eve: {names}."),
        ("admin", "eve", f"Handed 3 rules of ada to eve: {names}."),
        ("admin", "ada", "Made inactive."),
    }
    assert {of for _, of, text in logged() if text == "Handed from ada to eve."} == handed


def test_an_account_is_deleted_with_what_was_not_handed_over(admin_client, ada, eve, inbox):
    handed = names_of(ada) - {"own series of ada"}
    inbox.delete()
    shown, done = ask(admin_client, ada, to=eve.pk, then="delete")
    assert "eve has no channel yet, so nobody is notified." in shown.text
    assert "Portfolios: 2" in shown.text
    assert "The account ada is deleted." in done.text
    assert not User.objects.filter(username="ada").exists()
    assert names_of(eve) == handed
    assert list(LogEntry.objects.filter(action_flag=DELETION).values_list("object_repr", flat=True)) == ["ada"]


def test_nothing_is_done_where_a_part_of_it_cannot_be(admin_client, ada, eve, inbox, monkeypatch):
    def refuse(**given):
        raise AccountStays("Try again.")

    monkeypatch.setattr("apps.panel.leaving.delete_account", refuse)
    before = everything()
    _, answer = ask(admin_client, ada, to=eve.pk, then="delete")
    assert "Nothing was done. Try again." in answer.text
    after = everything()
    assert {key: row for key, row in after.items() if key[0] != "Session"} == {
        key: row for key, row in before.items() if key[0] != "Session"
    }


def test_what_does_not_fit_is_said_beside_the_field(admin_client, admin_user, ada, eve, inbox):
    eve.groups.remove(Group.objects.get(name="Owner"))
    before = names_of(ada)
    for person, given, text in (
        (ada, {"to": eve.pk}, "eve may not have rules"),
        (ada, {"to": "x"}, "not one of the available choices"),
        (admin_user, {"then": "delete"}, "Your own account you delete from your profile."),
    ):
        answer = admin_client.post(page_of(person), {"then": "keep", "shown": "", **given})
        assert answer.status_code == 200
        assert text in answer.text
    assert names_of(ada) == before


def test_channels_of_others_are_no_choice(admin_client, ada, eve, inbox):
    bob = make_member("bob")
    theirs = create_channel(owner=bob, name="Inbox of Bob", kind="inbox", config={})
    shown, _ = ask(admin_client, ada, to=eve.pk)
    rule = Rule.objects.filter(owner=eve).first()
    # Shown what goes to Eve, somebody chooses Bob: what goes to him is shown first.
    data = shown.context["form"].data.copy()
    data["to"] = bob.pk
    again = admin_client.post(page_of(eve), data)
    assert again.context["form"].data.getlist("channels") == []
    assert "From eve to bob: 3 rules" in again.text
    assert Rule.objects.get(pk=rule.pk).owner == eve
    data = again.context["form"].data.copy()
    data.setlist("channels", [inbox.pk, theirs.pk])
    admin_client.post(page_of(eve), data)
    assert rule.rule_channels.get().channel == theirs


def test_only_a_superuser_may(client, ada, eve):
    client.force_login(make_operator("grace", "auth.view_user", "auth.change_user"))
    before = names_of(ada)
    assert client.get(page_of(ada)).status_code == 403
    assert client.post(page_of(ada), {"to": eve.pk, "then": "delete"}).status_code == 403
    assert names_of(ada) == before
    form = client.get(reverse("admin:auth_user_change", args=[ada.pk])).text
    assert "ada has 4 rules, 1 open alert, 2 channels." in form
    assert "A superuser can hand the rules to another person." in form
    assert page_of(ada) not in form


def test_the_form_of_a_person_leads_there_and_says_it_again_when_they_become_inactive(admin_client, ada):
    form = reverse("admin:auth_user_change", args=[ada.pk])
    assert f'href="{page_of(ada)}"' in admin_client.get(form).text
    answer = admin_client.post(form, {"username": "ada", "email": "", "is_staff": "on"}, follow=True)
    assert User.objects.get(pk=ada.pk).is_active is False
    assert "ada has 4 rules, 1 open alert, 2 channels." in answer.text
    assert f'href="{page_of(ada)}"' in answer.text


def test_nobodys_account_has_no_such_page(admin_client):
    assert admin_client.get("/admin/auth/user/999/leave/").status_code == 404
