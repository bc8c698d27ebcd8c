"""`njit` with a compile cache that knows this package's sources.

numba's own cache looks at a kernel's file alone, so it would keep a kernel whose constants or
callees changed in another file, also across an upgrade of the package. Here the cache folder is
named by a digest of all sources that hold kernels, and of every layout.py, where kernels find the
constants that are not in their own file. Nothing else decides: neither the times of the files nor
where the package lies, so that two installations of the same sources share their kernels. Where
no folder can be written, kernels are compiled anew in each process.

Most of the time to compile a kernel goes into what only a call from Python needs. So a kernel that
only kernels call is marked `inner`: it has neither wrappers nor machine code nor a cache file of
its own and becomes part of the kernels that call it. Calling it from Python raises TypeError.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import caching, compiler, typed_passes
from numba.core.compiler_machinery import PassManager, register_pass

F = TypeVar("F", bound=Callable[..., Any])
ASSOCIATIVE = {"reassoc", "contract", "nsz"}
"""Float liberties that let sums run in vectors; NaN and infinity keep their meaning."""
PACKAGE = Path(__file__).parent


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept; None where no folder can be written."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(PACKAGE.rglob("*.py")):
        text = source.read_bytes()
        if b"njit" in text or source.name == "layout.py":
            digest.update(str(source.relative_to(PACKAGE)).encode())
            digest.update(text)
    folder = Path(root) / "titans-stream" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def cache_is_empty() -> bool:
    """Whether kernels will have to be compiled."""
    folder = cache_folder()
    return folder is None or not any(folder.iterdir())


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """A kernel's place in the cache: the digest's folder, then its module's place in the
    package."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._folder = folder
        self._line = function.__code__.co_firstlineno
        source = Path(function.__code__.co_filename)
        inside = source.is_relative_to(PACKAGE)
        self._module = source.relative_to(PACKAGE) if inside else source.relative_to("/")

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator | None:
        folder = cache_folder()
        return None if folder is None else cls(py_func, folder)

    def get_cache_path(self) -> str:
        return str(self._folder / self._module.parent)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Results(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Results


@register_pass(mutates_CFG=False, analysis_only=True)
class _InnerLowering(typed_passes.NativeLowering):  # type: ignore[misc]
    """Lowering without machine code: callers link the optimised intermediate code."""

    _name = "inner_lowering"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        if state.library is None:
            state.library = state.targetctx.codegen().create_library(state.func_id.func_qualname)
            state.library.enable_object_caching()
        super().run_pass(state)
        # numba knows an overload by a builtin function of its own; this one raises TypeError
        entry = object().__format__
        state.cr = state.cr._replace(cfunc=entry)
        state.targetctx.insert_user_function(entry, state.cr.fndesc, [state.library])
        return True


class _InnerCompiler(compiler.CompilerBase):  # type: ignore[misc]
    def define_pipelines(self) -> list[PassManager]:
        whole = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager = PassManager("inner")
        for step, what in whole.passes:
            manager.add_pass(_InnerLowering if step is typed_passes.NativeLowering else step, what)
        manager.finalize()
        return [manager]


def njit(*, inner: bool = False, **options: Any) -> Callable[[F], F]:
    """`numba.njit` in nopython mode, cached in `cache_folder()`; options as numba's.

    `inner`: only kernels call it.
    """
    options.setdefault("no_cfunc_wrapper", True)
    if inner:
        options.update(no_cpython_wrapper=True, pipeline_class=_InnerCompiler)

    def decorate(function: F) -> F:
        dispatcher = numba.njit(**options)(function)
        if not inner and cache_folder() is not None:
            dispatcher._cache = _Cache(function)
        return dispatcher  # type: ignore[no-any-return]

    return decorate
