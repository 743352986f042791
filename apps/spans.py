"""Spans of OpenTelemetry, sent by OTLP over HTTP where OTEL_EXPORTER_OTLP_ENDPOINT is set. Without it nothing of
OpenTelemetry is imported, and nothing is done.

A trace is one slot, one push or one change of rules, and has the id that its entries have in the log. The id of a span
follows from what it is about, so whoever makes a child knows its parent: no row and no message carries one.
"""

import atexit
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from structlog.contextvars import get_contextvars

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
ONE_IN = "TRACES_ONE_IN"
SERVICE = "fintech"
# What is not taken by then is dropped: a collector that is away holds up no process that ends.
FLUSH_MILLISECONDS = 3_000


def new_span_id() -> int:
    """Return an id for a span that nobody needs as a parent but who makes it."""
    return secrets.randbits(63) + 1


@dataclass(slots=True)
class Step:
    """Something that was done within a span, and took time. parent: the id of the step around it; None: it is directly
    within the span."""

    name: str
    attributes: Mapping[str, Any]
    parent: int | None
    began_at: datetime
    ended_at: datetime
    error: str = ""
    span: int = field(default_factory=new_span_id)


# The steps of the span that is being made in this thread, and the one that is under way; None: no span is.
_collecting: ContextVar[tuple[list[Step], Step | None] | None] = ContextVar("collecting", default=None)


def is_on() -> bool:
    """Tell whether spans are sent."""
    return bool(os.environ.get(ENDPOINT, "").strip())


def is_sampled(trace_id: str) -> bool:
    """Tell whether the spans of a trace are sent: of one trace in TRACES_ONE_IN. Every process answers alike."""
    return is_on() and int(trace_id[-8:], 16) % int(os.environ.get(ONE_IN, "").strip() or 1) == 0


def named(trace_id: str, span: int) -> dict[str, str]:
    """Return what log lines say of a span: its trace, and its id where spans are sent."""
    return {"trace_id": trace_id} | ({"span_id": f"{span:016x}"} if is_sampled(trace_id) else {})


@contextmanager
def collected(trace_id: str) -> Iterator[list[Step]]:
    """Collect the steps that are done within, for `record`; none where the trace is not sampled."""
    steps: list[Step] = []
    token = _collecting.set((steps, None) if is_sampled(trace_id) else None)
    try:
        yield steps
    finally:
        _collecting.reset(token)


@contextmanager
def step(name: str, **attributes: Any) -> Iterator[None]:
    """Note what is done within as a step of the span that is being made; where none is, do nothing."""
    around = _collecting.get()
    if around is None:
        yield
        return
    steps, outer = around
    began_at = datetime.now(UTC)
    one = Step(name, attributes, outer.span if outer is not None else None, began_at, began_at)
    token = _collecting.set((steps, one))
    try:
        yield
    except BaseException as error:
        one.error = type(error).__name__
        raise
    finally:
        _collecting.reset(token)
        one.ended_at = datetime.now(UTC)
        steps.append(one)


def span_id(trace_id: str, *about: object) -> int:
    """Return the id of the span about this in a trace; of the first span of the trace where nothing is named."""
    digest = hashlib.sha256(":".join(map(str, (trace_id, *about))).encode()).digest()
    return int.from_bytes(digest[:8], "big") or 1


def record(
    name: str,
    *,
    trace_id: str,
    span: int,
    parent: int | None,
    began_at: datetime,
    ended_at: datetime,
    attributes: Mapping[str, Any],
    links: Sequence[tuple[str, int]] = (),
    error: str = "",
    steps: Sequence[Step] = (),
    reconstructed: bool = False,
) -> None:
    """Send a span that is over, with its steps, by a thread that collects them.

    parent: None for the first span of its trace; links: (trace id, span id) in other traces; error: why what the span
    is about failed, "" where it did not; reconstructed: the trace is not sampled, and the span is made all the same,
    with that mark, since an alert is in it.
    """
    if not (reconstructed or is_sampled(trace_id)):
        return
    # By it the log lines of the task are found.
    attributes = {"task_id": get_contextvars().get("task_id"), **attributes}
    if reconstructed:
        attributes["reconstructed"] = True
    send = _exporter(os.getpid()).record
    send(name, trace_id, span, parent, (began_at, max(began_at, ended_at)), attributes, links, error)
    for one in steps:
        times = (one.began_at, max(one.began_at, one.ended_at))
        send(one.name, trace_id, one.span, one.parent or span, times, one.attributes, (), one.error)


def flush() -> None:
    """Send what was collected, before the process ends."""
    if is_on():
        _exporter(os.getpid()).flush()


@cache
def _exporter(pid: int) -> Any:
    """Return the exporter of this process: a child that was forked has no threads of its parent's."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

    resource = Resource.create({"service.name": SERVICE, "process.pid": pid})
    processor = BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=1_000)

    def context(trace_id: str, span: int) -> SpanContext:
        return SpanContext(int(trace_id, 16), span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    class Exporter:
        def record(
            self,
            name: str,
            trace_id: str,
            span: int,
            parent: int | None,
            times: tuple[datetime, datetime],
            attributes: Mapping[str, Any],
            links: Sequence[tuple[str, int]],
            error: str,
        ) -> None:
            began, ended = (round(at.timestamp() * 1e6) * 1_000 for at in times)
            processor.on_end(
                ReadableSpan(
                    name,
                    context=context(trace_id, span),
                    parent=context(trace_id, parent) if parent is not None else None,
                    resource=resource,
                    attributes={key: value for key, value in attributes.items() if value is not None},
                    links=[Link(context(*one)) for one in links],
                    kind=SpanKind.INTERNAL,
                    status=Status(StatusCode.ERROR, error) if error else Status(StatusCode.OK),
                    start_time=began,
                    end_time=ended,
                )
            )

        def flush(self) -> None:
            processor.force_flush(FLUSH_MILLISECONDS)

    exporter = Exporter()
    # Of processes that end by themselves; a child of a worker is ended without it.
    atexit.register(exporter.flush)
    return exporter
