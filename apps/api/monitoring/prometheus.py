"""What Prometheus has recorded: curated queries for everybody who is signed in, and PromQL."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings

from apps.api.monitoring.asking import Allowance, Code, NoAnswer, Server, Span, ask, span_of, strange_answer
from apps.owned_ids import LABEL

RANGE_LONGEST = timedelta(days=31)
STEP_SHORTEST_SECONDS = 5
POINTS_DEFAULT, POINTS_MOST = 120, 500
SERIES_MOST = 50
EXPRESSION_LONGEST = 2_000
_DAY_SECONDS = 86_400


class Curated(NamedTuple):
    """A query that everybody who is signed in may ask. expression: PromQL; in it, `$window` is a duration of at least
    four scrapes; unit: of its values, as dashboards call it."""

    expression: str
    unit: str
    text: str


# Feeds of owners stand under one label, which is left out.
_SHARED = f'feed!="{LABEL}"'
# 95 % of a histogram are within this.
_P95 = "histogram_quantile(0.95, sum by ({by}) (rate({name}_bucket{{{chosen}}}[$window])))"

CURATED = {
    "quotes_accepted": Curated(
        f'sum by (feed) (rate(fintech_quotes_total{{outcome="accepted",{_SHARED}}}[$window]))',
        "quotes/s",
        "Quotes that each feed has stored.",
    ),
    "quotes_rejected": Curated(
        f"sum by (feed, reason) (rate(fintech_quotes_rejected_total{{{_SHARED}}}[$window]))",
        "quotes/s",
        "Quotes that were not stored, by feed and reason.",
    ),
    "fetches_failed": Curated(
        f"sum by (feed, reason) (rate(fintech_fetches_failed_total{{{_SHARED}}}[$window]))",
        "fetches/s",
        "Slots for which no provider answered, by feed and reason.",
    ),
    "newest_quote_age": Curated(
        f"max by (feed) (fintech_feed_newest_quote_age_seconds{{{_SHARED}}})",
        "s",
        "How old the newest quote of each live feed is.",
    ),
    "evaluation_p95": Curated(
        _P95.format(by="le, feed", name="fintech_quote_evaluation_seconds", chosen=_SHARED),
        "s",
        "From the receipt of a quote until it is evaluated, by feed: 95 % take no longer.",
    ),
    "alert_p95": Curated(
        _P95.format(by="le", name="fintech_quote_to_alert_seconds", chosen=_SHARED),
        "s",
        "From the receipt of a quote until the alert that it opens is written: 95 % take no longer.",
    ),
    "entries_not_evaluated": Curated(
        "max(fintech_entries_not_evaluated)", "entries", "Entries of logs that wait to be evaluated."
    ),
    "deliveries": Curated(
        "sum by (transport, outcome) (rate(fintech_delivery_attempts_total[$window]))",
        "attempts/s",
        "Attempts to send a message, by kind of channel and outcome.",
    ),
    "delivery_p95": Curated(
        _P95.format(by="le, transport", name="fintech_message_delivery_seconds", chosen=""),
        "s",
        "From the making of a message until its receiver takes it, by kind of channel: 95 % take no longer.",
    ),
    "queue_messages": Curated(
        "max by (queue) (fintech_queue_messages)", "messages", "Messages that wait in each queue of the broker."
    ),
    "tasks": Curated(
        "sum by (task, outcome) (rate(fintech_tasks_total[$window]))", "tasks/s", "Tasks that ended, by outcome."
    ),
    "requests": Curated(
        "sum by (status) (rate(django_http_responses_total_by_status_total[$window]))",
        "requests/s",
        "Answers of the site, by status.",
    ),
    "request_p95": Curated(
        _P95.format(by="le", name="django_http_requests_latency_including_middlewares_seconds", chosen=""),
        "s",
        "How long the site takes for an answer: 95 % take no longer.",
    ),
    "problems": Curated(
        "max by (subject, level) (fintech_problems_by_subject)", "problems", "Problems that the last check found."
    ),
}


class Series(NamedTuple):
    """One series of an answer. values: None where the value is no number."""

    labels: list[tuple[str, str]]
    at: list[datetime]
    values: list[float | None]


class Chosen(NamedTuple):
    """A span, and every how many seconds in it a value is asked for."""

    span: Span
    step_seconds: int


def chosen_of(since: datetime | None, until: datetime | None, step_seconds: int | None, *, now: datetime) -> Chosen:
    """Return what is asked for; without a step, one that gives 120 values. Raises NoAnswer."""
    span = span_of(since, until, now=now, longest=RANGE_LONGEST)
    if step_seconds is None:
        return Chosen(span, max(math.ceil(span.seconds / POINTS_DEFAULT), 15))
    if not STEP_SHORTEST_SECONDS <= step_seconds <= _DAY_SECONDS:
        raise NoAnswer(Code.INVALID, f"stepSeconds must be from {STEP_SHORTEST_SECONDS} to {_DAY_SECONDS}.")
    if span.seconds / step_seconds + 1 > POINTS_MOST:
        shortest = math.ceil(span.seconds / (POINTS_MOST - 1))
        text = f"A series may have {POINTS_MOST} values: for this range ask for stepSeconds of {shortest} or more."
        raise NoAnswer(Code.LIMIT_EXCEEDED, text)
    return Chosen(span, step_seconds)


def curated_expression(name: str, *, step_seconds: int) -> str:
    """Return the PromQL of a curated query."""
    return CURATED[name].expression.replace("$window", f"{max(step_seconds, 60)}s")


def ask_series(expression: str, chosen: Chosen, *, allowance: Allowance) -> list[Series]:
    """Return the series of a PromQL expression, in the order of their labels. Raises NoAnswer."""
    if not 1 <= len(expression) <= EXPRESSION_LONGEST:
        raise NoAnswer(Code.INVALID, f"Write PromQL of 1 to {EXPRESSION_LONGEST} characters.")
    server = Server("Prometheus", settings.PROMETHEUS_URL, "PROMETHEUS_URL")
    params = {
        "query": expression,
        "start": chosen.span.since.timestamp(),
        "end": chosen.span.until.timestamp(),
        "step": chosen.step_seconds,
        # It gives up as well, instead of working on for nobody.
        "timeout": f"{max(int(allowance.left_seconds() * 1_000), 1)}ms",
    }
    data = ask(server, "/api/v1/query_range", params, allowance=allowance)
    try:
        if data["resultType"] != "matrix":
            raise strange_answer(server)
        found = data["result"]
        if len(found) > SERIES_MOST:
            text = f"The query gives {len(found)} series, at most {SERIES_MOST} are answered: choose or sum some."
            raise NoAnswer(Code.LIMIT_EXCEEDED, text)
        return sorted(map(_series, found), key=lambda one: one.labels)
    except (LookupError, TypeError, ValueError, OverflowError):
        raise strange_answer(server) from None


def _series(found: Any) -> Series:
    at = [datetime.fromtimestamp(one, UTC) for one, _ in found["values"]]
    values = [float(value) for _, value in found["values"]]
    labels = sorted((str(name), str(value)) for name, value in found["metric"].items())
    return Series(labels, at, [value if math.isfinite(value) else None for value in values])
