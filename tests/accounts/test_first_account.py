"""The account of who runs a new installation."""

from io import StringIO

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import RequestFactory


@pytest.mark.django_db
def test_it_is_made_once_with_a_password_that_is_printed():
    printed, again = StringIO(), StringIO()
    call_command("first_account", stdout=printed)
    call_command("first_account", stdout=again)

    request = RequestFactory().post("/")
    assert authenticate(request, username="admin", password=printed.getvalue().strip()) == User.objects.get()
    assert User.objects.get().is_superuser
    assert again.getvalue() == ""
