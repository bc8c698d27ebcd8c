"""The cache of compiled kernels: what decides that a kernel is compiled anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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


@njit(inner=True)
def _inner(x: np.ndarray) -> float:
    first: float = x[0]
    return first


@njit()
def _outer(x: np.ndarray) -> float:
    return 2.0 * _inner(x)


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


def test_an_inner_kernel_is_for_kernels() -> None:
    assert _outer(np.array([3.0])) == 6.0
    with pytest.raises(TypeError):
        _inner(np.array([3.0]))
