"""Kernels compiled elsewhere are taken where the own cache has none, from trusted files only."""

from __future__ import annotations

import errno
import logging
import os
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
        (lambda root: (root / "SHA256SUMS").chmod(0o666), "may write there"),
        (lambda root: (root / "a").chmod(0o777), "may write there"),
        (lambda root: _replaced_by_a_link(root / "a/4/b"), "symbolic link"),
        (lambda root: _replaced_by_a_link(root / "a"), "no folder, or a link"),
        (lambda root: _replaced_by_a_link(root / "SHA256SUMS"), "symbolic link"),
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


def _replaced_by_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def test_nothing_is_written_through_a_link_in_the_own_cache(
    shipped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    del shipped
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    own_cache().mkdir(parents=True)
    (own_cache() / "a").symlink_to(elsewhere)
    assert take() == 2, "the others"
    assert not list(elsewhere.rglob("*"))
    assert "it is not this user's own folder" in caplog.text


def test_what_an_interrupted_copy_left_is_in_nobodys_way(shipped: Path) -> None:
    """Process ids repeat: in a container they begin at 1."""
    del shipped
    old = own_cache() / f"a/.4.{os.getpid()}"
    old.mkdir(parents=True)
    (old / "b").write_bytes(b"half")
    os.utime(old, (0, 0))
    fresh = own_cache() / "a/.4.other"
    fresh.mkdir()
    assert take() == 3
    assert (own_cache() / "a/4/b").read_bytes() == b"a/4/b"
    assert sorted(each.name for each in (own_cache() / "a").iterdir()) == [".4.other", "4"]


@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOTEMPTY, False), (errno.EEXIST, False), (errno.ENOSPC, True)]
)
def test_only_another_process_that_was_first_is_no_news(
    shipped: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
    told: bool,
) -> None:
    del shipped

    def replace(self: Path, target: Path) -> Path:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "replace", replace)
    assert take() == 0
    assert (os.strerror(number) in caplog.text) == told
    left = [path.name for path in own_cache().rglob(".*")]
    assert left == [], "parts are removed"


def test_without_the_variable_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(shipped_kernels, "_take", None)
    assert take() == 0
