"""One JSON object per line, so that a newline in a name cannot forge a second log line."""

import json
import logging
import re
from datetime import UTC, datetime

from apps.log_facts import facts
from apps.owned_ids import label_of

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Whoever has such a link may act: Django writes the path of what it refuses.
_LINK = re.compile(r"(/action/)[\w:%.-]+")


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
        return _LINK.sub(r"\1***", json.dumps(line, default=str))
