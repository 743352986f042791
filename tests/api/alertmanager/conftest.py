"""Fixtures of the webhook of Alertmanager."""

import pytest

from apps.api.tokens.services import create_token
from tests.api.alertmanager.posting import JSON, URL, bearer, payload
from tests.builders import make_operator


@pytest.fixture
def secret():
    """Return the token of somebody who may send alerts about the installation and nothing else."""
    sender = make_operator("alertmanager", "alerts.send_system_alerts")
    _, secret = create_token(owner=sender, name="webhook", scope="write")
    return secret


@pytest.fixture
def post(client, secret):
    """Return a function that posts alerts, or any other content, with the token."""

    def send(*alerts, content=None, url=URL, content_type=JSON, **headers):
        body = payload(*alerts) if content is None else content
        return client.post(url, body, content_type=content_type, headers=bearer(secret) | headers)

    return send
