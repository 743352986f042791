"""The real Prometheus and Alertmanager on the running stack: what rules and dashboards ask for is there; in trouble,
each expression of a dashboard gives data, and alerts arrive."""

import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
import yaml
from celery import current_app
from django.conf import settings
from django.db import connection
from django.utils import timezone

from apps.alerts.models import Alert
from apps.api.monitoring.prometheus import CURATED, curated_expression
from apps.api.tokens.services import create_token
from apps.health.models import Problem
from apps.market.domain import RawQuote
from apps.market.models import Feed
from apps.notify.services import create_channel, set_channels
from apps.pipeline.queues import dead_letter_queue
from apps.pipeline.scenarios import flood
from apps.sources.services import Pushed, record_pushed
from fintech.settings.env import place
from tests.builders import TRACE, above, make_feed, make_operator, make_owner, make_rule
from tests.monitoring.promql import parsed, plain, selectors
from tests.monitoring.test_dashboards import PROMQL
from tests.monitoring.test_rules import BROKER_PORT, EXPORTERS, RULES
from tests.rig import free_port, process_environment, rig, wait_until

ROOT = Path(__file__).resolve().parents[2]
STALE_ALONE = (
    'ALERTS{alertname="FeedsStopped", alertstate="firing"} '
    'and on () fintech_problems_by_subject{subject="feed", level="stopped"} == 1'
)
WORKERS = ("watcher", "notifier", "retries", "backtests", "analyzer")

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


def configure(tmp_path, ports):
    """Write the files of prometheus/ with these ports, without the time that alerts wait; return their folder."""
    folder = tmp_path / "prometheus"
    shutil.copytree(ROOT / "prometheus", folder)
    configured = yaml.safe_load((folder / "prometheus.yml").read_text())
    configured["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configured["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{ports['alertmanager']}"]
    for one in configured["scrape_configs"]:
        if "scrape_interval" not in one:
            one.pop("scrape_timeout", None)
        # One worker does the work of all.
        port = ports["worker" if one["job_name"] in WORKERS else one["job_name"]]
        one["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configured))
    rules = folder / "rules/alerts.yml"
    rules.write_text(re.sub(r"for: \w+", "for: 1s", rules.read_text()))
    receivers = folder / "alertmanager.yml"
    receivers.write_text(receivers.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{ports['web']}"))
    return folder


def asked(port, query):
    """Return what Prometheus answers to a query; nothing while it does not listen yet."""
    address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        # 503: it has not begun yet. Anything else is a fault of the query.
        assert error.code == 503, error.read().decode()
        return []
    except OSError:
        return []


def push(price):
    now = timezone.now()
    quotes = [RawQuote("A", str(price), now)]
    record_pushed(
        feed_name="pushed", pushes=[Pushed(received_at=now, quotes=quotes, sender="t")], now=now, trace_id=TRACE
    )


def make_market(ada, *, nobody):
    """Make a feed that is pushed to, with a rule that notifies an inbox and a receiver that does not listen, one that
    nobody pushes to, one that is not answered, and one that is paused, whose provider limits the calls of a day."""
    make_feed("A", name="pushed", provider="push")
    rule = make_rule(ada, assets=["A"], condition=above(100))
    inbox = create_channel(owner=ada, name="Inbox", kind="inbox", config={})
    away = create_channel(owner=ada, name="Away", kind="webhook", config={"url": f"http://{nobody}/"})
    set_channels(rule=rule, channels=[inbox, away])
    make_feed("C", name="paused", provider="alphavantage", is_enabled=False)
    stale = make_feed("D", name="stale", provider="push").sources.get()
    stale.options = {"expect_every": "2s"}
    stale.save()
    # It fails, and has not stopped for as long as the test may take.
    source = make_feed("B", name="failing", silent_after_seconds=3_600).sources.get()
    source.options = {"script": [{"kind": "outage", "after": "1s", "duration": "7d"}]}
    source.clean()
    source.save()


def start_exporters(processes, listen):
    """Start the exporters of this machine, and of the servers and workers of the tests."""
    database = "postgresql://grafana:grafana@{HOST}:{PORT}/{NAME}?sslmode=disable".format(**connection.settings_dict)
    processes.run("prometheus-node-exporter", f"--web.listen-address={listen['node']}", name="node")
    processes.run(
        *("prometheus-postgres-exporter", f"--web.listen-address={listen['postgres']}"),
        name="postgres",
        DATA_SOURCE_NAME=database,
    )
    processes.run(
        *("prometheus-redis-exporter", "-redis.addr", settings.REDIS_URL.rpartition("/")[0]),
        *("-web.listen-address", listen["redis"]),
        name="redis",
    )
    processes.run(
        *(".venv-celery-exporter/bin/python", "compose/celery-exporter/run.py"),
        name="celery",
        CE_LISTEN=listen["celery"],
        CE_BROKER_URL=settings.CELERY_BROKER_URL,
    )


@contextmanager
def unacknowledged_message():
    """Have a message of which the broker knows that somebody has it."""
    with current_app.connection_for_write() as broker:
        channel, name = broker.default_channel, dead_letter_queue().name
        channel.basic_publish(
            channel.prepare_message(b"held", content_encoding="binary"), exchange="", routing_key=name
        )
        wait_until(lambda: channel.basic_get(name, no_ack=False))
        yield


def reported(name):
    """Return the alert of this name that Alertmanager has reported, once it has."""
    return Alert.objects.filter(kind="system", evidence__labels__alertname=name).first()


def stopped_feeds():
    """Return (name, code) of each feed that has stopped, and was not meant to."""
    rows = Problem.objects.filter(subject="feed", level="stopped").exclude(code="paused")
    names = dict(Feed.objects.values_list("pk", "name"))
    return {(names[pk], code) for pk, code in rows.values_list("subject_id", "code")}


def test_what_rules_and_dashboards_ask_for_is_there_and_trouble_is_reported(tmp_path, monkeypatch):
    nobody = f"127.0.0.1:{free_port()}"
    monkeypatch.setattr(settings, "OUTBOUND_ALLOW", [place(nobody)])
    make_market(make_owner(), nobody=nobody)
    (tmp_path / "var").mkdir()
    for name, permission, scope in (
        ("prometheus", "api.read_metrics", "metrics"),
        ("alertmanager", "alerts.send_system_alerts", "write"),
    ):
        _, secret = create_token(owner=make_operator(name, permission), name=name, scope=scope)
        (tmp_path / f"var/{name}.token").write_text(secret)
    (tmp_path / "web").mkdir()
    own = ("web", "rows", "worker", "ingest", "beat", "prometheus", "alertmanager")
    ports = {name: free_port() for name in (*own, *EXPORTERS)} | {"rabbitmq": BROKER_PORT}
    folder = configure(tmp_path, ports)
    listen = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    with rig(tmp_path, OUTBOUND_ALLOW=nobody) as processes:
        processes.start(
            *("gunicorn", "fintech.wsgi", "--bind", listen["web"], "--worker-class", "fintech.web.WebWorker"),
            *("--threads", "2", "--no-control-socket"),
            name="web",
            PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "web"),
        )
        worker = processes.worker(
            concurrency=2, include="tests.pipeline.counted_tasks", METRICS_LISTEN=listen["worker"]
        )
        processes.start(
            *("celery", "-A", "fintech", "beat", "--pidfile="),
            name="beat",
            METRICS_LISTEN=listen["beat"],
        )
        # A primary in the place of a replica, which is not read.
        primary = process_environment()["DATABASE_URL"]
        processes.start("manage", "metrics", name="rows", METRICS_LISTEN=listen["rows"], DATABASE_REPLICA_URL=primary)
        processes.start("manage", "ingest", name="ingest", METRICS_LISTEN=listen["ingest"])
        processes.run(
            *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb"),
            f"--web.listen-address={listen['prometheus']}",
            name="prometheus",
        )
        processes.run(
            *("prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", "--cluster.listen-address="),
            *(f"--storage.path={tmp_path}/alertmanager", f"--web.listen-address={listen['alertmanager']}"),
            name="alertmanager",
        )
        start_exporters(processes, listen)
        curated = [curated_expression(name, step_seconds=60) for name in CURATED]
        expressions = [*(str(rule["expr"]) for rule in RULES), *PROMQL, *curated]
        missing = {selector for one in expressions for selector in selectors(parsed(one))}
        rounds = iter(range(1_000))

        def all_there():
            push(90 + 20 * (next(rounds) % 2))
            with suppress(requests.RequestException):
                requests.get(f"http://{listen['web']}/graphql", timeout=5)
            missing.difference_update([one for one in missing if asked(ports["prometheus"], one)])
            return not missing

        try:
            wait_until(all_there, timeout_seconds=120, every_seconds=0.5)
        except AssertionError as error:
            error.add_note(f"No series of {sorted(missing)}.")
            raise
        assert [one["metric"]["job"] for one in asked(ports["prometheus"], "up == 0")] == []
        fails = wait_until(lambda: reported("FeedFails"), timeout_seconds=60)
        # Until each is fetched for the first time, others have stopped too.
        wait_until(lambda: stopped_feeds() == {("stale", "nothing_pushed")})
        wait_until(lambda: asked(ports["prometheus"], STALE_ALONE))
        stopped = wait_until(lambda: reported("FeedsStopped"), timeout_seconds=60)
        refused = wait_until(lambda: reported("DeliveriesFail"), timeout_seconds=60)

        without_data = set(PROMQL)

        def all_answered():
            push(90 + 20 * (next(rounds) % 2))
            current_app.send_task("counted.fail", queue="ticks", confirm_timeout=3)
            without_data.difference_update([one for one in without_data if asked(ports["prometheus"], plain(one))])
            return not without_data

        try:
            with unacknowledged_message():
                wait_until(all_answered, timeout_seconds=60, every_seconds=0.5)
        except AssertionError as error:
            error.add_note(f"No data for {sorted(without_data)}.")
            raise

        processes.kill(worker)
        flood(feed_name="pushed", count=150)
        missing_worker = wait_until(lambda: reported("WorkerMissing"), timeout_seconds=60)
        grows = wait_until(lambda: reported("QueueGrows"), timeout_seconds=60)
    assert fails.summary.startswith("The feed failing was not answered ")
    assert (stopped.severity, stopped.summary.endswith(" feeds have stopped")) == ("critical", True)
    assert refused.summary.endswith(" of the attempts by webhook fail")
    assert (missing_worker.severity, missing_worker.summary.startswith("Nobody reads the queue ")) == ("critical", True)
    assert grows.summary.endswith(" messages wait in the queue analysis.0, and they become more")
