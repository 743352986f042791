"""One JSON object per line, so that a newline in a name cannot forge a second log line."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from apps.log_facts import facts
from apps.owned_ids import label_of

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# These links authorise an action or a new password, and Django logs the path of a request that it refuses or that
# fails. Query strings are masked as well. Both are masked up to the next blank, since they may contain quotes.
_LINK = re.compile(r"(/action/|/accounts/reset/)\S+")
_QUERY = re.compile(r"\?\S+")


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, message, what is being done (apps.log_facts), and whatever was passed in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= facts()
        # Django writes of a refused request when its middleware is over.
        if (request_id := getattr(getattr(record, "request", None), "request_id", None)) is not None:
            line["request_id"] = request_id
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        for name in ("feed", "asset"):
            if isinstance(line.get(name), int):
                line[name] = label_of(line[name])
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Masked in each text and not in the line: what JSON escapes there would end a pattern early.
        return json.dumps({key: _masked(value) for key, value in line.items()}, default=str)


def _masked(value: Any) -> Any:
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, dict):
        return {key: _masked(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_masked(one) for one in value]
    return _QUERY.sub("?***", _LINK.sub(r"\1***", str(value)))
