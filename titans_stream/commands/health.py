"""Say whether the worker beside this command gets on: exit code 0 if so, 1 if not.

`titans-stream run` keeps the file named in TITANS_HEALTH_FILE fresh while it reads and commits;
this command looks at its age. Made for the health checks of containers.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


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
        sys.stdout.write(f"not healthy: {path} does not exist (yet)\n")
        return 1
    healthy = seconds <= args.max_age
    sys.stdout.write(f"{'healthy' if healthy else 'not healthy'}: got on {seconds:.0f} s ago\n")
    return 0 if healthy else 1
