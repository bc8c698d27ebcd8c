"""What a person at a terminal is told of long work."""

from __future__ import annotations

import io

import pytest

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
