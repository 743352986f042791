"""Metrics of several web processes: each request is counted once, whichever process answered it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from apps.api.tokens.services import create_token
from tests.builders import make_operator
from tests.rig import free_port, rig, wait_until

REQUESTS = 40


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_each_request_is_counted_once_by_several_processes(tmp_path):
    _, secret = create_token(owner=make_operator("grace", "api.read_metrics"), name="prometheus", scope="metrics")
    port = free_port()
    (tmp_path / "metrics").mkdir()

    def get(path, **headers):
        try:
            return requests.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=20).text
        except requests.RequestException:
            return None

    with rig(tmp_path, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics")) as processes:
        processes.start(
            *("gunicorn", "fintech.wsgi", "--bind", f"127.0.0.1:{port}", "--worker-class", "fintech.web.WebWorker"),
            *("--workers", "3", "--threads", "2", "--no-control-socket"),
            name="web",
        )
        wait_until(lambda: get("/healthz"))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: get("/readyz"), range(REQUESTS)))
            assert [answer.partition(",")[0] for answer in answers] == ["ok"] * REQUESTS
        text = get("/metrics", Authorization=f"Bearer {secret}")

    name = 'django_http_responses_total_by_status_view_method_total{method="GET",status="200",view="readyz"}'
    assert f"{name} {REQUESTS}.0" in text.splitlines()
    assert len(list((tmp_path / "metrics").glob("counter_*.db"))) == 3
