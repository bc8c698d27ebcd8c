"""Files whose readings are known, written in a dialect drawn from those that people use.

Letters: R rows, C value columns.
"""

from __future__ import annotations

import gzip
import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from titans_stream.files.dialect import Dialect

DAY_FIRST = "%d/%m/%Y %H:%M:%S"
TIMES = {
    "rfc3339": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "space": lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S UTC"),
    "dots": lambda moment: moment.strftime("%d.%m.%Y %H:%M:%S"),
    "slashes": lambda moment: moment.strftime(DAY_FIRST),
    "seconds": lambda moment: str(int(moment.timestamp())),
    "milliseconds": lambda moment: str(int(moment.timestamp()) * 1000),
    "digits": lambda moment: moment.strftime("%Y%m%d%H%M%S"),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
WORDS = ("", "NaN", "?", "unavailable", "-", "\\N", "n/a", "ausgefallen", "-999")
FOREIGN = "ausgefallen"


@dataclass
class Table:
    """A file's bytes, how it is read, and what must come of it."""

    content: bytes
    dialect: Dialect
    timestamp: str
    values: list[list[float]]
    """[R][C], NaN where missing."""
    times: list[datetime]
    """[R] as the rows stand."""
    missing: int = 0
    """Cells that a word or a number marks as missing, but for those that are known everywhere."""
    empty_rows: int = 0
    comments: int = 0
    titles: int = 0
    units: int = 0
    header: list[str] = field(default_factory=list)


def made_table(rng: random.Random) -> Table:
    """A table in a dialect of its own; its values have at most five digits after the sign."""
    rows, columns = rng.randrange(1, 60), rng.randrange(1, 4)
    delimiter = rng.choice(",;\t|")
    decimal = rng.choice(".,") if delimiter != "," else "."
    thousands = rng.random() < 0.2
    notation = rng.choice(list(TIMES))
    begin = datetime(2026, 3, 14, tzinfo=UTC) + timedelta(minutes=rng.randrange(10**6))
    times = [begin + timedelta(minutes=rng.choice([0, 1, 1, 5])) for _ in range(rows)]
    if rng.random() < 0.5:
        times.sort(reverse=rng.random() < 0.3)
    header = ["Zeit", *(f"Wert {i}" for i in range(columns))]
    known = Table(b"", Dialect(), "Zeit", [], times, header=header)
    lines = []
    for moment in times:
        values, cells = [], [TIMES[notation](moment)]
        for _ in range(columns):
            value, cell = _cell(rng, decimal, thousands)
            known.missing += cell in WORDS[2:]
            known.missing -= cell == "n/a"
            values.append(value)
            cells.append(f'"{cell}"' if delimiter in cell or rng.random() < 0.1 else cell)
        known.values.append(values)
        lines.append(delimiter.join(cells))
        if rng.random() < 0.05:
            lines.append(f"%{rng.random()}")
            known.comments += 1
    known.empty_rows = rng.choice([0, 0, 3])
    lines += [delimiter * columns] * known.empty_rows
    has_header = rng.random() < 0.7
    if has_header:
        some = all(any(map(math.isfinite, column)) for column in zip(*known.values, strict=True))
        if some and rng.random() < 0.2:
            known.units = rng.randrange(1, 3)
            units = [rng.choice(["°C", "bar", "-", ""]) for _ in range(columns - 1)] + ["m³/h"]
            lines[:0] = [delimiter.join(["", *units])] * known.units
        lines.insert(0, delimiter.join(header))
        if rng.random() < 0.2:
            known.titles = rng.randrange(1, 4)
            lines[:0] = ["Bericht des Werks"] * known.titles
    if rng.random() < 0.2:
        lines.insert(0, f"sep={delimiter}")
    known.dialect = Dialect(
        delimiter=rng.choice([None, delimiter]) if has_header else delimiter,
        header=None if has_header else False,
        comment="%",
        decimal=decimal,
        na=(FOREIGN,),
        missing_values=(-999.0,),
        time_format=DAY_FIRST if notation == "slashes" else None,
    )
    known.timestamp = "Zeit" if has_header else "1"
    end = rng.choice(["\n", "\r\n"])
    content = (end.join(lines) + rng.choice(["", end])).encode(rng.choice(ENCODINGS))
    known.content = gzip.compress(content) if rng.random() < 0.2 else content
    return known


def _cell(rng: random.Random, decimal: str, thousands: bool) -> tuple[float, str]:
    """A value and how it is written."""
    if rng.random() < 0.1:
        return math.nan, rng.choice(WORDS)
    value = rng.choice([rng.randrange(-99, 10**6), round(rng.gauss(0, 1e4), rng.randrange(6))])
    if value == -999:
        return math.nan, "-999"
    text = f"{value:,}" if thousands else repr(value)
    if decimal == ",":
        text = text.replace(",", "'").replace(".", ",")
    return float(value), text


def spoiled(rng: random.Random, content: bytes) -> bytes:
    """The same bytes with a few of them changed, lost, doubled or cut off."""
    data = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        if not data:
            break
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randrange(1, 20)]
            case 2:
                data[at:at] = data[at : at + rng.randrange(1, 60)]
            case 3:
                data[at:at] = rng.choice(
                    [b'"', b"\n", b"\r", b"\0", b";", b",", b"#", b"\xff", b"e"]
                )
            case _:
                if rng.random() < 0.2:
                    del data[at:]
    return bytes(data)
