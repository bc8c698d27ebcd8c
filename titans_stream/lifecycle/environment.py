"""What a model was trained with: versions, platform, and the commit of this package."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import titans_stream

PACKAGES = ("torch", "numpy", "numba", "mlflow", "safetensors")


def environment() -> dict[str, str]:
    """Names and versions; `commit` only where this package lies in a git checkout."""
    found = {
        "titans-stream": titans_stream.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    commit = _commit()
    return found if commit is None else {**found, "commit": commit}


def _commit() -> str | None:
    """The last commit that touches this package, marked where files differ from it."""
    commit = _git("log", "-1", "--format=%H", "--", ".")
    if not commit:
        return None
    return commit + ("-dirty" if _git("status", "--porcelain", "--", ".") else "")


def _git(*arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    folder = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
