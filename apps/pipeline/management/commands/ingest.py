"""`manage.py ingest`: quotes that other systems push to the queue `quotes` go into their feeds' logs."""

import signal
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.management.base import BaseCommand

from apps.command_line import refuse
from apps.metrics.serving import serve
from apps.pipeline.ingest import COLLECT_SECONDS, Ingest, ingest_metrics
from apps.pipeline.queues import ON_AMQP


class Command(BaseCommand):
    """Exit status 0 where it was stopped (SIGTERM, Ctrl-C); 2 with one line on standard error where it cannot start."""

    help = "Read quotes that other systems push to the queue `quotes`, until it is stopped; see docs/feeds.md."

    def handle(self, *args: Any, **options: Any) -> None:
        if not ON_AMQP:
            refuse("ingest", "there is no queue without a broker; set CELERY_BROKER_URL to amqp://…")
        broker = current_app.connection_for_read(heartbeat=current_app.conf.broker_heartbeat)
        reader = Ingest(broker)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, reader.stop)
        serve(ingest_metrics().registry, listen=settings.METRICS_LISTEN)
        # How long it waits for a message before it looks whether something is to be stored.
        reader.run(safety_interval=COLLECT_SECONDS)
