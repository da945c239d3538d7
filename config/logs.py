"""Logs as one JSON object per line. They name ids and codes, and no person."""

import json
import logging
from datetime import UTC, datetime

from core.log_context import get_log_context

# What a line of a request or task says beside its message: `logger.info(..., extra={"route": ...})`.
EXTRA = ("method", "route", "status", "milliseconds")


class JsonFormatter(logging.Formatter):
    """Write the instant, level, logger, message, the ids of the request or task and the traceback, if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line for one record."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **get_log_context(),
            **{name: getattr(record, name) for name in EXTRA if hasattr(record, name)},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
