"""Log lines by structlog. Each is one JSON object, so that a newline in a name cannot forge a second line; of an
embedded run, which a person watches, each is for reading.

Every line has what is being done besides its own facts: request, task, feed, entry, trace, as bound by
structlog.contextvars. Lines of libraries come by the same way, since all are written by Python's logging.
"""

import re
import sys
from typing import Any

from structlog.contextvars import merge_contextvars
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import EventRenamer, JSONRenderer, TimeStamper, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict, Processor

from apps.owned_ids import label_of

# These links authorise an action or a new password, and Django logs the path of a request that it refuses or that
# fails. Query strings are masked as well. Both are masked up to the next blank, since they may contain quotes.
_LINK = re.compile(r"(/action/|/accounts/reset/)\S+")
_QUERY = re.compile(r"\?\S+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def json_lines() -> ProcessorFormatter:
    """Return the formatter of lines that programs read."""
    return _formatter(EventRenamer("message"), JSONRenderer())


def readable_lines() -> ProcessorFormatter:
    """Return the formatter of lines that people read."""
    renderer = ConsoleRenderer(
        colors=sys.stdout.isatty(),
        exception_formatter=plain_traceback,
        repr_native_str=True,
        timestamp_key="time",
    )
    return _formatter(_escape_control_characters, renderer)


def _formatter(*renderers: Processor) -> ProcessorFormatter:
    return ProcessorFormatter(
        processors=[
            # A line's own facts go before those around it.
            ExtraAdder(),
            _add_request,
            merge_contextvars,
            add_log_level,
            add_logger_name,
            TimeStamper(fmt="iso", key="time"),
            format_exc_info,
            ProcessorFormatter.remove_processors_meta,
            _hide_owned_ids,
            _mask_secrets,
            *renderers,
        ]
    )


def _add_request(_: Any, __: str, line: EventDict) -> EventDict:
    """Django writes of a refused request when its middleware is over, and nothing is bound any more."""
    request_id = getattr(line.get("request"), "request_id", None)
    return line if request_id is None else line | {"request_id": request_id}


def _hide_owned_ids(_: Any, __: str, line: EventDict) -> EventDict:
    return line | {name: label_of(line[name]) for name in ("feed", "asset") if isinstance(line.get(name), int)}


def _mask_secrets(_: Any, __: str, line: EventDict) -> EventDict:
    """In each text and not in the written line: what JSON escapes there would end a pattern early."""
    return {key: _masked(value) for key, value in line.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, dict):
        return {key: _masked(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_masked(one) for one in value]
    return _QUERY.sub("?***", _LINK.sub(r"\1***", str(value)))


def _escape_control_characters(_: Any, __: str, line: EventDict) -> EventDict:
    """Of the message alone: the renderer quotes the other texts, and a traceback has lines of its own."""
    return line | {"event": _CONTROL.sub(lambda found: repr(found[0])[1:-1], line["event"])}
