"""The command line: `titans-stream COMMAND ...`.

Exit codes: 0 done, 2 bad input or configuration with one clear line, 1 anything else, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType, TracebackType
from typing import Any, NoReturn

from titans_stream.printable import printable, redacted

COMMANDS = {
    "demo": "watch this machine live: an embedded broker, the real worker, alerts on screen",
    "run": "run the worker of a connector",
    "check": "check a connector, its topics and its messages; change nothing",
    "replay": "publish a CSV file to a connector's input topic",
    "alerts": "read a connector's alerts",
    "score": "score a CSV file without Kafka",
    "forecast": "forecast the series of a CSV file without Kafka",
    "train": "train a model from a recipe",
    "models": "list, compare, promote and roll back registered models",
    "jobs": "list a connector's jobs, run one, or run them when they are due",
    "evaluate": "measure detector and forecaster on data sets",
    "health": "say whether the worker gets on, for container health checks",
    "broker": "run the embedded development broker alone",
}
"""Every command, in the order of the help; each is a module of `titans_stream.commands`."""

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the problem and end with exit code 2."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="titans-stream",
        description="Watches sensor streams in Kafka: readings in, anomaly alerts out.",
        epilog="`titans-stream COMMAND --help` tells more. Start with `titans-stream demo`.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", parser_class=Parser
    )
    for name, summary in COMMANDS.items():
        module = _module(name)
        command = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(command)
        _common_arguments(command)
    return parser


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"titans_stream.commands.{name}")


def _common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="log what is done; -vv: in detail"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.version:
        return _print_version()
    if args.command is None:
        parser.print_help()
        return BAD_INPUT
    _set_up_logging(args.command, args.verbose, args.debug)
    if not args.debug:
        sys.excepthook = _one_line
    try:
        code: int = _module(args.command).run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone; nobody wants to hear of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ValueError as error:
        if args.debug:
            raise
        _print_error(args.command, _described(error))
        return BAD_INPUT
    except OSError as error:
        if args.debug:
            raise
        _print_error(args.command, str(error))
        return FAILED
    return code


def _print_version() -> int:
    from titans_stream import __version__

    print(f"titans-stream {__version__}")
    return 0


def _print_error(command: str, text: str) -> None:
    for line in redacted(text).split("\n"):
        print(f"titans-stream {command}: {printable(line)}", file=sys.stderr)


def _described(error: ValueError) -> str:
    """The words for an error; pydantic's are cut down to field and problem."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    return "\n".join(
        f"{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ")
        for one in error.errors()
    )


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Takes the place of the traceback for errors that no command expects."""
    text = printable(redacted(f"{kind.__name__}: {error}"))
    print(f"titans-stream: {text} (--debug shows the traceback)", file=sys.stderr)


class _Formatter(logging.Formatter):
    """Keeps each message to its line, without secrets; tracebacks have lines of their own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = printable(redacted(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        lines = redacted(super().formatException(ei)).split("\n")
        return "\n".join(map(printable, lines))


def _set_up_logging(command: str, verbose: int, debug: bool) -> None:
    """Log to standard error; a service says what it does, other commands only what is amiss."""
    level = logging.INFO if verbose or command in ("run", "jobs") else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose > 1 else level, handlers=[handler])
    # kafka-python reports every lost connection several times; the clients say it once
    logging.getLogger("kafka").setLevel(logging.DEBUG if debug else logging.CRITICAL)
    for library in ("numba", "matplotlib"):
        logging.getLogger(library).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
