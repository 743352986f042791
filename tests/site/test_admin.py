"""The pages of users and groups."""

import pytest
from django.contrib.auth.models import Group, User
from django.urls import reverse

from tests.builders import make_operator, make_told_alerts

PERMISSIONS = [f"auth.{verb}_user" for verb in ("view", "add", "change", "delete")]


@pytest.mark.django_db
def test_every_page_of_users_and_groups_answers(admin_client, admin_user):
    group = Group.objects.create(name="Owner")
    pages = [
        reverse("admin:index"),
        reverse("admin:auth_user_changelist"),
        reverse("admin:auth_user_add"),
        reverse("admin:auth_user_change", args=[admin_user.pk]),
        reverse("admin:auth_user_password_change", args=[admin_user.pk]),
        reverse("admin:auth_group_changelist"),
        reverse("admin:auth_group_add"),
        reverse("admin:auth_group_change", args=[group.pk]),
    ]
    assert [admin_client.get(page).status_code for page in pages] == [200] * len(pages)


@pytest.mark.django_db
def test_an_operator_makes_nobody_a_superuser(client):
    operator = make_operator("grace", *PERMISSIONS)
    client.force_login(operator)
    client.post(
        reverse("admin:auth_user_change", args=[operator.pk]),
        {"username": "grace", "is_active": "on", "is_staff": "on", "is_superuser": "on", "first_name": "Grace"},
    )
    operator.refresh_from_db()
    assert (operator.first_name, operator.is_superuser) == ("Grace", False)


@pytest.mark.django_db
def test_an_operator_changes_no_superuser(client, admin_user):
    client.force_login(make_operator("grace", *PERMISSIONS))
    page = reverse("admin:auth_user_password_change", args=[admin_user.pk])
    assert client.get(page).status_code == 403
    assert client.post(reverse("admin:auth_user_change", args=[admin_user.pk]), {"username": "x"}).status_code == 403


@pytest.mark.django_db
def test_nobody_is_deleted_with_their_rules(admin_client, admin_user):
    make_told_alerts(admin_user, 1)
    page = reverse("admin:auth_user_delete", args=[admin_user.pk])
    assert admin_client.post(page, {"post": "yes"}).status_code == 403
    assert User.objects.count() == 1
