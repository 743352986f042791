"""`manage.py live`: answers subscriptions at /graphql/stream, until it is stopped."""

import logging
import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.api.live.hub import STREAMS_LARGEST
from apps.api.live.server import LiveServer, listen
from apps.command_line import refuse

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    """Exit status 0 where it was stopped (SIGTERM, Ctrl-C); 2 with one line on standard error where it cannot
    listen."""

    help = "Answer subscriptions of GraphQL at /graphql/stream, until it is stopped; see docs/api.md."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--listen", default="127.0.0.1:8100", help="host:port; port 0 takes a free one")
        parser.add_argument("--streams", type=int, default=STREAMS_LARGEST, help="that are open at once, at most")

    def handle(self, *args: Any, **options: Any) -> None:
        host, _, port = options["listen"].rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            refuse("live", "--listen must be host:port, like 127.0.0.1:8100")
        if options["streams"] < 1:
            refuse("live", "--streams must be 1 or more")
        try:
            listener = listen(host=host.strip("[]"), port=int(port))
        except OSError as error:
            refuse("live", f"cannot listen at {options['listen']}: {error.strerror or error}")
        # uvicorn raises the signal once more, when it has stopped.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        address = f"http://{host}:{listener.getsockname()[1]}/graphql/stream"
        logger.info("streams answered", extra={"address": address})
        LiveServer(streams_largest=options["streams"]).run(sockets=[listener])
