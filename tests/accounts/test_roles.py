import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured

from apps.accounts import roles

pytestmark = pytest.mark.django_db


def permissions_of(name):
    rows = Group.objects.get(name=name).permissions.values_list("content_type__app_label", "codename")
    return {f"{label}.{codename}" for label, codename in rows}


@pytest.mark.parametrize("name", sorted(roles.PERMISSIONS))
def test_each_group_has_exactly_the_permissions_that_it_is_to_have(name):
    assert permissions_of(name) == set(roles.PERMISSIONS[name])


@pytest.mark.parametrize("permission", ["market.view_film", "nowhere.view_feed", "market.push"])
def test_a_permission_that_no_model_has_is_refused_and_no_group_is_changed(monkeypatch, permission):
    before = permissions_of(roles.OPERATOR)
    monkeypatch.setitem(roles.PERMISSIONS, roles.OPERATOR, [*roles.PERMISSIONS[roles.OPERATOR][1:], permission])

    with pytest.raises(ImproperlyConfigured, match=f"^no model has the permission {permission},"):
        roles.make_groups()

    assert permissions_of(roles.OPERATOR) == before
