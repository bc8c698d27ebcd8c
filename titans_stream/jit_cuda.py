"""The kernels of jit.py compiled for NVIDIA GPUs by numba-cuda: the same functions, one source.

A CUDA kernel that calls an `njit` function gets it as a device function. What differs is scratch
space, which comes from the thread's local memory here. Needs the package numba-cuda, but no GPU:
PTX can be made and looked at on any machine.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import cuda
from numba.cuda import cudaimpl
from numba.cuda import dispatcher as _dispatcher
from numba.cuda.codegen import JITCUDACodegen
from numba.cuda.cudadrv import devices, nvvm
from numba.cuda.cudadrv.runtime import runtime
from numba.cuda.extending import intrinsic, overload
from numba.np.numpy_support import from_dtype

from titans_stream.jit import SCRATCH, Locator, cache_folder

_LOCAL = re.compile(r"__local_depot\d+\[(\d+)\]")


@functools.cache
def _register(make: Callable[[], Any]) -> None:
    """Let a function of `jit.scratch` take local memory in device code."""
    shape, dtype = SCRATCH[make]
    element = from_dtype(dtype)
    array = numba.types.Array(element, len(shape), "C")

    @intrinsic  # type: ignore[untyped-decorator]
    def allocate(_context: Any) -> Any:
        def code(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
            return cudaimpl._generic_array(
                context, builder, shape=shape, dtype=element, symbol_name="_cudapy_lmem",
                addrspace=nvvm.ADDRSPACE_LOCAL, can_dynsized=False,
            )  # fmt: skip

        return array(), code

    # typed by an intrinsic and lowered into the caller: a function cannot return a local array
    @overload(make, target="cuda", inline="always")  # type: ignore[untyped-decorator]
    def _make() -> Any:
        return lambda: allocate()


class _Results(_dispatcher.CUDACacheImpl):  # type: ignore[misc]
    _locator_classes = (Locator,)


class _Cache(_dispatcher.CUDACache):  # type: ignore[misc]
    _impl_class = _Results


def jit(kernel: Callable[..., None]) -> Any:
    """A kernel for the GPU at hand: compiled at its first launch, cached as `jit.njit` does."""
    register_scratch()
    made = cuda.jit(kernel)
    if cache_folder(Path(kernel.__code__.co_filename)) is not None:
        made._cache = _Cache(kernel)
    return made


def register_scratch() -> None:
    """Let all functions of `jit.scratch` take local memory in device code."""
    for make in SCRATCH:
        _register(make)


def array_of(dtype: Any, dimensions: int = 1) -> Any:
    """numba's type of a C-ordered array, also of records."""
    return numba.types.Array(from_dtype(np.dtype(dtype)), dimensions, "C")


def type_of(value: Any) -> Any:
    """numba's type of an argument; NamedTuples of arrays and numbers are taken apart."""
    return numba.typeof(value)


def ptx(
    kernel: Callable[..., None], arguments: tuple[Any, ...], capability: tuple[int, int]
) -> str:
    """The PTX of a kernel for a compute capability; `arguments` are numba types.

    Raises numba's errors where the kernel does what a device cannot.
    """
    register_scratch()
    code, _ = cuda.compile_ptx(kernel, arguments, device=False, cc=capability)
    return str(code)


def local_bytes(code: str) -> int:
    """Bytes of local memory a thread that PTX declares."""
    return sum(int(size) for size in _LOCAL.findall(code))


class _Capability:
    """Stands in for a device while code is only compiled."""

    def __init__(self, capability: tuple[int, int]) -> None:
        self.compute_capability = capability
        self.arch = f"sm_{capability[0]}{capability[1]}"


def compile_without_device(capability: tuple[int, int]) -> None:
    """Let numba-cuda compile on a machine without a driver, for a compute capability."""
    _dispatcher.get_current_device = lambda: _Capability(capability)


@contextmanager
def capability_without_device(capability: tuple[int, int]) -> Iterator[None]:
    """Let `store` compile for a compute capability on a machine without a driver."""
    kept = _dispatcher.get_current_device, devices.get_context, JITCUDACodegen.magic_tuple
    compile_without_device(capability)
    context = types.SimpleNamespace(device=_Capability(capability))
    devices.get_context = lambda _number=None: context
    JITCUDACodegen.magic_tuple = lambda _self: (runtime.get_version(), capability)
    try:
        yield
    finally:
        _dispatcher.get_current_device, devices.get_context = kept[:2]
        JITCUDACodegen.magic_tuple = kept[2]


def store(
    kernel: Callable[..., None], arguments: tuple[Any, ...], capability: tuple[int, int]
) -> int:
    """Compile and assemble a kernel into the cache of `jit`; returns the bytes of its code.

    `arguments` are what it is launched with; within `capability_without_device`.
    """
    made = jit(kernel)
    signature = tuple(map(type_of, arguments))
    compiled = _dispatcher._Kernel(made.py_func, signature, **made.targetoptions)
    code = compiled._codelibrary.get_cubin(capability)
    made._cache.save_overload(signature, compiled)
    return len(code.code)


class Resources(NamedTuple):
    """What the assembler made of a kernel, a thread."""

    registers: int
    stack: int
    """Bytes of local memory."""
    spills: int
    """Bytes of registers that are kept there, stores and loads."""


def resources(code: str, capability: tuple[int, int]) -> Resources:
    """Assemble PTX for a compute capability, without a GPU: CUDA's linker needs none."""
    from cuda.bindings import nvjitlink

    options = [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"]
    link = nvjitlink.create(len(options), options)
    try:
        data = code.encode()
        nvjitlink.add_data(link, nvjitlink.InputType.PTX, data, len(data), "kernel")
        nvjitlink.complete(link)
        log = bytearray(nvjitlink.get_info_log_size(link))
        nvjitlink.get_info_log(link, log)
    finally:
        nvjitlink.destroy(link)
    text = log.decode()
    spills = sum(map(int, re.findall(r"(\d+) bytes spill", text)))
    registers, stack = re.findall(r"used (\d+) registers.* (\d+) stack", text)[-1]
    return Resources(int(registers), int(stack), spills)
