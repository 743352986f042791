"""What Loki has kept of the log lines of all processes: by service, level, text and trace, or by LogQL."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings

from apps.api.monitoring.asking import Allowance, Code, NoAnswer, Server, Span, ask, strange_answer
from apps.strict_json import NotJson, read_json

RANGE_LONGEST = timedelta(days=7)
# A trace is looked for farther back than lines in general: it is rarely of the last hour.
RANGE_OF_TRACE = timedelta(days=1)
LINES_DEFAULT, LINES_MOST = 100, 500
EXPRESSION_LONGEST = 2_000
TEXT_LONGEST = 200
_TRACE = re.compile(r"[0-9a-f]{32}\Z")
_SERVICE = re.compile(r"[a-zA-Z0-9_.-]{1,64}\Z")
_NANOSECONDS = 1_000_000_000


class Line(NamedTuple):
    """A log line. text: as it was written; labels: those of its stream, and what Alloy sent beside the line; facts:
    what the line says, where it is one of ours; at: the rest below a microsecond is dropped."""

    at: datetime
    text: str
    labels: Mapping[str, str]
    facts: Mapping[str, Any]

    def fact(self, name: str) -> str:
        """Return what the labels or the line say of something; empty where they do not."""
        return str(self.labels.get(name) or self.facts.get(name) or "")


def expression_of(*, service: str | None, level: str | None, contains: str | None, trace_id: str | None) -> str:
    """Return the LogQL for the lines of a service, a level or a trace, or with a text in them. Raises NoAnswer."""
    if service is not None and not _SERVICE.match(service):
        raise NoAnswer(Code.INVALID, "query.service must be 1 to 64 letters, digits, dots, - or _.")
    if trace_id is not None and not _TRACE.match(trace_id):
        raise NoAnswer(Code.INVALID, "traceId must be 32 digits of 0-9 and a-f.")
    if contains is not None and not 1 <= len(contains) <= TEXT_LONGEST:
        raise NoAnswer(Code.INVALID, f"query.contains must have 1 to {TEXT_LONGEST} characters.")
    # Loki wants one matcher that does not match nothing.
    matchers = [f'service="{service}"' if service is not None else 'service=~".+"']
    if level is not None:
        matchers.append(f'level="{level}"')
    expression = f"{{{', '.join(matchers)}}}"
    if contains is not None:
        # A text of JSON is one of Go too, as long as it is not written in ASCII alone.
        expression += f" |= {json.dumps(contains, ensure_ascii=False)}"
    if trace_id is not None:
        expression += f' | trace_id="{trace_id}"'
    return expression


def ask_lines(expression: str, span: Span, *, limit: int, allowance: Allowance) -> list[Line]:
    """Return the newest lines of a LogQL expression, the newest first. Raises NoAnswer."""
    if not 1 <= len(expression) <= EXPRESSION_LONGEST:
        raise NoAnswer(Code.INVALID, f"Write LogQL of 1 to {EXPRESSION_LONGEST} characters.")
    if not 1 <= limit <= LINES_MOST:
        raise NoAnswer(Code.INVALID, f"limit must be from 1 to {LINES_MOST}.")
    server = Server("Loki", settings.LOKI_URL, "LOKI_URL")
    params = {
        "query": expression,
        "start": _nanoseconds(span.since),
        "end": _nanoseconds(span.until),
        "limit": limit,
        "direction": "backward",
    }
    data = ask(server, "/loki/api/v1/query_range", params, allowance=allowance)
    try:
        kind, found = data["resultType"], data["result"]
        if kind != "streams":
            raise NoAnswer(Code.INVALID, "The query gives numbers: leave out what counts, and ask for lines.")
        values = [(int(at), text, one["stream"]) for one in found for at, text, *_ in one["values"]]
        newest = sorted(values, key=lambda one: one[0], reverse=True)[:limit]
        return [_line(*one) for one in newest]
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
        raise strange_answer(server) from None


def _line(at: int, text: str, labels: Mapping[str, Any]) -> Line:
    facts: Any
    try:
        facts = read_json(text.encode())
    except NotJson:
        facts = {}
    moment = datetime.fromtimestamp(at // _NANOSECONDS, UTC) + timedelta(microseconds=at % _NANOSECONDS // 1_000)
    return Line(moment, text, {str(k): str(v) for k, v in labels.items()}, facts if isinstance(facts, dict) else {})


def _nanoseconds(at: datetime) -> int:
    # Not by a float, which has no room for so many digits.
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000
