"""Who may import whom; read from the sources, nothing is run."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "titans_stream"

BASE = {
    "yaml_loading",
    "records",
    "state_records",
    "printable",
    "durations",
    "times",
    "ids",
    "kernel_cache",
    "jit",
    "log_output",
    "jit_cuda",
    "calendar_features",
    "shipped_kernels",
    "special_days",
    "__init__",
    "synthetic",
    "whole_files",
}
"""Modules at the bottom: they may import one another only."""
ALLOWED: dict[str, set[str]] = {
    "memory": set(),
    "titans": {"memory"},
    "detection": {"memory"},
    "forecasting": {"memory"},
    "control": {"detection"},
    "engine": {"memory", "detection", "forecasting", "control"},
    "stream": {"control"},
    "devbroker": set(),
    "files": {"stream.codec"},
    "recipe_settings": set(),
    "job_settings": set(),
    "service_settings": set(),
    "notify_settings": set(),
    "config": {
        "detection",
        "forecasting",
        "engine",
        "stream",
        "recipe_settings",
        "job_settings",
        "service_settings",
        "notify_settings",
    },
    "jobs": {
        "engine",
        "detection",
        "forecasting",
        "stream",
        "config",
        "recipe_settings",
        "job_settings",
        "lifecycle",
    },
    "lifecycle": {
        "memory",
        "titans",
        "detection",
        "forecasting",
        "engine",
        "stream",
        "files",
        "recipe_settings",
        "config",
        "evaluation",
    },
    "evaluation": {"memory", "detection", "forecasting", "engine", "stream", "files", "config"},
    "web": {
        "control",
        "detection",
        "engine",
        "stream",
        "config",
        "ops",
    },
    "ops": {
        "memory",
        "detection",
        "forecasting",
        "engine",
        "stream",
        "config",
        "notify_settings",
        "service_settings",
    },
}
PURE = {"memory", "titans", "detection", "forecasting", "engine"}
"""No network, tracking, web or files."""
FORBIDDEN_IN_PURE = {
    "kafka", "mlflow", "apscheduler", "prometheus_client", "http", "socket", "requests", "flask",
    "fastapi", "pathlib", "io", "shutil", "tempfile", "sqlite3", "safetensors", "pandas",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
            if node.module == "titans_stream":
                found.update(f"titans_stream.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_the_layers_below(path: Path) -> None:
    layer = layer_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "titans_stream" or len(parts) == 1:
            continue
        target = parts[1]
        if target == layer or target in BASE:
            continue
        if layer in BASE:
            pytest.fail(f"{layer} is at the bottom and imports {name}")
        if layer in ALLOWED:
            inside = {target, ".".join(parts[1:3])}
            assert inside & ALLOWED[layer], f"{layer} must not import {name}"


@pytest.mark.parametrize(
    "path", [p for p in modules() if layer_of(p) in PURE], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_the_computing_layers_do_no_io(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & FORBIDDEN_IN_PURE
    assert not re.search(r"(?<![\w.])open\(", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path",
    [p for p in modules() if layer_of(p) == "stream"],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_the_stream_layer_needs_no_torch(path: Path) -> None:
    assert "torch" not in {name.split(".")[0] for name in imports(path)}


def test_nothing_is_pickled_or_evaluated() -> None:
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & {"pickle", "cloudpickle", "marshal", "shelve", "dill"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "__import__"}, path


def test_declarative_folders_hold_no_code() -> None:
    for folder in ("connectors", "models", "mlflow", "grafana"):
        assert list((PACKAGE.parent / folder).rglob("*.py")) == []


def test_no_module_is_too_long() -> None:
    for path in modules():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 420, f"{path}: {lines} lines"


def test_the_repository_names_no_package_index() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.toml", "*.txt", "Makefile", "Dockerfile", "*.sh", "*.cfg"],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    for name in listed:
        text = (PACKAGE.parent / name).read_text(encoding="utf-8")
        assert "download.pytorch.org" not in text, name
        assert "://pypi" not in text, name
