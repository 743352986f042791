"""A process that serves the API, ours or Strawberry's, or views of the same rows by hand: it answers one line on its
standard output for each line on its standard input.

A line in is {"query", "warm", "runs"}, or {"view", ...} by hand; a line out {"answer", "statements", "seconds": [...]}.
The first line out is the version. Started with the library that serves, and the id of the user who asks.
"""

import gc
import json
import logging
import sys
import time
from importlib.metadata import version

import django
from django.conf import settings

# Of the project, the apps that read rows, and none that imports graphene.
APPS = ("accounts", "market", "sources", "rules", "backtests", "alerts", "notify", "portfolios")


def main(library: str, user_id: str) -> None:
    if library == "strawberry-graphql":
        others = [one for one in settings.INSTALLED_APPS if not one.startswith("apps.")]
        settings.INSTALLED_APPS = [*others, *(f"apps.{one}" for one in APPS)]
        settings.ROOT_URLCONF = "tests.benchmarks.strawberry.schema"
    else:
        if library == "django":
            settings.ROOT_URLCONF = "tests.benchmarks.bare_views"
        # Strawberry's view counts no requests.
        settings.GRAPHQL_REQUESTS_PER_MINUTE = dict.fromkeys(settings.GRAPHQL_REQUESTS_PER_MINUTE, 0)
        settings.GRAPHQL_REQUESTS_AT_ONCE = dict.fromkeys(settings.GRAPHQL_REQUESTS_AT_ONCE, 0)
    settings.DEBUG = False
    django.setup()
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.urls import get_resolver

    # Its lines go to standard output too.
    logging.disable()
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(get_user_model().objects.get(pk=user_id))
    print(f"{library} {version(library)}, graphql-core {version('graphql-core')}", flush=True)
    # As fintech.wsgi does.
    _ = get_resolver().url_patterns
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)

        def ask(asked=asked):
            if "view" in asked:
                return client.get(f"/bare/{asked['view']}")
            return client.post("/graphql", {"query": asked["query"]}, content_type="application/json")

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


main(*sys.argv[1:])
