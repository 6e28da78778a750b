"""Logs: one JSON object per line on standard error.

    {"time": "2026-01-31T12:00:00.123Z", "level": "info", "logger": "prefixdb.server", "message": "…", …}

No key, value, token or tenant's name is ever logged, and that includes the text of exceptions: it may quote any of
them. An exception is logged as its type and the places in the code it passed through, which is what finds a mistake.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
import traceback
from typing import Any, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

_LIBRARIES = ("grpc", "asyncio")
_CALLERS_BYTES = "Invalid encoding on %s"
"""What gRPC logs, with the bytes, for every header that is not UTF-8: a token with one byte too many among them."""

FRAMES_MAX = 30
"""Innermost stack frames of one logged exception."""


class JsonFormatter(logging.Formatter):
    """Formats a record, with what was given as ``extra``, as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        fields: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info and record.exc_info[0] is not None:
            fields |= describe_exception(record.exc_info[1])
        return json.dumps(fields, default=repr_type)


def _message(record: logging.LogRecord) -> str:
    """Return the text; of a library's message only what its programmer wrote, for the rest may be a caller's."""
    if str(record.name).partition(".")[0] in _LIBRARIES:
        return str(record.msg).partition("\n")[0]
    return record.getMessage()


def is_about_us(record: logging.LogRecord) -> bool:
    """Return false for what a caller without a token could fill the log with; such a call is counted in the metrics."""
    return record.msg != _CALLERS_BYTES


def describe_exception(failure: BaseException | None) -> dict[str, Any]:
    """Return type, cause types and places of an exception, never its text."""
    if failure is None:
        return {}
    frames = traceback.extract_tb(failure.__traceback__)[-FRAMES_MAX:]
    described: dict[str, Any] = {
        "exception": type(failure).__qualname__,
        "stack": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    cause = failure.__cause__ or failure.__context__
    if cause is not None:
        described["cause"] = type(cause).__qualname__
    return described


def repr_type(value: object) -> str:
    """Return the type's name of a value that is not JSON; its content might be a secret."""
    return f"<{type(value).__qualname__}>"


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send the logs of the whole process to ``stream`` (standard error) as JSON lines."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(is_about_us)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel("WARNING")
