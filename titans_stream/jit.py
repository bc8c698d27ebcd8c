"""`njit` with a compile cache that knows this package's sources.

numba's own cache looks at a kernel's file alone, so it would keep a kernel whose constants or
callees changed in another file, also across an upgrade of the package. Here the cache folder of a
kernel is named by a digest of its source and of all sources of this package that it imports, by
whatever way. Nothing else decides: neither the times of the files nor where the package lies, so
that two installations of the same sources share their kernels. Where no folder can be written, or
others could have written there (a cache is code), kernels are compiled anew in each process.

numba counts references to arrays whenever a kernel hands them on or takes one out of a tuple, with
an atomic operation each time: four fifths of the time of a kernel that reads the arrays of a
series' state one by one. An inner kernel that only reads and writes what it was given counts none:
its callers hold them.

A division by zero gives infinity or NaN, as on a GPU. A kernel that raises where a divisor is zero
has a branch at each division, and no loop with one in it runs in vectors.

Most of the time to compile a kernel goes into what only a call from Python needs. So a kernel that
only kernels call is marked `inner`: it has neither wrappers nor machine code nor a cache file of
its own and becomes part of the kernels that call it. Calling it from Python raises TypeError.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from llvmlite.binding import Linkage  # type: ignore[import-untyped]
from numba.core import caching, compiler, ir, typed_passes, types
from numba.core.compiler_machinery import PassManager, register_pass

from titans_stream.kernel_cache import is_ours, own_cache

F = TypeVar("F", bound=Callable[..., Any])
ASSOCIATIVE = {"reassoc", "contract", "nsz"}
"""Float liberties that let sums run in vectors; NaN and infinity keep their meaning."""
PACKAGE = Path(__file__).parent


@functools.cache
def _imported(source: Path) -> frozenset[Path]:
    """Files of this package that a source names in its import statements."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    found: set[Path] = set()
    for name in names:
        package, *inside = name.split(".")
        if package == PACKAGE.name and inside:
            path = PACKAGE.joinpath(*inside)
            found.update(p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file())
    return frozenset(found)


def _sources(source: Path) -> set[Path]:
    """A source and all of this package that it imports, by whatever way."""
    found: set[Path] = set()
    ahead = [source]
    while ahead:
        path = ahead.pop()
        if path not in found:
            found.add(path)
            ahead.extend(_imported(path))
    return found


def _place(source: Path) -> Path:
    """A source's path inside the package, or from the root where it lies elsewhere."""
    return source.relative_to(PACKAGE if source.is_relative_to(PACKAGE) else source.anchor)


@functools.cache
def cache_folder(source: Path) -> Path | None:
    """Where a source's compiled kernels are kept; None: there is no file, or no place."""
    if not source.is_file():
        return None
    cache = own_cache()
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_sources(source), key=_place):
        digest.update(str(_place(path)).encode())
        digest.update(path.read_bytes())
    folder = cache / _place(source).with_suffix("") / digest.hexdigest()[:16]
    try:
        return folder if is_ours(cache.parent, folder) and os.access(folder, os.W_OK) else None
    except OSError:
        return None


def cache_is_empty(module: str) -> bool:
    """Whether the kernels of a module (`detection/kernels.py`) will have to be compiled."""
    folder = cache_folder(PACKAGE / module)
    return folder is None or not any(folder.iterdir())


class Locator(caching._CacheLocator):  # type: ignore[misc]
    """A kernel's place in the cache."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._folder = folder
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> Locator | None:
        """None: the cache has no place."""
        folder = cache_folder(Path(py_file))
        return None if folder is None else cls(py_func, folder)

    def get_cache_path(self) -> str:
        """The folder."""
        return str(self._folder)

    def get_source_stamp(self) -> str:
        """Names the sources."""
        return self._folder.name

    def get_disambiguator(self) -> str:
        """Tells functions of one source apart."""
        return str(self._line)


class _Results(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (Locator,)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Results


_BORROWED = {"getattr", "getitem", "static_getitem", "build_tuple", "cast", "exhaust_iter", "phi"}
"""Expressions of arrays that are parts of others, or the same."""


def _only_borrows(state: Any) -> bool:
    """Whether a function makes, gets or returns no array but parts of its arguments."""
    manager = state.targetctx.data_model_manager

    def counted(kind: Any) -> bool:
        return bool(manager[kind].contains_nrt_meminfo())

    if counted(state.return_type):
        return False
    statements = [one for block in state.func_ir.blocks.values() for one in block.body]
    stored = [s.value for s in statements if isinstance(s, (ir.SetItem, ir.StaticSetItem))]
    made = [s.target for s in statements if isinstance(s, ir.Assign) and _is_made(state, s.value)]
    return not any(counted(state.typemap[variable.name]) for variable in stored + made)


def _is_made(state: Any, value: Any) -> bool:
    """Whether an array that is assigned may be a new one."""
    if not isinstance(value, ir.Expr):
        return False
    if value.op == "call":
        return not isinstance(state.typemap[value.func.name], types.NamedTupleClass)
    return value.op not in _BORROWED


@register_pass(mutates_CFG=False, analysis_only=True)
class _InnerLowering(typed_passes.NativeLowering):  # type: ignore[misc]
    """Lowering without machine code: callers link the optimised intermediate code.

    Of a function that only borrows arrays also without counts of references.
    """

    _name = "inner_lowering"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        if state.library is None:
            state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
            state.library.enable_object_caching()
        if _only_borrows(state):
            state.targetctx = state.targetctx.subtarget(enable_nrt=False)
            vars(state.targetctx).pop("nrt", None)  # of the context with counts
        super().run_pass(state)
        # numba knows an overload by a builtin function of its own; this one raises TypeError
        entry = object().__format__
        state.cr = state.cr._replace(cfunc=entry)
        state.targetctx.insert_user_function(entry, state.cr.fndesc, [state.library])
        return True


def _optimise_whole(library: Any) -> None:
    """Optimise a kernel's module with all it calls as parts of its own.

    numba links callees so that other modules may hold them too; then LLVM can neither take one that
    is called once into its caller nor leave out arguments that it does not use, and each call
    copies the descriptions of all arrays of a series' state.
    """
    for function in library._final_module.functions:
        if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
            function.linkage = "internal"
    type(library)._optimize_final_module(library)


@register_pass(mutates_CFG=False, analysis_only=True)
class _OuterLowering(typed_passes.NativeLowering):  # type: ignore[misc]
    """Lowering of a kernel that is called from Python."""

    _name = "outer_lowering"

    def run_pass(self, state: Any) -> bool:
        if state.library is None:
            state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
            state.library.enable_object_caching()
        state.library._optimize_final_module = functools.partial(_optimise_whole, state.library)
        return bool(super().run_pass(state))


class _Compiler(compiler.CompilerBase):  # type: ignore[misc]
    lowering: Any = _OuterLowering

    def define_pipelines(self) -> list[PassManager]:
        whole = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager = PassManager("kernel")
        for step, what in whole.passes:
            manager.add_pass(self.lowering if step is typed_passes.NativeLowering else step, what)
        manager.finalize()
        return [manager]


class _InnerCompiler(_Compiler):
    lowering = _InnerLowering


def njit(*, inner: bool = False, **options: Any) -> Callable[[F], F]:
    """`numba.njit` in nopython mode, cached in `cache_folder`; options as numba's.

    `inner`: only kernels call it.
    """
    options.setdefault("no_cfunc_wrapper", True)
    options.setdefault("pipeline_class", _Compiler)
    if inner:
        options.update(no_cpython_wrapper=True, pipeline_class=_InnerCompiler)

    def decorate(function: F) -> F:
        options.setdefault("error_model", "numpy")
        dispatcher = numba.njit(**options)(function)
        if not inner and cache_folder(Path(function.__code__.co_filename)) is not None:
            dispatcher._cache = _Cache(function)
        return dispatcher  # type: ignore[no-any-return]

    return decorate


SCRATCH: dict[Callable[[], Any], tuple[tuple[int, ...], np.dtype[Any]]] = {}
"""What `scratch` has declared, for a compiler of another device."""


def scratch(
    shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float64
) -> Callable[[], npt.NDArray[Any]]:
    """A function for kernels that gives space of a fixed shape with anything in it.

    On the CPU that is an array of its own; a device takes it from the thread's local memory, so it
    is only for arrays of some KB, and does not outlive the kernel.
    """
    size = shape if isinstance(shape, tuple) else (shape,)
    element = np.dtype(dtype)

    def make() -> npt.NDArray[Any]:
        return np.empty(size, element)

    @numba.extending.overload(make)  # type: ignore[untyped-decorator]
    def _make() -> Callable[[], npt.NDArray[Any]]:
        return lambda: np.empty(size, element)

    SCRATCH[make] = (size, element)
    return make
