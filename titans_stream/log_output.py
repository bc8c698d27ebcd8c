"""What is logged, and how: to standard error, as text for people or as JSON for machines."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from typing import Any

from titans_stream.printable import printable, redacted

_LEVELS = ("debug", "info", "warning", "error")
_PACKAGE = "titans_stream"


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --log-format and --log-level."""
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="json: an object a line, with time, level, logger and message",
    )
    parser.add_argument(
        "--log-level",
        metavar="[PART=]LEVEL",
        type=_level,
        action="append",
        default=[],
        help="debug, info, warning or error; of a part alone, e.g. stream=debug or kafka=info; "
        "repeat for several",
    )


def _level(text: str) -> tuple[str, int]:
    """The logger and the level that an argument names; `stream` is titans_stream.stream."""
    part, _, level = text.rpartition("=")
    if level.lower() not in _LEVELS or (not part and "=" in text):
        raise argparse.ArgumentTypeError(
            f"LEVEL or PART=LEVEL is needed, with a level of {', '.join(_LEVELS)}, not {text!r}"
        )
    outside = part.partition(".")[0] in ("kafka", "mlflow", "numba", "apscheduler", _PACKAGE)
    name = part if outside or not part else f"{_PACKAGE}.{part}"
    return name, int(getattr(logging, level.upper()))


class TextFormatter(logging.Formatter):
    """Keeps each message to its line, without secrets; tracebacks have lines of their own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line of a record."""
        record.message = printable(redacted(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The lines of a traceback."""
        lines = redacted(super().formatException(ei)).split("\n")
        return "\n".join(map(printable, lines))


class JsonFormatter(logging.Formatter):
    """An object a line, without secrets; times are UTC, RFC 3339."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
            "thread": record.threadName,
        }
        if record.exc_info:
            found["exception"] = redacted(self.formatException(record.exc_info))
        return json.dumps(found)


def set_up_logging(args: argparse.Namespace, level: int) -> None:
    """Log to standard error from `level` on, unless --log-level says otherwise."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if args.log_format == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    # kafka-python reports every lost connection several times; the clients say it once
    logging.getLogger("kafka").setLevel(logging.DEBUG if args.debug else logging.CRITICAL)
    for library in ("numba", "matplotlib"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for name, wanted in args.log_level:
        logging.getLogger(name).setLevel(wanted)
