"""The command line: `titans-stream COMMAND ...`.

Exit codes: 0 done, 2 bad input or configuration with one clear line, 1 anything else, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType, TracebackType
from typing import NoReturn

from titans_stream.log_output import add_log_arguments, set_up_logging
from titans_stream.printable import printable, redacted
from titans_stream.shipped_kernels import take as take_shipped

COMMANDS = {
    "demo": "watch this machine live: an embedded broker, the real worker, alerts on screen",
    "run": "run the worker of a connector",
    "check": "check a connector, its topics and its messages; change nothing",
    "plan": "say what workers, memory and bandwidth so many series take",
    "topics": "show the topics of a connector, or create those that are missing",
    "replay": "publish a CSV file to a connector's input topic",
    "alerts": "read a connector's alerts",
    "notify": "tell people of a connector's alerts: Alertmanager, webhooks",
    "control": "tell a running worker: silence, reset, rules, false alarms; see what is in force",
    "score": "score a CSV file without Kafka",
    "forecast": "forecast the series of a CSV file without Kafka",
    "train": "train a model from a recipe",
    "models": "list, compare, promote and roll back registered models",
    "jobs": "list a connector's jobs, run one, or run them when they are due",
    "evaluate": "measure detector and forecaster on data sets",
    "ui": "serve a page and an API about a connector",
    "mcp": "serve the same to assistants: the Model Context Protocol",
    "health": "say whether the worker gets on, for container health checks",
    "broker": "run the embedded development broker alone",
    "complete": "print a script that completes these commands in a shell",
}
"""Every command, in the order of the help; each is a module of `titans_stream.commands`."""

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the problem and end with exit code 2."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {_meant(message)} (see {self.prog} --help)\n")


def _meant(message: str) -> str:
    """A message of argparse; where a choice is close to what was given, that one is named."""
    found = re.fullmatch(r"(.*: invalid choice: '(.*)') \(choose from (.*)\)", message)
    if found is None:
        return message
    choices = re.findall(r"[\w-]+", found[3])
    close = difflib.get_close_matches(found[2], choices, n=1, cutoff=0.5)
    return f"{found[1]}; did you mean {close[0]!r}?" if close else message


def _refuse(parser: Parser, args: argparse.Namespace, rest: Sequence[str]) -> NoReturn:
    """End because of arguments that a command does not take; the option that is meant is named."""
    command = _chosen(parser, args)
    wrong = next((one.partition("=")[0] for one in rest if one.startswith("--")), "")
    known = [text for text in command._option_string_actions if text != wrong]
    close = difflib.get_close_matches(wrong, known, n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    command.error(f"unrecognized arguments: {' '.join(rest)}{meant}")


def _chosen(parser: argparse.ArgumentParser, args: argparse.Namespace) -> argparse.ArgumentParser:
    """The parser of the command that was given, or of its own command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            given = action.choices.get(getattr(args, action.dest, ""))
            return parser if given is None else _chosen(given, args)
    return parser


def parsers_of(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser, and those of all commands below it."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found += parsers_of(command)
    return found


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
    add_log_arguments(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.command is None:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        _refuse(parser, args, rest)
    if args.version:
        return _print_version()
    if args.command is None:
        parser.print_help()
        return BAD_INPUT
    serves = args.command in ("run", "jobs", "notify")
    level = logging.DEBUG if args.verbose > 1 else logging.INFO
    set_up_logging(args, level if args.verbose or serves else logging.WARNING)
    if not args.debug:
        sys.excepthook = _one_line
    take_shipped()
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


if __name__ == "__main__":
    sys.exit(main())
