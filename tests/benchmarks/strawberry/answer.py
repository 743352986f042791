"""The process of Strawberry: it answers one line on its standard output for each line on its standard input.

A line in is {"query", "variables", "warm", "runs"}; a line out {"answer", "statements", "seconds": [...]}. The first
line out is the version. Started with the id of the user who asks.
"""

import json
import logging
import sys
import time
from importlib.metadata import version

import django
from django.conf import settings

# Of the project, the apps that read rows, and none that imports graphene.
APPS = ("accounts", "market", "sources", "rules", "backtests", "alerts", "notify", "portfolios")


def main(user_id: str) -> None:
    others = [one for one in settings.INSTALLED_APPS if not one.startswith("apps.")]
    settings.INSTALLED_APPS = [*others, *(f"apps.{one}" for one in APPS)]
    settings.ROOT_URLCONF = "tests.benchmarks.strawberry.schema"
    settings.DEBUG = False
    django.setup()
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    # Its lines go to standard output too.
    logging.disable()
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(get_user_model().objects.get(pk=user_id))
    print(f"Strawberry {version('strawberry-graphql')}, graphql-core {version('graphql-core')}", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        body = json.dumps({"query": asked["query"], "variables": asked["variables"]})

        def ask(body=body):
            return client.post("/graphql", body, content_type="application/json")

        with CaptureQueriesContext(connection) as statements:
            answer = ask().json()
        # Before the next request forgets them.
        count = sum(one["sql"].startswith("SELECT") for one in statements)
        for _ in range(asked["warm"]):
            ask()
        seconds = []
        for _ in range(asked["runs"]):
            began = time.perf_counter()
            ask()
            seconds.append(time.perf_counter() - began)
        print(json.dumps({"answer": answer, "statements": count, "seconds": seconds}), flush=True)


main(sys.argv[1])
