"""Metrics of Prometheus and log lines of Loki."""

from collections.abc import Callable
from typing import Any

import graphene
from django.utils import timezone

from apps.api.graphql.context import Context
from apps.api.graphql.scalars import DateTime, enum
from apps.api.monitoring import asking, loki, prometheus
from apps.api.monitoring.asking import Code, NoAnswer

MonitoringErrorCode = enum(
    "MonitoringErrorCode", Code, description="Why there is no answer; docs/api.md says what each means."
)
MetricsQuery = graphene.Enum(
    "MetricsQuery",
    [(name.upper(), name) for name in prometheus.CURATED],
    description=lambda value: (
        prometheus.CURATED[value.value].text if value is not None else "The queries that everybody may ask."
    ),
)
LogLevel = graphene.Enum(
    "LogLevel",
    [(name, name.lower()) for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")],
    description=lambda value: None if value is not None else "How much a log line matters.",
)


class TimeRange(graphene.InputObjectType):
    """From when until when."""

    since = DateTime(description="The beginning; by default one hour before the end.")
    until = DateTime(description="The end; by default now.")


class LogsQuery(graphene.InputObjectType):
    """Filters of log lines. A filter that is left out matches every line."""

    service = graphene.String(description="Name of the process that wrote them, like web or analyzer.")
    level = LogLevel(description="Lines of this level alone.")
    contains = graphene.String(description="Text that the lines contain, 1 to 200 characters, case-sensitive.")


class MonitoringError(graphene.ObjectType):
    """Why there is no answer. The other fields of the request are answered."""

    code = graphene.Field(MonitoringErrorCode, required=True, description="The code.")
    message = graphene.String(required=True, description="A sentence for people about the code, with what to do.")


class MetricLabel(graphene.ObjectType):
    """A label of a series."""

    name = graphene.String(required=True, description="The name of the label, like feed.")
    value = graphene.String(required=True, description="The value.")


class MetricSeries(graphene.ObjectType):
    """One series: values over time."""

    labels = graphene.List(graphene.NonNull(MetricLabel), required=True, description="Together unique, by name.")
    at = graphene.List(graphene.NonNull(DateTime), required=True, description="The moments, in order.")
    values = graphene.List(
        graphene.Float, required=True, description="The value at each of the moments; null: no number there."
    )

    def resolve_labels(series: prometheus.Series, info: Any) -> list[MetricLabel]:
        return [MetricLabel(name=name, value=value) for name, value in series.labels]


class Metrics(graphene.ObjectType):
    """The answer of Prometheus."""

    unit = graphene.String(required=True, description="Unit of the values, like s or quotes/s; empty for PromQL.")
    step_seconds = graphene.Int(description="The seconds between two values; null where nothing was asked.")
    series = graphene.List(
        graphene.NonNull(MetricSeries), required=True, description="At most 50, in the order of their labels."
    )
    error = graphene.Field(MonitoringError, description="Why there are no series; else null.")


class LogLine(graphene.ObjectType):
    """A line of the log of one process."""

    at = graphene.Field(DateTime, required=True, description="When it was written.")
    service = graphene.String(required=True, description="The process that wrote it; empty where Loki does not know.")
    level = graphene.String(required=True, description="Its level; empty for lines of other programs.")
    logger = graphene.String(required=True, description="The module that wrote it; empty for other programs.")
    trace_id = graphene.String(required=True, description="The trace that it belongs to; else empty.")
    message = graphene.String(required=True, description="The message; for other programs, the whole line.")
    text = graphene.String(required=True, description="The whole line, as it was written.")

    def resolve_service(line: loki.Line, info: Any) -> str:
        return line.fact("service")

    def resolve_level(line: loki.Line, info: Any) -> str:
        return line.fact("level")

    def resolve_logger(line: loki.Line, info: Any) -> str:
        return line.fact("logger")

    def resolve_trace_id(line: loki.Line, info: Any) -> str:
        return line.fact("trace_id")

    def resolve_message(line: loki.Line, info: Any) -> str:
        message = line.facts.get("message")
        return message if isinstance(message, str) else line.text


class Logs(graphene.ObjectType):
    """The answer of Loki."""

    lines = graphene.List(graphene.NonNull(LogLine), required=True, description="The newest first.")
    error = graphene.Field(MonitoringError, description="Why there are no lines; else null.")


_RANGE_OF_METRICS = "At most 31 days; by default the last hour."
_STEP = "Seconds between two values, 5 to 86400; by default about 120 values are given, at most 500."
_RANGE_OF_LOGS = "At most 7 days; by default the last hour."
_LIMIT = f"How many lines: 1 to {loki.LINES_MOST}."


class MonitoringQuery(graphene.ObjectType):
    metrics = graphene.Field(
        Metrics,
        query=MetricsQuery(required=True, description="The query to run."),
        range=TimeRange(description=_RANGE_OF_METRICS),
        step_seconds=graphene.Int(description=_STEP),
        description="Metrics of this installation over time, from Prometheus. None is of one owner.",
    )
    promql = graphene.Field(
        Metrics,
        query=graphene.String(required=True, description="PromQL, of at most 2000 characters."),
        range=TimeRange(description=_RANGE_OF_METRICS),
        step_seconds=graphene.Int(description=_STEP),
        description="The result of a PromQL expression. For operators.",
    )
    logs = graphene.Field(
        Logs,
        query=LogsQuery(description="Filters of the lines; by default all lines."),
        range=TimeRange(description=f"{_RANGE_OF_LOGS} With `traceId`, the last day."),
        trace_id=graphene.String(description="Lines of this trace alone: its 32 digits."),
        limit=graphene.Int(required=True, default_value=loki.LINES_DEFAULT, description=_LIMIT),
        description="Log lines of all processes, from Loki. For operators: they are about every owner's rows.",
    )
    logql = graphene.Field(
        Logs,
        query=graphene.String(required=True, description="LogQL that gives lines, of at most 2000 characters."),
        range=TimeRange(description=_RANGE_OF_LOGS),
        limit=graphene.Int(required=True, default_value=loki.LINES_DEFAULT, description=_LIMIT),
        description="The log lines that a LogQL query selects. For superusers.",
    )

    def resolve_metrics(
        root: None, info: Any, query: Any, range: Any = None, step_seconds: int | None = None
    ) -> Metrics:
        info.context.owner()
        curated = prometheus.CURATED[query.value]

        def expression(step: int) -> str:
            return prometheus.curated_expression(query.value, step_seconds=step)

        return _metrics(info.context, expression, range, step_seconds, unit=curated.unit)

    def resolve_promql(
        root: None, info: Any, query: str, range: Any = None, step_seconds: int | None = None
    ) -> Metrics:
        if not _is_operator(info.context):
            return Metrics(unit="", series=[], error=_forbidden("operators"))
        return _metrics(info.context, lambda step: query, range, step_seconds, unit="")

    def resolve_logs(
        root: None,
        info: Any,
        query: Any = None,
        range: Any = None,
        trace_id: str | None = None,
        limit: int | None = loki.LINES_DEFAULT,
    ) -> Logs:
        if not _is_operator(info.context):
            return Logs(lines=[], error=_forbidden("operators"))
        chosen = query or {}
        level = chosen.get("level")

        def expression() -> str:
            return loki.expression_of(
                service=chosen.get("service"),
                level=level.value if level is not None else None,
                contains=chosen.get("contains"),
                trace_id=trace_id,
            )

        default = loki.RANGE_OF_TRACE if trace_id is not None else asking.RANGE_DEFAULT
        return _logs(info.context, expression, range, limit, default=default)

    def resolve_logql(
        root: None, info: Any, query: str, range: Any = None, limit: int | None = loki.LINES_DEFAULT
    ) -> Logs:
        if not info.context.owner().is_superuser:
            return Logs(lines=[], error=_forbidden("superusers"))
        return _logs(info.context, lambda: query, range, limit, default=asking.RANGE_DEFAULT)


def _forbidden(whom: str) -> MonitoringError:
    return MonitoringError(code=Code.FORBIDDEN.value, message=f"Only {whom} may ask this.")


def _shown(error: NoAnswer) -> MonitoringError:
    # graphql-core takes an exception that a field returns for one that it raises.
    return MonitoringError(code=error.code.value, message=error.message)


def _is_operator(context: Context) -> bool:
    """Tell whether who asks sees the feeds of the installation and how it does. Raises Unauthenticated."""
    user = context.owner()
    return bool(user.is_staff and user.has_perm("market.view_feed"))


def _metrics(
    context: Context, expression: Callable[[int], str], range: Any, step_seconds: int | None, *, unit: str
) -> Metrics:
    """Return the series of an expression. expression: makes it for a step in seconds."""
    given = range or {}
    try:
        chosen = prometheus.chosen_of(given.get("since"), given.get("until"), step_seconds, now=timezone.now())
        series = prometheus.ask_series(expression(chosen.step_seconds), chosen, allowance=context.allowance)
    except NoAnswer as error:
        return Metrics(unit=unit, series=[], error=_shown(error))
    return Metrics(unit=unit, step_seconds=chosen.step_seconds, series=series)


def _logs(context: Context, expression: Callable[[], str], range: Any, limit: int | None, *, default: Any) -> Logs:
    given = range or {}
    limit = loki.LINES_DEFAULT if limit is None else limit
    try:
        span = asking.span_of(
            given.get("since"), given.get("until"), now=timezone.now(), longest=loki.RANGE_LONGEST, default=default
        )
        return Logs(lines=loki.ask_lines(expression(), span, limit=limit, allowance=context.allowance))
    except NoAnswer as error:
        return Logs(lines=[], error=_shown(error))
