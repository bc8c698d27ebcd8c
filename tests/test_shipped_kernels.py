"""Kernels compiled elsewhere are taken where the own cache has none, from trusted files only."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from titans_stream import shipped_kernels
from titans_stream.shipped_kernels import VARIABLE, own_cache, seal, take


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "shipped"
    for name in ("detection/kernels/0123/run-1.nbi", "detection/kernels/0123/run-1.1.nbc", "a/4/b"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    assert seal(root) == 3
    monkeypatch.setenv(VARIABLE, str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def test_what_the_own_cache_lacks_is_copied_once(shipped: Path) -> None:
    (own_cache() / "a/4").mkdir(parents=True)
    (own_cache() / "a/4/mine").touch()
    assert take() == 2
    found = own_cache() / "detection/kernels/0123/run-1.1.nbc"
    assert found.read_bytes() == b"detection/kernels/0123/run-1.1.nbc"
    assert not (found.parent.stat().st_mode & 0o077)
    assert not (own_cache() / "a/4/b").exists(), "a folder that holds kernels is left alone"
    assert take() == 0


def test_a_folder_that_is_there_but_empty_is_filled(shipped: Path) -> None:
    (own_cache() / "a/4").mkdir(parents=True)
    assert take() == 3


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda root: (root / "a/4/b").write_bytes(b"other"), "its checksum is wrong"),
        (lambda root: (root / "a/4/b").chmod(0o666), "may write there"),
        (lambda root: root.chmod(0o777), "may write there"),
        (lambda root: (root / "a/4/b").unlink(), "No such file"),
        (lambda root: (root / "SHA256SUMS").write_text("00  ../x\n"), "is not inside"),
    ],
)
def test_what_cannot_be_trusted_is_not_taken(
    shipped: Path, spoil: object, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(spoil)
    spoil(shipped)
    with caplog.at_level(logging.WARNING):
        assert take() == 0
    assert why in caplog.text
    assert not (own_cache() / "a/4/b").exists()


def test_without_the_variable_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(shipped_kernels, "_take", None)
    assert take() == 0
