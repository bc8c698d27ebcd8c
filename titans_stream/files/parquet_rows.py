"""The rows of a Parquet file as text, so that one reader serves all files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from titans_stream.times import format_timestamps

_MAGIC = b"PAR1"
_BATCH_ROWS = 8_192


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does; what cannot be opened is left to whoever reads it."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


class ParquetRows:
    """Iterates over the names of the columns and then the rows; each iteration reads it anew.

    Times have an offset where the file knows it. Numbers have as many digits as it takes to read
    them back the same; null is an empty cell. ValueError, naming the file, where it is broken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[list[str]]:
        try:
            with pq.ParquetFile(self._path) as file:
                yield list(file.schema_arrow.names)
                for batch in file.iter_batches(_BATCH_ROWS):
                    yield from map(list, zip(*map(_texts, batch.columns), strict=True))
        except (pa.ArrowException, OSError) as error:
            what = str(error).splitlines()[0]
            raise ValueError(f"{self._path.name}: cannot be read as Parquet: {what}") from None


def _texts(column: pa.Array) -> list[str]:
    """[R] cells."""
    if pa.types.is_timestamp(column.type):
        known = column.is_valid().to_numpy(zero_copy_only=False)
        nanoseconds = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64())
        texts = format_timestamps(nanoseconds.fill_null(0).to_numpy())
        end = None if column.type.tz else -1
        return [text[:end] if there else "" for text, there in zip(texts, known, strict=True)]
    if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_floating(column.type):
        numbers = column.fill_null(np.nan).to_numpy()
        return ["" if number != number else repr(number) for number in numbers.tolist()]
    return ["" if cell is None else str(cell) for cell in column.to_pylist()]
