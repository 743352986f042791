"""The pages of users and groups: who may give what to whom."""

from html import unescape
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from apps.accounts import roles
from tests.builders import make_notified_alerts, make_operator, make_owner
from tests.threads import at_once

PASSWORDS = {"password1": "a long enough phrase", "password2": "a long enough phrase"}
ADD = "/admin/auth/user/add/"


@pytest.fixture(autouse=True)
def _no_mail(settings):
    settings.EMAIL_CONFIGURED = False


@pytest.fixture
def grace(db):
    """A member of the group Operator, and nothing else."""
    grace = make_operator("grace")
    grace.groups.add(Group.objects.get(name="Operator"))
    return grace


@pytest.fixture
def graces(client, grace):
    """Her browser."""
    client.force_login(grace)
    return client


def group(name):
    return Group.objects.get(name=name)


def names(permissions):
    return {".".join(pair) for pair in permissions.values_list("content_type__app_label", "codename")}


def change(user):
    return reverse("admin:auth_user_change", args=[user.pk])


def powers(user):
    """Return all that a user may do, as it is stored."""
    user = User.objects.get(pk=user.pk)
    return (
        user.is_superuser,
        user.is_staff,
        user.is_active,
        set(user.groups.values_list("name", flat=True)),
        names(user.user_permissions),
        user.email,
        user.password,
    )


@pytest.mark.django_db
def test_an_owner_may_do_exactly_this():
    rows = ("rules_rule", "notify_channel", "notify_silence", "api_apitoken", "portfolios_portfolio")
    rows += ("portfolios_transaction", "market_derivedseries")
    verbs = ("view", "add", "change", "delete")
    expected = {f"{row.split('_')[0]}.{verb}_{row.split('_')[1]}" for row in rows for verb in verbs}
    assert names(group("Owner").permissions) == expected | {
        *("alerts.view_alert", "alerts.change_alert", "notify.view_message", "market.view_asset"),
        "sources.add_backfill",
        *(f"portfolios.{verb}_importfile" for verb in ("view", "delete")),
        *(f"portfolios.{verb}_reconciliation" for verb in ("view", "add", "delete")),
    }


@pytest.mark.django_db
def test_an_operator_may_do_nothing_to_what_owners_own_and_not_delete_people_or_feeds():
    found = names(group("Operator").permissions)
    assert {"market.add_feed", "market.change_asset", "auth.add_user", "auth.change_user"} <= found
    # Of alerts, those about the installation alone: the list shows no others.
    of_alerts = {one for one in found if one.startswith("alerts.")}
    assert of_alerts == {"alerts.view_alert", "alerts.change_alert", "alerts.view_system_alerts"}
    assert {one for one in found if one.startswith("api.")} == {"api.read_metrics"}
    assert {one.split(".")[0] for one in found - of_alerts} == {"market", "sources", "auth", "api", "portfolios"}
    assert {one for one in found if one.startswith("portfolios.")} == {
        *("portfolios.view_pricerequest", "portfolios.delete_pricerequest"),
    }
    assert found & {"auth.delete_user", "market.delete_feed", "market.delete_asset", "auth.change_group"} == set()


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(roles.PERMISSIONS))
def test_every_permission_that_is_named_is_there(name):
    assert names(group(name).permissions) == set(roles.PERMISSIONS[name])


@pytest.mark.django_db
def test_migrate_sets_the_groups_right_and_leaves_their_members():
    ada = make_owner()
    ada.groups.add(group("Owner"))
    group("Owner").permissions.set(Permission.objects.filter(codename="delete_user"))
    group("Operator").delete()
    mine = Group.objects.create(name="Auditor")
    mine.permissions.set(Permission.objects.filter(codename="view_user"))
    call_command("migrate", verbosity=0)
    assert names(group("Owner").permissions) == set(roles.PERMISSIONS["Owner"])
    assert names(group("Operator").permissions) == set(roles.PERMISSIONS["Operator"])
    assert list(group("Owner").user_set.all()) == [ada]
    assert names(mine.permissions) == {"auth.view_user"}


@pytest.mark.django_db
def test_every_page_of_users_and_groups_answers(admin_client, admin_user):
    owner = group("Owner")
    pages = [
        reverse("admin:index"),
        reverse("admin:auth_user_changelist"),
        ADD,
        change(admin_user),
        reverse("admin:auth_user_password_change", args=[admin_user.pk]),
        reverse("admin:auth_group_changelist"),
        reverse("admin:auth_group_add"),
        reverse("admin:auth_group_change", args=[owner.pk]),
    ]
    assert [admin_client.get(page).status_code for page in pages] == [200] * len(pages)


def test_an_owner_whom_an_operator_makes_may_enter_the_admin_and_see_their_own(graces, client):
    answer = graces.post(
        ADD, {"username": "eva", "email": "eva@example.org", "groups": [group("Owner").pk], **PASSWORDS}
    )
    assert answer.status_code == 302
    eva = User.objects.get(username="eva")
    assert powers(eva)[:5] == (False, True, True, {"Owner"}, set())
    client.force_login(eva)
    pages = ["/admin/", "/admin/rules/rule/", "/admin/notify/channel/", "/admin/alerts/alert/", "/admin/market/asset/"]
    assert [client.get(page).status_code for page in pages] == [200] * 5
    hidden = ["/admin/market/feed/", "/admin/auth/user/", "/admin/auth/group/", "/admin/market/feedentry/"]
    assert [client.get(page).status_code for page in hidden] == [403] * 4


def test_who_is_in_no_group_may_not_enter_the_admin(graces):
    graces.post(ADD, {"username": "eva", "email": "", **PASSWORDS})
    assert powers(User.objects.get(username="eva"))[:2] == (False, False)


def test_an_account_that_joins_a_group_later_may_enter_then(graces):
    eva = make_owner("eva")
    graces.post(
        change(eva), {"username": "eva", "email": "eva@example.org", "is_active": "on", "groups": [group("Owner").pk]}
    )
    assert powers(eva)[:4] == (False, True, True, {"Owner"})


def test_an_operator_switches_an_account_off(graces, client):
    eva = make_owner("eva")
    graces.post(change(eva), {"username": "eva", "email": ""})
    assert User.objects.get(username="eva").is_active is False


@pytest.mark.parametrize(
    "name",
    ["Alice", "ALICE", "al\u0131ce", "álice", "a1ice", "aIice", "\uff41lice", "\u0430lice", "оса"],
)
def test_a_name_that_could_be_taken_for_another_is_refused(graces, name):
    make_owner("alice")
    bob = make_owner("bob")
    before = set(User.objects.values_list("username", flat=True))

    answers = [
        graces.post(ADD, {"username": name, "email": "", **PASSWORDS}),
        graces.post(change(bob), {"username": name, "email": "", "is_active": "on"}),
    ]

    for answer in answers:
        assert "looks the same" in answer.text or "look the same" in answer.text
    assert set(User.objects.values_list("username", flat=True)) == before


def test_a_name_may_have_marks_and_stay_as_it_is(graces):
    graces.post(ADD, {"username": "Jürgen.O-Neil+1", "email": "", **PASSWORDS})
    made = User.objects.get(username="Jürgen.O-Neil+1")
    graces.post(change(made), {"username": made.username, "email": "j@example.org", "is_active": "on"})
    assert User.objects.get(pk=made.pk).email == "j@example.org"


def test_without_mail_the_operator_sets_the_password_and_it_is_checked(graces):
    answer = graces.post(ADD, {"username": "eva", "email": "", "password1": "password", "password2": "password"})
    assert "too common" in answer.text
    assert not User.objects.filter(username="eva").exists()


def test_with_mail_an_account_needs_an_address(graces, settings):
    settings.EMAIL_CONFIGURED = True
    answer = graces.post(ADD, {"username": "eva", "email": ""})
    assert "This field is required" in answer.text
    assert not User.objects.filter(username="eva").exists()


def test_of_the_mail_to_a_new_account_the_page_says_what_is_known(graces, settings, monkeypatch):
    settings.EMAIL_CONFIGURED = True
    queued = []
    monkeypatch.setattr("apps.accounts.services._mailer", SimpleNamespace(submit=lambda *one, **_: queued.append(one)))
    answer = graces.post(ADD, {"username": "eva", "email": "eva@example.org"}, follow=True)
    said = unescape(answer.text)
    assert len(queued) == 1
    assert "is queued for eva@example.org" in said
    assert '"password mail not sent"' in said
    assert "eva can ask for another: Forgot your password?" in said
    assert "is being sent" not in said


ESCALATIONS = {
    "superuser": {"is_superuser": "on"},
    "staff": {"is_staff": "on", "is_superuser": "on"},
    "permissions": {"user_permissions": ["1", "2", "3"]},
    "password": {"password": "md5$a$b"},
}


@pytest.mark.parametrize("more", ESCALATIONS.values(), ids=ESCALATIONS.keys())
def test_an_operator_makes_nobody_more_than_the_groups_do(graces, more):
    graces.post(ADD, {"username": "eva", "email": "", "groups": [group("Operator").pk], **PASSWORDS, **more})
    eva = User.objects.get(username="eva")
    assert powers(eva)[:5] == (False, True, True, {"Operator"}, set())
    assert eva.check_password(PASSWORDS["password1"])


@pytest.mark.parametrize("more", ESCALATIONS.values(), ids=ESCALATIONS.keys())
def test_an_operator_makes_themselves_no_more_either(graces, grace, more):
    before = powers(grace)
    form = {"username": "grace", "email": "grace@example.org", "is_active": "on", "groups": [group("Operator").pk]}
    assert graces.post(change(grace), form | more).status_code == 302
    assert powers(grace) == before


@pytest.mark.parametrize("page", ["add", "change"])
def test_an_operator_hands_out_no_other_group(graces, grace, page):
    boss = Group.objects.create(name="Boss")
    boss.permissions.set(Permission.objects.all())
    form = {"username": "grace" if page == "change" else "eva", "email": "", "is_active": "on", "groups": [boss.pk]}
    answer = graces.post(change(grace) if page == "change" else ADD, form | PASSWORDS)
    assert "Select a valid choice" in answer.text
    assert "Boss" not in answer.text
    assert boss.user_set.count() == 0


def superuser():
    return User.objects.create_superuser("root", "root@example.org", "a long enough phrase")


def with_permission():
    eva = make_operator("eva", "auth.change_group")
    return eva


def in_other_group():
    eva = make_owner("eva")
    eva.groups.add(Group.objects.create(name="Boss"))
    return eva


@pytest.mark.parametrize("make", [superuser, with_permission, in_other_group])
def test_an_operator_does_not_touch_who_may_do_more(graces, make):
    """A new address in such an account, and a new password by mail, would be a way in."""
    eva = make()
    before = powers(eva)
    form = {"username": "x", "email": "grace@example.org", "is_active": ""}
    password = reverse("admin:auth_user_password_change", args=[eva.pk])
    answers = [
        graces.post(change(eva), form),
        graces.get(password),
        graces.post(password, PASSWORDS | {"usable_password": "true"}),
        graces.post(reverse("admin:auth_user_delete", args=[eva.pk]), {"post": "yes"}),
        graces.post("/admin/auth/user/", {"action": "delete_selected", "_selected_action": [eva.pk], "post": "yes"}),
    ]
    assert [answer.status_code for answer in answers[:4]] == [403] * 4
    assert powers(eva) == before


def test_an_operator_sees_nothing_of_how_a_superusers_password_is_kept(graces):
    text = graces.get(change(superuser())).text
    assert "root@example.org" in text
    assert "md5" not in text
    assert "pbkdf2" not in text


def test_the_list_of_people_is_not_asked_by_passwords_or_powers(graces):
    superuser()
    for query in ("password__startswith", "is_superuser__exact", "user_permissions__codename", "rules__id__exact"):
        assert graces.get("/admin/auth/user/", {query: "1"}).status_code == 400


def test_an_operator_has_no_page_of_groups_even_with_the_permission(graces, grace):
    grace.user_permissions.set(Permission.objects.filter(content_type__model="group"))
    owner = group("Owner")
    page = reverse("admin:auth_group_change", args=[owner.pk])
    everything = list(Permission.objects.values_list("pk", flat=True))
    answers = [
        graces.get("/admin/auth/group/"),
        graces.get(page),
        graces.post(page, {"name": "Owner", "permissions": everything}),
        graces.post(reverse("admin:auth_group_add"), {"name": "Boss", "permissions": everything}),
        graces.post(reverse("admin:auth_group_delete", args=[owner.pk]), {"post": "yes"}),
    ]
    assert [answer.status_code for answer in answers] == [403] * 5
    assert names(owner.permissions) == set(roles.PERMISSIONS["Owner"])


@pytest.mark.django_db
def test_a_superuser_gives_all_that_there_is(admin_client):
    eva, boss = make_owner("eva"), Group.objects.create(name="Boss")
    permission = Permission.objects.get(codename="change_group")
    form = {"username": "eva", "email": "", "is_active": "on", "is_superuser": "on", "is_staff": "on"}
    admin_client.post(change(eva), form | {"groups": [boss.pk], "user_permissions": [permission.pk]})
    assert powers(eva)[:5] == (True, True, True, {"Boss"}, {"auth.change_group"})


@pytest.mark.django_db
def test_nobody_is_deleted_with_their_rules(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    page = reverse("admin:auth_user_delete", args=[admin_user.pk])
    assert admin_client.post(page, {"post": "yes"}).status_code == 403
    assert User.objects.count() == 1


OF_SUPERUSERS = {"is_active": "on", "is_superuser": "on", "is_staff": "on"}


@pytest.mark.django_db
@pytest.mark.parametrize("without", OF_SUPERUSERS)
def test_the_last_superuser_stays_one_and_the_field_says_so(admin_client, admin_user, without):
    # One who cannot sign in is no other.
    User.objects.create_superuser("idle", is_active=False)
    before = powers(admin_user)
    form = {"username": "admin", "email": "other@example.org"} | OF_SUPERUSERS
    del form[without]
    answer = admin_client.post(change(admin_user), form)
    assert set(answer.context["adminform"].form.errors) == {without}
    assert "Make another superuser first." in answer.text
    assert powers(admin_user) == before
    User.objects.create_superuser("root")
    assert admin_client.post(change(admin_user), form).status_code == 302
    assert getattr(User.objects.get(pk=admin_user.pk), without) is False


@pytest.mark.django_db
def test_the_last_superuser_is_changed_otherwise(admin_client, admin_user):
    form = {"username": "admin", "email": "other@example.org"} | OF_SUPERUSERS
    assert admin_client.post(change(admin_user), form).status_code == 302
    assert User.objects.get().email == "other@example.org"


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_superusers_who_make_each_other_inactive_at_once_one_stays():
    both = [User.objects.create_superuser(name) for name in ("ada", "eve")]
    browsers = [Client() for _ in both]
    for browser, user in zip(browsers, both, strict=True):
        browser.force_login(user)

    def switch_off(browser, other):
        form = {"username": other.username, "email": "", "is_superuser": "on", "is_staff": "on"}
        return browser.post(change(other), form).status_code

    answers = at_once(*(lambda one=one: switch_off(*one) for one in zip(browsers, reversed(both), strict=True)))
    assert User.objects.filter(is_active=True).count() == 1, answers
