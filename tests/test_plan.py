"""`titans-stream plan`: workers, memory and bandwidth for a load, from measured costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from titans_stream import cli
from titans_stream.commands.plan_figures import BUSY, LEARN, PROCESS, Load, plan_of
from titans_stream.config import Connector, load_connector

CONNECTOR = """\
name: press
kafka: {bootstrap_servers: "127.0.0.1:9092"}
input: {topic: sensors, series: "{sensor}", value: value, timestamp: ts}
output: {alerts: alerts}
"""
GIB = float(1 << 30)


def connector(folder: Path, *more: str) -> Path:
    path = folder / "press.yaml"
    text = CONNECTOR
    for line in more:
        text += line + "\n"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, *more: str) -> Connector:
    return load_connector(connector(folder, *more))


def test_twice_the_rate_takes_twice_the_workers_and_partitions(tmp_path: Path) -> None:
    one = loaded(tmp_path)
    few = plan_of(one, Load(10_000, 200_000.0, 1.0, 95.0, 64 * GIB), 33_000)
    many = plan_of(one, Load(10_000, 400_000.0, 1.0, 95.0, 64 * GIB), 33_000)
    assert few.limit == many.limit == "rate"
    assert few.workers * BUSY >= 200_000.0 * few.seconds > (few.workers - 1) * BUSY
    assert 2 * few.workers - 1 <= many.workers <= 2 * few.workers
    assert many.partitions == 2 * many.workers
    assert many.bytes_in == 400_000.0 * 95.0


def test_slow_series_are_bound_by_memory(tmp_path: Path) -> None:
    plan = plan_of(loaded(tmp_path), Load(1_000_000, 300.0, 1.0, 95.0, 8 * GIB), 33_000)
    assert plan.limit == "memory"
    assert plan.worker_bytes <= 8 * GIB
    assert (plan.workers - 1) * (8 * GIB - PROCESS) < 1_000_000 * 36_000
    assert plan.partitions >= 10  # max_series is 100,000


def test_a_core_twice_as_fast_takes_half_the_time(tmp_path: Path) -> None:
    one = loaded(tmp_path)
    slow, fast = (
        plan_of(one, Load(1_000, 1e5, 1.0, 95.0, GIB, speed), 33_000).seconds for speed in (1, 2)
    )
    assert slow == pytest.approx(2 * fast)


def test_forecasts_and_scores_cost_time_and_bandwidth(tmp_path: Path) -> None:
    load = Load(1_000, 1_000.0, 1.0, 95.0, GIB)
    plain = plan_of(loaded(tmp_path), load, 33_000)
    forecasting = plan_of(load_connector(_with_outputs(tmp_path)), load, 65_000)
    assert forecasting.seconds > plain.seconds + LEARN
    assert forecasting.bytes_out > plain.bytes_out + 1_000 * 221


def _with_outputs(folder: Path) -> Path:
    text = CONNECTOR.replace(
        "output: {alerts: alerts}",
        "output: {alerts: alerts, scores: scores, forecasts: forecasts}\n"
        "forecast: {steps: 48, every: 24}",
    )
    path = folder / "forecasting.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_command_prints_a_plan_and_warns_of_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = connector(tmp_path, "engine: {slots: 50000}")
    code = cli.main(["plan", str(path), "--series", "200000", "--rate", "1000", "--memory", "16"])
    out, err = capsys.readouterr()
    assert code == 0
    words = [line.split()[0] for line in out.splitlines()]
    assert words == [
        "load", "a", "workers", "partitions", "state", "snapshots", "kafka", "bound", "bound",
    ]  # fmt: skip
    assert "workers    1, one core each" in out
    assert "not measured" in out
    assert "engine.slots: 50,000 is fewer than the 200,000 series" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--series", "0", "--rate", "1"], "--series"),
        (["--series", "1", "--rate", "-1"], "--rate"),
        (["--series", "1", "--rate", "1", "--per-message", "5"], "--per-message"),
        (["--series", "1", "--rate", "1", "--memory", "0.1"], "--memory"),
        (["--series", "1", "--rate", "inf"], "--rate: a number above 0"),
        (["--series", "1", "--rate", "1", "--core-speed", "inf"], "--core-speed: a number above 0"),
        (["--series", "1", "--rate", "1", "--message-bytes", "-5"], "--message-bytes: a number"),
    ],
)
def test_a_number_that_cannot_be_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert cli.main(["plan", str(connector(tmp_path)), *arguments]) == 2
    err = capsys.readouterr().err
    assert named in err
    assert err.count("\n") == 1


def test_messages_of_several_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three value fields are three readings a message, which costs a third of the messages."""
    path = connector(tmp_path)
    text = path.read_text().replace("value: value", "values: [a, b, c]")
    path.write_text(text.replace("topic: sensors", "topics: [north, south]"))
    load = ["plan", str(path), "--series", "300", "--rate", "3000"]
    assert cli.main(load) == 0
    told = capsys.readouterr().out
    assert "kafka      0.285 MB/s in" in told  # 1,000 messages of 3 times 95 bytes
    assert "partitions 1 of north, south at least" in told
    assert cli.main([*load, "--per-message", "3"]) == 0
    assert capsys.readouterr().out == told
    single = cli.main([*load, "--per-message", "1"])
    assert (single, capsys.readouterr().out == told) == (0, False)
    assert cli.main([*load, "--per-message", "4"]) == 2
    assert "--per-message: input.values names 3 fields" in capsys.readouterr().err
