"""The accounts and tokens of Prometheus and Alertmanager in containers."""

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from apps.api.tokens.models import ApiToken
from apps.api.tokens.queries import digest_of

pytestmark = pytest.mark.django_db
OPTIONS = ("--account", "prometheus", "--permission", "api.read_metrics", "--scope", "metrics")


def test_an_account_with_one_permission_gets_a_token_in_a_file_once(tmp_path):
    file = tmp_path / "prometheus"
    call_command("service_token", str(file), *OPTIONS)
    secret = file.read_text()
    call_command("service_token", str(file), *OPTIONS)

    account = User.objects.get(username="prometheus")
    assert account.get_all_permissions() == {"api.read_metrics"}
    assert not account.has_usable_password()
    [token] = ApiToken.objects.all()
    assert (token.owner, token.scope, token.digest) == (account, "metrics", digest_of(secret))
    assert file.read_text() == secret


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        call_command("service_token", str(tmp_path / "absent/prometheus"), *OPTIONS)

    assert capsys.readouterr().err.endswith("absent/prometheus cannot be written: No such file or directory\n")
    assert not User.objects.exists() and not ApiToken.objects.exists()


def test_an_unknown_permission_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        call_command("service_token", str(tmp_path / "x"), *OPTIONS[:3], "api.fly", *OPTIONS[4:])

    assert capsys.readouterr().err == "service_token: --permission: there is no such permission\n"
