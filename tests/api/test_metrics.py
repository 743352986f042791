"""GET /metrics: for a token of its scope alone, which opens nothing else."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from apps.api.tokens.models import ApiToken
from apps.api.tokens.services import create_token
from tests.builders import make_operator, make_owner

pytestmark = pytest.mark.django_db


@pytest.fixture
def grace():
    return make_operator("grace", "api.read_metrics")


def get(client, secret, path="/metrics"):
    return client.get(path, headers={"Authorization": f"Bearer {secret}"})


def test_a_token_of_the_scope_reads_what_web_counts(client, grace):
    _, secret = create_token(owner=grace, name="prometheus", scope="metrics")
    client.get("/healthz")
    answer = get(client, secret)

    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    assert 'django_http_requests_total_by_method_total{method="GET"}' in answer.text
    assert (
        'django_http_responses_total_by_status_view_method_total{method="GET",status="200",view="healthz"}'
        in answer.text
    )
    assert "no-store" in answer.headers["Cache-Control"]


def test_statements_are_counted_on_each_kind_of_database_and_lookups_in_the_cache_too(client, grace):
    _, secret = create_token(owner=grace, name="prometheus", scope="metrics")
    text = get(client, secret).text

    assert f'django_db_execute_total{{alias="default",vendor="{connection.vendor}"}}' in text
    assert [f'fintech_cache_lookups_total{{outcome="{one}"}}' in text for one in ("hit", "miss")] == [True, True]


def test_the_cursors_of_a_connection_are_of_one_class():
    with connection.cursor() as one, connection.cursor() as other:
        assert type(one.cursor) is type(other.cursor)


def test_a_token_of_the_api_a_page_and_a_stranger_read_nothing(client, grace):
    _, secret = create_token(owner=grace, name="script", scope="write")
    answers = [get(client, secret), get(client, "fintech_wrong"), client.get("/metrics")]
    client.force_login(grace)
    answers.append(client.get("/metrics"))

    assert [one.status_code for one in answers] == [403, 401, 401, 401]
    assert [one.text for one in answers if "django_http" in one.text] == []


def test_the_owner_of_the_token_must_be_allowed_to(client):
    _, secret = create_token(owner=make_owner(), name="prometheus", scope="metrics")

    assert (get(client, secret).status_code, get(client, secret).text) == (
        403,
        "The owner of the token may not read metrics.",
    )


def test_a_token_that_is_over_reads_nothing(client, grace):
    over = timezone.now() - timedelta(seconds=1)
    _, secret = create_token(owner=grace, name="prometheus", scope="metrics", expires_at=over)

    assert get(client, secret).status_code == 401


def test_a_token_of_the_scope_opens_nothing_else(client, grace):
    _, secret = create_token(owner=grace, name="prometheus", scope="metrics")
    headers = {"Authorization": f"Bearer {secret}"}
    asked = [
        client.post(path, "{}", content_type="application/json", headers=headers)
        for path in ("/graphql", "/ingest/feed", "/alertmanager")
    ]

    assert [(one.status_code, one.json()["errors"][0]["message"]) for one in asked] == [
        (403, f"The token opens /metrics alone. This needs one of the scope {scope}.")
        for scope in ("read", "write", "write")
    ]


def test_the_command_makes_one(capsys, grace):
    call_command("create_token", "--owner", "grace", "--name", "prometheus", "--scope", "metrics")

    assert capsys.readouterr().out.startswith("fintech_")
    assert ApiToken.objects.get().scope == "metrics"
