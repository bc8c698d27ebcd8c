"""What a person at a terminal is told of long work."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from titans_stream import cli
from titans_stream.commands.file_source import file_source
from titans_stream.commands.progress import told


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("screen", [Screen(), io.StringIO()])
@pytest.mark.parametrize("quiet", [True, False])
def test_items_can_be_had_as_often_as_without_being_told_of(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO, quiet: bool
) -> None:
    """`forecast` reads a file twice: what its last readings are, then the readings."""
    monkeypatch.setattr("sys.stderr", screen)
    items = told([3, 1, 2], "values", lambda item: item, quiet)
    assert [list(items), list(items)] == [[3, 1, 2]] * 2


@pytest.mark.parametrize(("quiet", "expected"), [(True, False), (False, True)])
def test_a_terminal_is_told_how_much_went_by(
    monkeypatch: pytest.MonkeyPatch, quiet: bool, expected: bool
) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    assert list(told(iter("ab"), "letters", len, quiet)) == ["a", "b"]
    assert ("letters" in screen.getvalue()) is expected


@pytest.mark.parametrize(("total", "shown"), [(None, "8 items, "), (8, "100%")])
def test_a_known_total_makes_a_bar_with_percent(
    monkeypatch: pytest.MonkeyPatch, total: int | None, shown: str
) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr("titans_stream.commands.progress._EVERY", 0.0)
    items = told([1] * 8, "items", lambda item: item, total=total)
    assert sum(items) == 8
    assert shown in screen.getvalue()
    assert ("8 / 8 items" in screen.getvalue()) is (total is not None)


def test_a_files_readings_are_counted_where_it_was_read_for_its_order(tmp_path: Path) -> None:
    path = tmp_path / "plant.csv"
    path.write_text("time,a,b\n" + "".join(f"2026-03-01T00:0{i}:00Z,{i},{i}\n" for i in range(5)))
    parsed = cli.build_parser().parse_args(
        ["score", str(path), "--timestamp", "time", "--out", "x", "--quiet"]
    )
    assert file_source(parsed, "").count == 10
    parsed.timestamp = None
    assert file_source(parsed, "").count is None
