"""State as rows: one series is one row of every array, and a row's numbers have names.

A `Record` declares the fields of a row, in order. Kernels get numpy records of its `dtype_of`, so
that `episode.peak_value` is a column of the state array and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

_ELEMENTS: dict[Any, type[np.generic]] = {float: np.float64, int: np.int64, bool: np.bool_}


class Record:
    """Base of the declarations: each field is `float` (float64), `int` (int64), `bool` or a vector.

    A vector is `Annotated[Float64, n]`. No instance is ever made; annotations of kernels name the
    class, what they get is a numpy record.
    """


def dtype_of(record: type[Record]) -> np.dtype[np.void]:
    """The structured type of a declaration; its fields lie in order, without padding."""
    fields: list[tuple[str, Any] | tuple[str, Any, tuple[int, ...]]] = []
    for name, hint in get_type_hints(record, include_extras=True).items():
        if get_origin(hint) is Annotated:
            array, *shape = get_args(hint)
            fields.append((name, get_args(get_args(array)[-1])[0], tuple(shape)))
        else:
            fields.append((name, _ELEMENTS[hint]))
    return np.dtype(fields)


def plain(records: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Records of one element type as columns [rows, columns]; other arrays as they are.

    This is how state is kept outside the engine: the bytes are the same.
    """
    if records.dtype.names is None:
        return records
    element = records.dtype[0].base
    columns = np.ascontiguousarray(records).view(element)
    return columns.reshape(*records.shape, -1)


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a series' state: the shape of a row and its element type."""

    shape: tuple[int, ...]
    dtype: npt.DTypeLike

    @classmethod
    def of(cls, record: type[Record]) -> ArraySpec:
        """An array of one record a row."""
        return cls((), dtype_of(record))

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
            return array.astype(dtype)
        element = dtype[0].base
        width = dtype.itemsize // element.itemsize
        if array.shape != (count, *self.shape, width):
            raise ValueError(f"state: array {name!r} has shape {array.shape}")
        columns = np.ascontiguousarray(array, element)
        return columns.view(dtype).reshape(count, *self.shape)
