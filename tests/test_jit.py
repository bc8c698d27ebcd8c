"""The cache of compiled kernels: what decides that a kernel is compiled anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from titans_stream.jit import njit

PACKAGE = Path(__file__).parents[1] / "titans_stream"
LAYOUT = "WEIGHT = {}\n"
KERNELS = """
from titans_stream import layout as L
from titans_stream.jit import njit


@njit(inner=True)
def weighted(x):
    return L.WEIGHT * x


@njit()
def run(x):
    return weighted(x) + 1.0
"""
CALL = """
from titans_stream import kernels
print(kernels.run(2.0), sum(kernels.run.stats.cache_hits.values()))
"""


@njit()
def _divides(x: float) -> tuple[float, float]:
    return 1.0 / x, x / x


@njit(inner=True)
def _inner(x: np.ndarray) -> float:
    first: float = x[0]
    return first


@njit()
def _outer(x: np.ndarray) -> float:
    return 2.0 * _inner(x)


class _Pair(NamedTuple):
    one: np.ndarray
    other: np.ndarray


@njit(inner=True)
def _reads(pair: _Pair, start: int) -> float:
    total = 0.0
    for i in range(start, pair.one.shape[0]):
        rest = pair.other[i:]
        total += pair.one[i] * rest[0]
        pair.other[i] = total
    return total


@njit(inner=True)
def _makes(pair: _Pair) -> float:
    return _reads(_Pair(pair.other.copy(), pair.one.copy()), 1)


@njit(inner=True)
def _longer(pair: _Pair) -> np.ndarray:
    return pair.one if pair.one.shape[0] > pair.other.shape[0] else pair.other


@numba.njit  # without a cache, so that what it calls is compiled here
def _three(one: np.ndarray, other: np.ndarray) -> float:
    pair = _Pair(one, other)
    return _reads(pair, 0) + _makes(pair) + _longer(pair)[0]


def installation(folder: Path, weight: float) -> Path:
    package = folder / "titans_stream"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copyfile(PACKAGE / "jit.py", package / "jit.py")
    (package / "layout.py").write_text(LAYOUT.format(weight))
    (package / "kernels.py").write_text(KERNELS)
    return folder


def call(folder: Path, cache: Path) -> tuple[float, int]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(cache)}
    made = subprocess.run(
        [sys.executable, "-c", CALL], cwd=folder, env=environment, check=True, capture_output=True
    )
    result, hits = made.stdout.split()
    return float(result), int(hits)


def test_kernels_are_shared_by_content_alone(tmp_path: Path) -> None:
    one, cache = installation(tmp_path / "one", 3.0), tmp_path / "cache"
    assert call(one, cache) == (7.0, 0)
    assert call(one, cache) == (7.0, 1)
    os.utime(one / "titans_stream" / "kernels.py", (1e9, 1e9))
    assert call(one, cache) == (7.0, 1)
    other = installation(tmp_path / "other", 3.0)
    assert call(other, cache) == (7.0, 1)
    changed = installation(tmp_path / "changed", 4.0)
    assert call(changed, cache) == (9.0, 0)
    assert call(one, cache) == (7.0, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["top", "folder", "file"])
def test_a_cache_that_others_could_have_filled_is_not_used(tmp_path: Path, what: str) -> None:
    one, cache = installation(tmp_path / "one", 3.0), tmp_path / "cache"
    assert call(one, cache) == (7.0, 0)
    (index,) = cache.rglob("*.nbi")
    planted = {"top": cache / "titans-stream", "folder": index.parent, "file": index}[what]
    index.write_bytes(b"cos\nabort\n(tR.")  # a pickle that ends the process
    os.chown(planted, 65534, 65534)
    assert call(one, cache) == (7.0, 0)


def test_a_cache_that_all_may_write_to_is_not_used_and_one_of_our_own_closed(
    tmp_path: Path,
) -> None:
    one, cache = installation(tmp_path / "one", 3.0), tmp_path / "cache"
    assert call(one, cache) == (7.0, 0)
    top = cache / "titans-stream"
    top.chmod(0o777)
    assert call(one, cache) == (7.0, 1)
    assert top.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    assert call(one, cache) == (7.0, 0)
    cache.chmod(0o1777)
    assert call(one, cache) == (7.0, 1)


def test_a_division_by_zero_raises_nothing() -> None:
    """A branch at each division would keep loops from running in vectors."""
    infinite, undefined = _divides(0.0)
    assert infinite == np.inf
    assert np.isnan(undefined)


def test_an_inner_kernel_is_for_kernels() -> None:
    assert _outer(np.array([3.0])) == 6.0
    with pytest.raises(TypeError):
        _inner(np.array([3.0]))


def test_kernels_that_borrow_arrays_do_not_count_references() -> None:
    one, other = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    held = sys.getrefcount(one), sys.getrefcount(other)
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for _ in range(3):
        other[:] = 3.0, 4.0
        assert _three(one, other) == 11.0 + 22.0 + 3.0
    after = rtsys.get_allocation_stats()
    # arrays from before may be freed, too
    assert after.free - before.free >= after.alloc - before.alloc >= 6
    assert (sys.getrefcount(one), sys.getrefcount(other)) == held
    counted = {
        kernel: any("NRT_incref" in m.library.get_llvm_str() for m in kernel.overloads.values())
        for kernel in (_reads, _makes, _longer)
    }
    assert counted == {_reads: False, _makes: True, _longer: True}


def test_a_kernel_has_all_that_it_calls_as_parts_of_its_own() -> None:
    """Callees that other modules may hold, too, are called with all their arguments: a series'
    state is 150 numbers."""
    code = _outer.py_func.__code__.replace(co_filename="nowhere")  # so it is not cached
    outer = njit()(FunctionType(code, globals()))
    assert outer(np.array([3.0])) == 6.0
    (compiled,) = outer.overloads.values()
    assert "linkonce_odr" not in compiled.library.get_llvm_str()
