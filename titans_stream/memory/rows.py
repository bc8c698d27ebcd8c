"""State as rows: one series is one row of every array, and a row's numbers have names.

A `Record` declares the fields of a row, in order. Kernels get numpy records of its `dtype_of`, so
that `episode.peak_value` is a column of the state array and nothing else.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

_ELEMENTS: dict[Any, type[np.generic]] = {float: np.float64, int: np.int64, bool: np.bool_}
Single = Annotated[float, np.float32]
"""A field of float32."""


class Record:
    """Base of the declarations.

    A field is `float` (float64), `Single` (float32), `int` (int64), `bool`, an array
    `Annotated[Float64, n, ...]` or a further record. No instance is ever made; annotations of
    kernels name the class, what they get is a numpy record.
    """


def dtype_of(record: type[Record]) -> np.dtype[np.void]:
    """The structured type of a declaration; its fields lie in order, without padding."""
    found: np.dtype[np.void] = _dtype_of(record)  # type: ignore[arg-type]
    return found


@functools.cache
def _dtype_of(record: Any) -> np.dtype[np.void]:
    fields: list[tuple[str, Any] | tuple[str, Any, tuple[int, ...]]] = []
    for name, hint in get_type_hints(record, include_extras=True).items():
        if hint == Single:
            fields.append((name, np.float32))
        elif get_origin(hint) is Annotated:
            array, *shape = get_args(hint)
            fields.append((name, get_args(get_args(array)[-1])[0], tuple(shape)))
        elif isinstance(hint, type) and issubclass(hint, Record):
            fields.append((name, dtype_of(hint)))
        else:
            fields.append((name, _ELEMENTS[hint]))
    # GPU code reads a field of a record that is not marked as aligned byte by byte
    aligned = np.dtype(fields, align=True)
    assert aligned.itemsize == np.dtype(fields).itemsize, f"{record.__name__} has padding"
    return aligned


def plain(records: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Records of one element type as columns [rows, columns]; other arrays as they are.

    This is how state is kept outside the engine: the bytes are the same.
    """
    if records.dtype.names is None:
        return records
    element = _element(records.dtype)
    columns = np.ascontiguousarray(records).view(element)
    return columns.reshape(*records.shape, records.dtype.itemsize // element.itemsize)


def _element(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of a record's first number."""
    while dtype.names is not None:
        dtype = dtype[0]
    return dtype.base


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a series' state: the shape of a row and its element type."""

    shape: tuple[int, ...]
    dtype: npt.DTypeLike

    @classmethod
    def of(cls, record: type[Record], *shape: int) -> ArraySpec:
        """An array of one record a row, or of as many as `shape` says."""
        return cls(shape, dtype_of(record))

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def rows(self, count: int) -> npt.NDArray[Any]:
        """`count` rows at zero."""
        return np.zeros((count, *self.shape), self.dtype)

    def from_plain(self, name: str, array: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
        """Rows from what `plain` gave of them; ValueError names an array of another shape."""
        dtype = np.dtype(self.dtype)
        if dtype.names is None:
            if array.shape != (count, *self.shape):
                raise ValueError(f"state: array {name!r} has shape {array.shape}")
            return array.astype(dtype, copy=False)
        element = _element(dtype)
        width = dtype.itemsize // element.itemsize
        if array.shape != (count, *self.shape, width):
            raise ValueError(f"state: array {name!r} has shape {array.shape}")
        columns = np.ascontiguousarray(array, element)
        return columns.view(dtype).reshape(count, *self.shape)
