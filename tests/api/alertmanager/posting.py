"""Notifications of Alertmanager, posted."""

import json

from apps.alerts.models import Alert, AlertEvent
from apps.notify.models import Notification
from tests.api.asking import codes

URL = "/alertmanager"
JSON = "application/json"
DEEP = "[" * 300 + "]" * 300

# As Alertmanager 0.25.0 sent it, but for its times.
PAYLOAD = (
    '{"receiver":"fintech","status":"firing","alerts":[%s],'
    '"groupLabels":{"alertname":"FeedBehind"},"commonLabels":{"alertname":"FeedBehind","instance":"127.0.0.1:8000",'
    '"job":"fintech","severity":"warning"},"commonAnnotations":{"description":"Nothing for 5 minutes.",'
    '"summary":"A feed is behind."},"externalURL":"http://vm:19093","version":"4",'
    '"groupKey":"{}:{alertname=\\"FeedBehind\\"}","truncatedAlerts":0}\n'
)
FIRING = {
    "status": "firing",
    "labels": {"alertname": "FeedBehind", "instance": "127.0.0.1:8000", "job": "fintech", "severity": "warning"},
    "annotations": {"description": "Nothing for 5 minutes.", "summary": "A feed is behind."},
    "startsAt": "2026-03-02T12:00:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus.example.org/graph",
    "fingerprint": "9c06435e70f8a761",
}


def payload(*alerts, **changes):
    """Return a payload with these alerts, and with further fields of its own."""
    return json.dumps(json.loads(PAYLOAD % "") | {"alerts": alerts} | changes)


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def counts(response):
    """Return (opened, resolved, repeated) of an answer that left nothing out."""
    assert response.status_code == 200, response.content
    answer = response.json()
    assert (answer.pop("left_out"), answer.pop("refused"), answer.pop("reasons")) == (0, 0, [])
    assert list(answer) == ["opened", "resolved", "repeated"]
    return tuple(answer.values())


def refused(response, status, code):
    """Assert that the answer has one error in words of ours, and that nothing was written."""
    assert (response.status_code, codes(response)) == (status, [code]), response.content
    assert list(response.json()) == ["errors"]
    assert not (Alert.objects.exists() or AlertEvent.objects.exists() or Notification.objects.exists())
    return response.json()["errors"][0]["message"]
