"""Say whether the worker beside this command gets on: exit code 0 if so, 1 if not.

`titans-stream run` keeps the file named in TITANS_HEALTH_FILE fresh while it reads and commits;
this command looks at its age. Made for the health checks of containers.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from titans_stream.commands.outputs import say

_MOST_AHEAD = 5.0
"""Seconds that a file system's clock may be ahead of this machine's."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--file", metavar="FILE", type=Path, help="default: $TITANS_HEALTH_FILE")
    parser.add_argument(
        "--max-age", metavar="SECONDS", type=float, default=60.0, help="default: 60"
    )


def run(args: argparse.Namespace) -> int:
    """Compare the file's age with the limit."""
    from titans_stream.ops.health import VARIABLE, age

    path = args.file or os.environ.get(VARIABLE)
    if not path:
        raise ValueError(f"--file: name the health file, or set {VARIABLE}")
    seconds = age(Path(path))
    if seconds is None:
        say(f"not healthy: {path} does not exist (yet)")
        return 1
    if seconds < -_MOST_AHEAD:
        say(f"not healthy: {path} is {-seconds:.0f} s ahead of the clock; was it set back?")
        return 1
    healthy = seconds <= args.max_age
    say(f"{'healthy' if healthy else 'not healthy'}: got on {seconds:.0f} s ago")
    return 0 if healthy else 1
