"""The arguments that say how a file of readings is read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_stream.files.dialect import Dialect

DUPLICATES = ("keep-order", "drop", "keep-last", "spread")
"""The choices of `engine.settings.Duplicates`, which every start of the command line would load."""


def add_csv_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the arguments that say how a file is read."""
    parser.add_argument(
        "--timestamp",
        metavar="COL",
        help="column of times, or DATE,TIME for two (RFC 3339, s, ms, us, ns since 1970, "
        "DD.MM.YYYY and others)",
    )
    parser.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="of the times: such as '%%d/%%m/%%Y %%H:%%M', or s, ms, us, ns (since 1970), or days "
        "(a spreadsheet's)",
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
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line names the columns; without names they are 'column 1', ...",
    )
    parser.add_argument("--comment", metavar="TEXT", help="leave out lines that begin so")
    parser.add_argument(
        "--decimal", choices=[".", ","], help="decimal sign; default: found out for each column"
    )
    parser.add_argument(
        "--na",
        metavar="TEXT",
        action="append",
        default=[],
        help="a cell that says so has no value; repeat for several; common ones are known",
    )
    parser.add_argument(
        "--missing-values",
        metavar="N[,N...]",
        type=_numbers,
        action="append",
        default=[],
        help="numbers that stand for no value, such as -999",
    )
    parser.add_argument(
        "--encoding", metavar="NAME", help="of the text, such as cp1252; default: UTF-8 or UTF-16"
    )
    add_allow_dropped(parser)


def add_allow_dropped(parser: argparse._ActionsContainer) -> None:
    """Add `--allow-dropped`."""
    parser.add_argument(
        "--allow-dropped",
        action="store_true",
        help="end with exit code 0 though more than a tenth of the readings was left out",
    )


def add_duplicates(parser: argparse._ActionsContainer) -> None:
    """Add `--duplicates`."""
    parser.add_argument(
        "--duplicates",
        choices=DUPLICATES,
        help="several readings of a series with one time; default: the engine's setting, "
        f"{DUPLICATES[0]}",
    )


def chosen_duplicates(args: argparse.Namespace) -> dict[str, Any]:
    """The engine setting that the arguments give, if any."""
    chosen = getattr(args, "duplicates", None)
    return {} if chosen is None else {"duplicates": chosen}


def dialect(args: argparse.Namespace) -> Dialect:
    """What the arguments say. ValueError where the delimiter is not one character."""
    from titans_stream.files.dialect import Dialect

    return Dialect(
        delimiter=delimiter(args.delimiter),
        header=args.header,
        comment=args.comment or None,
        decimal=args.decimal,
        na=tuple(args.na),
        missing_values=tuple(number for numbers in args.missing_values for number in numbers),
        time_format=args.time_format,
        encoding=args.encoding,
    )


def with_missing(file: Dialect, said: Sequence[float | str]) -> Dialect:
    """The dialect with a connector's `input.missing_values`, too."""
    texts = tuple(one for one in said if isinstance(one, str))
    numbers = tuple(float(one) for one in said if not isinstance(one, str))
    return replace(file, na=(*file.na, *texts), missing_values=(*file.missing_values, *numbers))


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers are needed, not {text!r}") from None


def delimiter(text: str | None) -> str | None:
    """The delimiter of an argument. ValueError where it is not one character."""
    named = {"tab": "\t", "\\t": "\t"}.get(text or "", text)
    if named is not None and (len(named) != 1 or named in '"\r\n'):
        raise ValueError(f"--delimiter: one character is needed, not {text!r}")
    return named
