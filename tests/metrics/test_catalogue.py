"""The catalogue of metrics: names by the conventions of Prometheus, and a document that says the same."""

import re
from io import StringIO
from pathlib import Path

from django.core.management import call_command

from apps.metrics.domain import BY_NAME, METRICS, Kind

ROOT = Path(__file__).resolve().parents[2]
UNLIMITED = {"owner", "user", "channel", "rule", "asset", "symbol", "message", "trace_id", "token"}


def test_the_document_is_what_the_code_says():
    printed = StringIO()
    call_command("metrics", "--document", stdout=printed)

    assert (ROOT / "docs/metrics.md").read_text() == printed.getvalue(), (
        "run: manage.py metrics --document > docs/metrics.md"
    )


def test_names_follow_the_conventions():
    assert len(BY_NAME) == len(METRICS)
    assert [one.name for one in METRICS if not re.fullmatch("fintech_[a-z_]+", one.name)] == []
    assert [one.name for one in METRICS if (one.kind == Kind.COUNTER) != one.name.endswith("_total")] == []
    assert [one.name for one in METRICS if one.kind == Kind.HISTOGRAM and not one.name.endswith("_seconds")] == []
    assert [one.name for one in METRICS if not one.text.endswith(".")] == []


def test_no_label_has_values_without_bound():
    assert {label for one in METRICS for label in one.labels} & UNLIMITED == set()
