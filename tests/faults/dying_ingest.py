"""`manage.py ingest` for tests, with places where it kills itself: run by `python -m`, armed as failpoints.py says."""

import os

import django
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fintech.settings")
django.setup()

from apps.pipeline import ingest  # noqa: E402
from apps.sources.services import pushing  # noqa: E402
from tests.faults import failpoints  # noqa: E402

pushing.append_quotes = failpoints.after(pushing.append_quotes, "push-before-commit")
ingest.record_pushed = failpoints.after(ingest.record_pushed, "push-after-commit")
call_command("ingest")
