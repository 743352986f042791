"""These tests start containers, so only `make compose-test` collects them."""

import os

collect_ignore = [] if os.environ.get("COMPOSE_TEST") else ["test_containers.py"]
