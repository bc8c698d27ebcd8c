"""An NVIDIA GPU as the engine's device, by numba-cuda.

Copies and launches go one after another on one stream; a launch does not wait, a copy back does.
In numba's simulator (NUMBA_ENABLE_CUDASIM=1) the same code runs on the CPU, thread by thread.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_stream.engine.device.api import Array, DeviceError

log = logging.getLogger(__name__)

BLOCK = 64
"""Threads of a block: each takes up to 255 registers, so that larger blocks leave room unused."""
OLDEST = (7, 0)
"""Compute capability from which this is compiled."""


def open_cuda() -> CudaDevice:
    """The first GPU that this process sees; DeviceError, in one line, where there is none."""
    if importlib.util.find_spec("numba_cuda") is None:
        raise DeviceError("numba-cuda is not installed: pip install 'titans-stream[gpu]'")
    from numba import cuda

    if not cuda.is_available():
        raise DeviceError(f"no GPU can be used: {_reason(cuda)}")
    device = CudaDevice()
    if device.capability < OLDEST:
        raise DeviceError(
            f"{device.name} is too old: compute capability {device.capability[0]}."
            f"{device.capability[1]}, at least {OLDEST[0]}.{OLDEST[1]} is needed"
        )
    return device


def _reason(cuda: Any) -> str:
    """What the driver says, in one line."""
    try:
        said = str(cuda.cuda_error() or "")
    except Exception as error:  # noqa: BLE001 - whatever the driver's loader raises
        said = str(error)
    return _line(said) or "no device is visible"


def _line(text: str) -> str:
    return " ".join(text.split())


class CudaDevice:
    """Implements `Device`."""

    def __init__(self) -> None:
        from numba import config, cuda

        self._cuda = cuda
        self._simulated = bool(config.ENABLE_CUDASIM)
        self._kernels: dict[Callable[..., None], Any] = {}
        try:
            current = cuda.get_current_device()
            self.capability: tuple[int, int] = tuple(current.compute_capability)
            if self._simulated:
                self.capability = OLDEST  # the simulator takes itself for a card of 2014
            name = getattr(current, "name", b"simulator")
        except Exception as error:  # noqa: BLE001 - the driver's kinds differ by release
            raise DeviceError(f"the GPU cannot be used: {_line(str(error))}") from None
        self.name = f"cuda:0 {name.decode() if isinstance(name, bytes) else name}"

    @property
    def free_bytes(self) -> int:
        """As `Device.free_bytes`."""
        if self._simulated:
            return 1 << 40
        return int(self._cuda.current_context().get_memory_info().free)

    @property
    def threads(self) -> int:
        """As `Device.threads`."""
        if self._simulated:
            return 1
        current = self._cuda.get_current_device()
        each: int = current.MAX_THREADS_PER_MULTI_PROCESSOR
        return each * int(current.MULTIPROCESSOR_COUNT)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """As `Device.empty`."""
        try:
            return self._cuda.device_array(shape, np.dtype(dtype))
        except Exception as error:
            if "OUT_OF_MEMORY" not in str(error).upper().replace(" ", "_"):
                raise
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            raise DeviceError(
                f"{self.name}: no room for {size:,} bytes more; another process may have taken it"
            ) from None

    def as_words(self, array: Any, dtype: npt.DTypeLike, words: int) -> Any:
        """As `Device.as_words`."""
        element = np.dtype(dtype)
        if self._simulated:
            flat = array._ary.reshape(-1).view(element).reshape(-1, words)
            return type(array)(flat)
        from numba.cuda.cudadrv.devicearray import DeviceNDArray

        rows = array.size * array.dtype.itemsize // (words * element.itemsize)
        strides = (words * element.itemsize, element.itemsize)
        return DeviceNDArray((rows, words), strides, element, gpu_data=array.gpu_data)

    def put(self, target: Any, array: Array) -> None:
        """As `Device.put`."""
        if len(array):
            whole = len(array) == target.shape[0]
            (target if whole else target[: len(array)]).copy_to_device(np.ascontiguousarray(array))

    def get(self, source: Any, count: int) -> Array:
        """As `Device.get`."""
        if count == 0:
            return np.empty((0, *source.shape[1:]), source.dtype)
        out: Array = source[:count].copy_to_host()
        return out

    def launch(self, thread: Callable[..., None], count: int, *arguments: Any) -> None:
        """As `Device.launch`."""
        if count == 0:
            return
        kernel = self._kernels.get(thread)
        if kernel is None:
            log.info("%s: compiling it, or loading it from the cache", thread.__name__)
            kernel = self._kernels[thread] = self._compiled(thread)
        if self._simulated:
            arguments = tuple(map(_plain, arguments))
        kernel[-(-count // BLOCK), BLOCK](count, *arguments)

    def wait(self) -> None:
        """Until all that was launched is done."""
        self._cuda.synchronize()

    def _compiled(self, thread: Callable[..., None]) -> Any:
        from titans_stream.engine.device.cuda_kernels import ENTRIES

        if self._simulated:
            return self._cuda.jit(ENTRIES[thread])
        from titans_stream.jit_cuda import jit

        return jit(ENTRIES[thread])


def _plain(argument: Any) -> Any:
    """An argument for the simulator, whose kernels call functions that are compiled for the CPU."""
    if isinstance(argument, tuple):
        return type(argument)(*map(_plain, argument))
    return getattr(argument, "_ary", argument)
