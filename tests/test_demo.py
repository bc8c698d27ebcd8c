"""The demo: what it measures, what it shows, and a whole run with a disturbance."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
import pytest
from rich.console import Console

from titans_stream import cli
from titans_stream.commands.demo_session import Disturbance
from titans_stream.commands.demo_sources import (
    MachineMetrics,
    anomalies_found,
    csv_messages,
    live_messages,
    synthetic_series,
)
from titans_stream.commands.demo_view import DemoState, Progress, draw, sparkline
from titans_stream.records import Scores
from titans_stream.times import format_timestamp


def test_metrics_are_shares_and_rates() -> None:
    metrics = MachineMetrics(time.time())
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        sum(range(1_000))
    found = metrics.read(time.time())
    assert list(found) == [
        "cpu_percent",
        "cpu_runnable",
        "memory_percent",
        "disk_mb_s",
        "network_mb_s",
    ]
    busy = 100 / (psutil.cpu_count() or 1)
    assert 0.7 * busy <= found["cpu_percent"] <= 100, "one core was busy for all of the time"
    assert 0 < found["memory_percent"] < 100
    assert min(found.values()) >= 0


def test_live_messages_keep_their_pace() -> None:
    source = live_messages()
    messages = [orjson.loads(next(source).value) for _ in range(5)]
    steps = np.diff([message["ts"] for message in messages])
    assert steps.mean() == pytest.approx(100, abs=60)
    assert set(messages[0]) == {
        "ts", "cpu_percent", "cpu_runnable", "memory_percent", "disk_mb_s", "network_mb_s",
    }  # fmt: skip


def test_built_in_stream_is_the_same_each_time() -> None:
    first, second = synthetic_series(), synthetic_series()
    assert [one.name for one in first] == [one.name for one in second]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.value, other.value)
        assert len(one.windows) == 2
        assert len({len(other) for other in first}) == 1


def test_alerts_are_matched_with_the_injected_anomalies() -> None:
    one = synthetic_series()[0]
    first, last = one.windows[0]

    def at(row: int) -> tuple[str, str]:
        return one.name, format_timestamp(int(one.timestamp[row]))

    assert anomalies_found([one], [at(first), at(last)]) == 1
    assert anomalies_found([one], [at(last + 10)]) == 1
    assert anomalies_found([one], [at(first - 1), at(last + 11)]) == 0
    assert anomalies_found([one], [("other", at(first)[1])]) == 0
    assert anomalies_found([one], [at(first), at(one.windows[1, 0])]) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "timestamp,a,b\n2026-03-01 12:00:00,1,2\n",
            [("a", "2026-03-01T12:00:00Z", 1.0), ("b", "2026-03-01T12:00:00Z", 2.0)],
        ),
        ("a\n1\n2\n", [("a", "2024-01-01T00:00:00Z", 1.0), ("a", "2024-01-01T00:05:00Z", 2.0)]),
    ],
)
def test_a_file_as_the_recorded_stream(
    text: str, expected: list[tuple[str, str, float]], tmp_path: Path
) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text, encoding="utf-8")
    documents = [orjson.loads(message.value) for message in csv_messages(path)]
    assert [(one["sensor"], one["ts"], one["value"]) for one in documents] == expected


def test_disturbance_ends_by_itself_and_when_told() -> None:
    short = Disturbance(0.2)
    short.start()
    end = time.monotonic() + 30
    while short.running:
        assert time.monotonic() < end
        time.sleep(0.05)
    long = Disturbance(600)
    long.start()
    assert long.running
    began = time.monotonic()
    long.stop()
    assert not long.running
    assert time.monotonic() - began < 10


def scores(series: list[str], value: list[float], score: list[float], offset: int) -> Scores:
    n = len(series)
    column = np.array(value)
    flags = np.zeros(n, np.int8)
    return Scores(
        series=series,
        timestamp=np.arange(n),
        value=column,
        status=flags,
        surprise=column,
        score=np.array(score),
        p_value=column,
        rarity=column,
        expected=column,
        lower=column - 1,
        upper=column + 1,
        alert=np.array([one > 0.9 for one in score], np.int8),
        onset=flags,
        gap=flags,
        partition=np.zeros(n, np.int32),
        offset=offset + np.arange(n),
    )


def alert(status: str, topic: str = "t") -> dict[str, Any]:
    return {
        "alert_id": "x",
        "status": status,
        "series_id": "cpu_percent",
        "severity": "warning",
        "explanation": "97 where 20 (10 to 30) was expected",
        "source": {"topic": topic, "partition": 0, "offset": 3},
    }


def test_state_and_screen() -> None:
    state = DemoState(("t", "u"))
    state.add_scores("t", scores(["cpu_percent", "load"], [20.5, 1.25], [0.2, 0.1], 0))
    state.add_scores("t", scores(["cpu_percent"], [97.0], [0.95], 2))
    state.add_alert(alert("opened"))
    stream = state.streams["t"]
    assert (stream.readings, stream.messages, stream.open_alerts) == (3, 3, 1)
    assert stream.series["cpu_percent"].alert
    assert not stream.series["load"].alert
    console = Console(width=120, height=40, record=True, file=io.StringIO())
    console.print(draw(state, Progress(12.0, "watching", {"t": 4, "u": 0})))
    text = console.export_text()
    assert re.search(r"cpu_percent +97 +96 to 98 +0\.950 +▂█ +open", text)
    assert "t: 3 readings/s, lag 4 messages, 3 readings, 1 open alerts" in text
    assert "WARNING cpu_percent (opened): 97 where 20 (10 to 30) was expected" in text
    state.add_alert(alert("resolved"))
    assert stream.open_alerts == 0
    assert len(state.new_alerts) == 1, "an episode is news once"


def test_sparkline() -> None:
    assert sparkline([0.0, 0.5, 0.999, float("nan")]) == "▁▅█·"


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A demo whose files, and so its workers' arguments, are below `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "titans_stream.cli", "demo", "--plain", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(cli.__file__).parents[1],
        env={**os.environ, "TMPDIR": str(folder)},
    )


def assert_tidy(folder: Path) -> None:
    """Neither files nor processes of a demo are left."""
    assert not list(folder.glob("titans-demo-*"))
    lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if str(folder) in line]


@pytest.mark.slow
def test_demo_makes_a_disturbance_and_ends_by_itself(tmp_path: Path) -> None:
    process = demo(tmp_path, "--seconds", "50")
    out, err = process.communicate(timeout=150)
    assert (process.returncode, err) == (0, ""), out
    assert "burning " in out
    summary = out.splitlines()[-3:]
    found = re.fullmatch(
        r"50 s: ([\d,]+) readings scored \(([\d,]+) live, 24,000 recorded\), up to .* a second",
        summary[0],
    )
    assert found is not None, out
    assert int(found[2].replace(",", "")) > 1_000
    caught = re.fullmatch(
        r"alerts: \d+ live; \d+ on the recorded stream, in (\d+) of its 12 injected anomalies",
        summary[1],
    )
    assert caught is not None, out
    assert int(caught[1]) >= 4
    # on a machine that is busy anyway the disturbance changes nothing
    assert re.search(r"alerted on (cpu_percent|cpu_runnable)|not alerted", summary[2])
    assert_tidy(tmp_path)


def test_demo_smoke(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("v\n" + "\n".join(str(i % 7) for i in range(500)) + "\n", encoding="utf-8")
    process = demo(tmp_path, "--no-disturbance", "--source", str(path), "--seconds", "15")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), out
    assert "starting the workers" in out
    assert "burning" not in out
    assert out.splitlines()[-1] == "disturbance: none was made"
    assert_tidy(tmp_path)


def test_demo_ends_cleanly_at_ctrl_c(tmp_path: Path) -> None:
    process = demo(tmp_path)
    assert process.stdout is not None
    assert "starting the workers" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), out
    assert out.splitlines()[-1] == "disturbance: none was made"
    assert_tidy(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--source", "none.csv"], "none.csv: cannot be read: No such file or directory"),
        (["--source", "pyproject.toml"], "pyproject.toml: "),
    ],
)
def test_demo_refuses_a_file_it_cannot_read(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"titans-stream demo: {line}")
