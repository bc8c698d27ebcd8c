"""The arguments that say how a CSV file is read."""

from __future__ import annotations

import argparse


def add_csv_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the arguments that say how a CSV file is read."""
    parser.add_argument(
        "--timestamp", metavar="COL", help="column of times (RFC 3339, or s, ms, us, ns since 1970)"
    )
    parser.add_argument(
        "--value",
        metavar="COL",
        action="append",
        default=[],
        help="column of values; repeat for several; default: all numeric columns",
    )
    parser.add_argument(
        "--series", metavar="COL", help="column of series names, for a file in long format"
    )
    parser.add_argument(
        "--delimiter", metavar="D", help="default: the one of comma, semicolon and tab that fits"
    )
    parser.add_argument("--timezone", metavar="ZONE", help="of times without offset; default UTC")


def delimiter(text: str | None) -> str | None:
    """The delimiter of an argument. ValueError where it is not one character."""
    named = {"tab": "\t", "\\t": "\t"}.get(text or "", text)
    if named is not None and (len(named) != 1 or named in '"\r\n'):
        raise ValueError(f"--delimiter: one character is needed, not {text!r}")
    return named
