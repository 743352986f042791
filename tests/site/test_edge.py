"""Headers of every answer, bare error pages, and cookies."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.core.exceptions import SuspiciousOperation
from django.test import Client, override_settings
from django.urls import include, path

from fintech.urls import urlpatterns as real

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-10.0.0.1"
STRICT = {
    *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'"),
    *("connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"),
}
PRODUCTION = {
    "DATABASE_URL": "postgres://fintech:long-and-own@127.0.0.1:5432/fintech",
    "CELERY_BROKER_URL": "amqp://fintech:long-and-own@127.0.0.1:5672/fintech",
    "REDIS_URL": "redis://:long-and-own@127.0.0.1:6379/0",
    "DJANGO_SECRET_KEY": "k9Q-mD2xV7bN4cZ8wR1tY6uI3oP5aS0dF-k9Q-mD2xV7bN4cZ8wR1tY6uI3oP5aS0dF",
    "DJANGO_ALLOWED_HOSTS": "fintech.example.org",
    "SITE_URL": "https://fintech.example.org",
}


def fail(request):
    raise RuntimeError(CANARY)


def suspect(request):
    raise SuspiciousOperation(CANARY)


urlpatterns = [path("fail", fail), path("suspect", suspect), path("", include(real))]


def policy(answer):
    """Return the directives of the Content-Security-Policy."""
    return set(answer["Content-Security-Policy"].split("; "))


@pytest.fixture
def stranger(settings):
    """A browser that is shown errors as visitors see them."""
    settings.ROOT_URLCONF = __name__
    return Client(raise_request_exception=False, enforce_csrf_checks=True)


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/", "/live", "/accounts/login/", "/accounts/reset/", "/healthz", "/nothing"])
def test_the_policy_is_strict_outside_the_admin(client, address):
    assert policy(client.get(address)) == STRICT


@pytest.mark.django_db
def test_the_admin_gets_what_its_pages_need_and_no_inline_script(admin_client):
    for address in ("/admin/", "/admin/market/feed/", "/admin/auth/user/add/"):
        rules = policy(admin_client.get(address))
        assert rules - STRICT == {"script-src 'self' 'unsafe-eval'", "style-src 'self' 'unsafe-inline'"}
        assert STRICT - rules == {"script-src 'self'", "style-src 'self'"}


@pytest.mark.django_db
def test_pages_of_the_admin_have_no_inline_script(admin_client, admin_user):
    for address in ("/admin/", "/admin/market/feed/add/", f"/admin/auth/user/{admin_user.pk}/change/"):
        tags = re.findall(r"<script\b[^>]*>", admin_client.get(address).text)
        assert tags
        assert [tag for tag in tags if "src=" not in tag and "application/json" not in tag] == []


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/", "/admin/", "/healthz", "/nothing", "/static/site/front.css"])
def test_every_answer_forbids_frames_and_guesses(admin_client, address):
    answer = admin_client.get(address)
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer.get("X-Frame-Options", "DENY") == "DENY"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "status", "text"),
    [
        ("/nothing/at/all", 404, "Nothing is here"),
        ("/suspect", 400, "This request cannot be read"),
        ("/fail", 500, "Something went wrong here"),
    ],
)
def test_errors_are_bare_pages_of_the_site(stranger, address, status, text):
    answer = stranger.get(address)
    assert answer.status_code == status
    assert text in answer.text
    assert "site/front.css" in answer.text
    assert not [leak for leak in (CANARY, "RuntimeError", "Traceback", "urlconf", address) if leak in answer.text]


def test_the_page_of_an_error_needs_no_database(stranger):
    """(No mark: a statement would fail.)"""
    assert stranger.get("/fail").status_code == 500
    assert stranger.get("/nothing").status_code == 404


@pytest.mark.django_db
def test_a_form_without_its_token_is_refused_with_the_reason(stranger):
    answer = stranger.post("/accounts/login/", {"username": "ada", "password": "x"})
    assert answer.status_code == 403
    assert "Nothing was done" in answer.text
    assert "CSRF" not in answer.text


@pytest.mark.django_db
def test_who_lacks_a_permission_reads_that_and_no_more(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("grace", is_staff=True))
    answer = client.get("/admin/market/feed/")
    assert (answer.status_code, "You do not have access to this page" in answer.text) == (403, True)


@pytest.mark.django_db
def test_a_host_that_is_not_ours_gets_400(client, settings):
    settings.ALLOWED_HOSTS = ["fintech.example.org"]
    answer = client.get("/", headers={"host": "evil.example.com"})
    assert answer.status_code == 400
    assert "evil" not in answer.text


@pytest.mark.django_db
def test_a_form_of_megabytes_is_refused(client):
    answer = client.post("/accounts/login/", {"username": "a" * (configured.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)})
    assert answer.status_code == 400


@pytest.mark.django_db
def test_cookies_are_for_this_site_and_not_for_scripts(client, django_user_model):
    django_user_model.objects.create_user("ada", password="a long enough phrase")
    client.get("/accounts/login/")
    client.post("/accounts/login/", {"username": "ada", "password": "a long enough phrase"})
    for name in ("sessionid", "csrftoken"):
        assert (client.cookies[name]["httponly"], client.cookies[name]["samesite"]) == (True, "Lax")


@pytest.mark.django_db
@override_settings(SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["testserver"])
def test_where_the_site_is_https_all_but_health_is_sent_there(client):
    answer = client.get("/accounts/login/")
    assert (answer.status_code, answer["Location"]) == (301, "https://testserver/accounts/login/")
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


@pytest.mark.django_db
@override_settings(SECURE_SSL_REDIRECT=True)
def test_a_visitor_cannot_claim_to_come_by_https(client):
    assert client.get("/", headers={"x-forwarded-proto": "https"}).status_code == 301


def deploy_check(folder, **variables):
    """Run Django's own check of a deployment in a process with these variables and no others of ours."""
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(folder)} | PRODUCTION | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_deployment_passes_djangos_own_check(tmp_path):
    done = deploy_check(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_deployment_by_http_does_not_pass_it(tmp_path):
    done = deploy_check(tmp_path, SITE_URL="http://fintech.example.org")
    assert done.returncode == 1
    assert {"security.W004", "security.W008", "security.W012", "security.W016"} <= set(
        re.findall(r"security\.W\d+", done.stderr)
    )


def shown(folder, *names, **variables):
    """Return settings as a process with these variables has them."""
    text = ", ".join(f"getattr(settings, {name!r}, None)" for name in names)
    done = subprocess.run(
        [sys.executable, "-c", f"from django.conf import settings; print([{text}])"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "fintech.settings"}
        | PRODUCTION
        | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_https_is_what_site_url_says(tmp_path):
    names = ["SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS"]
    assert shown(tmp_path, *names) == "[True, True, True, 31536000]"
    assert shown(tmp_path, *names, SITE_URL="http://fintech.example.org") == "[False, False, False, 0]"


def test_what_a_proxy_says_is_believed_only_where_that_is_set(tmp_path):
    assert shown(tmp_path, "SECURE_PROXY_SSL_HEADER") == "[None]"
    value = shown(tmp_path, "SECURE_PROXY_SSL_HEADER", TRUST_PROXY_HEADERS="true")
    assert value == "[('HTTP_X_FORWARDED_PROTO', 'https')]"


def test_the_sites_own_name_is_allowed_by_itself(tmp_path):
    assert (
        shown(tmp_path, "ALLOWED_HOSTS", DJANGO_ALLOWED_HOSTS="")
        == "[['localhost', '127.0.0.1', 'fintech.example.org']]"
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address",
    [
        "/admin/notify/message/?status=%00",
        "/admin/notify/message/?q=a%00b",
        "/admin/alerts/alert/?kind__exact=%00",
        "/admin/market/asset/?q=%00",
        "/admin/autocomplete/?app_label=notify&model_name=silence&field_name=rule&term=%00",
    ],
)
def test_an_address_with_a_nul_is_refused(admin_client, address):
    answer = admin_client.get(address)

    assert (answer.status_code, answer.text) == (400, "An address cannot have a NUL in it.")
