"""Print a script that completes commands, options and files in a shell.

eval "$(titans-stream complete bash)"       # in ~/.bashrc
titans-stream complete zsh > ~/.zfunc/_titans-stream
"""

from __future__ import annotations

import argparse
import sys


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from titans_stream.cli import build_parser, parsers_of

    parser = build_parser()
    for command in parsers_of(parser):
        for action in command._actions:
            if getattr(action.type, "__name__", "") == "Path" or action.dest in ("out", "plot"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(parser, shell=args.shell) + "\n")
    return 0
