"""What `score` says of episodes: columns, digits, and the picture."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.test_score import write
from titans_stream import cli
from titans_stream.commands.score_plot import MOST_POINTS, ScorePlot, _episodes, _Points, _thinned
from titans_stream.commands.scoring import ScoredChunk
from titans_stream.records import Scores


def noisy(rows: int, columns: int) -> np.ndarray:
    """[rows, columns] of noise; the first column has a spike near the end."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal((rows, columns))
    values[rows - 20, 0] = 60.0
    return values


def score(path: Path, *arguments: str) -> list[dict[str, str]]:
    out = path.with_suffix(".out")
    assert cli.main(["score", str(path), "--out", str(out), "--quiet", *arguments]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_severity_cause_rarity_and_digits(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", ["a", "b"], noisy(500, 2).tolist())
    rows, exact = score(path), score(path, "--digits", "all")
    spiked = next(row for row in rows if row["onset"] == "1")
    assert (spiked["series_id"], spiked["value"], spiked["severity"]) == ("a", "60.0", "critical")
    assert spiked["cause"] == "implausible value"
    assert float(spiked["rarity"]) > 2
    for row, full in zip(rows, exact, strict=True):
        assert bool(row["severity"]) == bool(row["cause"]) == (row["alert"] == "1")
        assert row["value"] == full["value"], "values are as they came"
        for name in ("score", "p_value", "surprise", "expected", "lower", "upper", "rarity"):
            assert row[name] == (f"{float(full[name]):.6g}" if full[name] else "")
            assert len(row[name].lstrip("-").replace(".", "").lstrip("0")) <= 6 or "e" in row[name]


def test_the_picture_shows_the_series_with_episodes_first(tmp_path: Path) -> None:
    values = noisy(400, 9)[:, ::-1]
    path = write(tmp_path / "d.csv", [f"s{i} $x_$" for i in range(9)], values.tolist())
    picture = tmp_path / "p.png"
    score(path, "--plot", str(picture))
    assert imread(picture).shape[0] > 600, "three rows of panels"
    before = path.read_bytes()
    arguments = ["score", str(path), "--out", "-", "--plot", str(path)]
    assert cli.main(arguments) == 2
    assert path.read_bytes() == before


def points(values: list[float], severity: list[int]) -> _Points:
    count = len(values)
    column = np.array(values)
    return _Points(
        np.arange(count), column, column - 1, column + 1, column / 10, np.array(severity)
    )


def test_thinning_keeps_extremes_scores_and_episodes() -> None:
    thin = _thinned(points([1, 5, 2, 3, 4, 4, 4, 4, 9], [0, 0, 2, 0, 0, 0, 0, 0, 1]))
    assert thin.time.tolist()[:2] == [0, 1]
    assert thin.value.tolist()[:2] == [1, 5]
    assert len(thin.time) == 5, "two of each four, and what is left over"
    assert thin.severity.tolist() == [2, 2, 0, 0, 1]
    assert thin.score.tolist()[:2] == [0.5, 0.5]
    assert np.all(np.diff(thin.time) > 0)
    nan = float("nan")
    gone = _thinned(points([nan, nan, nan, nan], [0] * 4))
    assert len(gone.time) == 2


def test_episodes_are_runs_with_their_worst_severity() -> None:
    severity = np.array([1, 1, 0, 2, 1, 0, 0, 1])
    assert list(_episodes(severity)) == [(0, 1, 1), (3, 4, 2), (7, 7, 1)]
    assert list(_episodes(np.zeros(3, np.int64))) == []


def test_a_long_file_is_drawn_from_bounded_memory() -> None:
    plot = ScorePlot(timed=True)
    count = 10_000

    def chunk(begin: int) -> ScoredChunk:
        blank = np.zeros(count)
        flags = np.zeros(count, np.int8)
        scores = Scores(
            ["a"] * count, np.arange(begin, begin + count), blank, flags, blank, blank, blank,
            blank, blank, blank, blank, flags, flags, flags, np.zeros(count, np.int32),
            np.arange(count),
        )  # fmt: skip
        return ScoredChunk(scores, np.arange(count), [""] * count, [""] * count)

    for number in range(12):
        for _ in plot.watch([chunk(number * count)]):
            kept = sum(len(part.time) for part in plot._parts["a"])
            assert kept <= 2 * MOST_POINTS + count


@pytest.mark.parametrize("digits", ["0", "18", "few"])
def test_wrong_digits(digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["score", "x", "--out", "y", "--digits", digits])
    assert "a number from 1 to 17 or all is needed" in capsys.readouterr().err
