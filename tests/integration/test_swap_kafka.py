"""A change of the model on a real Apache Kafka, with readings flowing at 2,000 a second."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.lifecycle.conftest import MlflowServer, serving
from tests.stream_harness import Kafka, Setup, eventually
from tests.swap_scenario import (
    PARTITIONS,
    Flow,
    candidate,
    check,
    model,
    origins,
    prepare,
    start,
    timed_turns,
)
from titans_stream.cli import main
from titans_stream.lifecycle.recording import RunRecorder
from titans_stream.lifecycle.registry import Source, register
from titans_stream.lifecycle.tracking import connect

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

RATE = 2_000.0


@pytest.fixture
def setup(kafka_bootstrap: str, tmp_path: Path) -> Setup:
    return prepare(Setup(Kafka(kafka_bootstrap).create(), tmp_path))


def test_two_thousand_readings_a_second_do_not_wait_for_a_change(
    setup: Setup, record_property: pytest.FixtureRequest
) -> None:
    gc.collect()
    gc.freeze()  # as `titans-stream run` does
    with timed_turns() as turns:
        flow = Flow(setup, RATE, series=50)
        running, switch = start(setup, "1")
        running.wait_for("readings", 20_000, 120)
        before = len(turns.wall)
        switch.offer(candidate("2", setup.kafka.input))
        begun = time.monotonic()
        running.wait_for("swaps", 2, 120)
        seconds, after = time.monotonic() - begun, len(turns.wall)
        done = running.worker.metrics.counts["readings"]
        running.wait_for("readings", done + 10_000, 120)
        flow.stop()
        running.wait_for("readings", flow.count, 120)
        running.stop()
    gc.unfreeze()
    places = {}
    for p in range(PARTITIONS):
        schema = candidate("2", "").engine.state_schema
        stored = setup.snapshots().load(setup.kafka.input, p, 10**9, schema)
        assert stored is not None
        places[p] = [("1", 0, 0), ("2", int(stored.notes["start"]), 0)]
    check(setup, flow, places)
    work, wall = turns.work[before : after + 1], turns.wall[before : after + 1]
    longest = before + int(np.argmax(wall))
    told = (
        f"{flow.count:,} readings, change in {seconds:.1f} s, longest turn {max(wall):.3f} s "
        f"({turns.stages[longest]}), most work of one {max(work):.3f} s; "
        f"longest before {max(turns.wall[5:before]):.3f} s; places "
        f"{places}"
    )
    record_property("swap", told)  # type: ignore[operator]
    print(told)
    assert running.worker.metrics.counts["aborts"] == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    with serving(folder) as made:
        yield made


def put(uri: str, version: str) -> None:
    connected = connect(uri)
    recorder = RunRecorder(connected, "swap", version, {})
    logged = recorder.begin_model("pumps", "forecaster")
    recorder.model(logged, model(version), {}, 0)
    source = Source(logged.location, recorder.run_id, logged.model_id)
    assert register(connected, "pumps", source).version == version


def connector(setup: Setup, folder: Path, model: str = "@champion", more: str = "") -> Path:
    path = folder / "pumps.yaml"
    path.write_text(
        f"name: pumps\nkafka: {{bootstrap_servers: '{setup.kafka.bootstrap}'}}\n"
        f"input: {{topic: {setup.kafka.input}, group_id: {setup.group_id}, series: '{{s}}', "
        "value: v, timestamp: {field: t, unit: ms}, start: earliest}\n"
        f"output: {{alerts: {setup.kafka.alerts}, scores: {setup.kafka.scores}}}\n"
        f"delivery: {{commit_interval: 100ms}}\nstate: {{path: {folder}/state}}\n"
        f"model: models:/pumps{model}\nswap: {{poll: 1s, most_messages: 10000}}\n{more}"
    )
    return path


class Worker:
    """`titans-stream run` in a process of its own."""

    def __init__(self, path: Path, uri: str) -> None:
        self.log = path.parent / f"worker-{time.time_ns()}.log"
        environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "titans_stream.cli", "run", str(path)],
                cwd=Path(__file__).resolve().parents[2],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def says(self, text: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return text in self.log.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log.read_text()


def on(setup: Setup, version: str, least: int = 0) -> bool:
    """Whether all partitions have committed the model, beyond an offset."""
    return all(
        origin.model == f"pumps/{version}" and offset >= least
        for offset, origin in origins(setup).values()
    )


def test_from_promotion_to_swap_outage_and_rollback(
    setup: Setup, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry's own way: promoted, picked up, swapped; down; rolled back."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "rows.csv"
    values = 20 + np.sin(np.arange(600) / 20) + 0.05 * np.random.default_rng(0).normal(size=600)
    rows.write_text("v\n" + "\n".join(f"{v:.4f}" for v in values) + "\n")
    promote = ["models", "promote", "pumps", "--data", str(rows), "--force", "test"]
    put(server.uri, "1")
    assert main([*promote, "1"]) == 0

    flow = Flow(setup, RATE, series=50)
    worker = Worker(connector(setup, tmp_path), server.uri)
    eventually(lambda: worker.says("output from offset"), 240)
    eventually(lambda: on(setup, "1", 2_000), 120)
    put(server.uri, "2")
    assert main([*promote, "2"]) == 0
    eventually(lambda: on(setup, "2"), 120)
    server.stop()
    eventually(lambda: worker.says("the model in use goes on"), 60)
    worker.stop()
    log = worker.log.read_text()
    assert log.count("model pumps/2 from offset") == PARTITIONS

    again = Worker(connector(setup, tmp_path), server.uri)
    eventually(
        lambda: again.says("going on with the last model that was had, pumps version 2"), 240
    )
    eventually(lambda: again.says("output from offset"), 120)
    reached = min(offset for offset, _ in origins(setup).values())
    eventually(lambda: on(setup, "2", reached + 1_000), 120)
    server.start()
    assert main(["models", "rollback", "pumps"]) == 0
    eventually(lambda: on(setup, "1"), 120)
    flow.stop()
    counts = {p: len(sent) for p, sent in flow.sent.items()}
    eventually(lambda: {p: o for p, (o, _) in origins(setup).items()} == counts, 240)
    again.stop()
    places: dict[int, list[tuple[str, int, int]]] = {p: [("1", 0, 0)] for p in counts}
    for line in (log + again.log.read_text()).splitlines():
        if " from offset " in line and ": model pumps/" in line:
            words = line.replace(":", "").replace(",", "").split()
            partition = int(words[words.index("partition") + 1])
            version = words[words.index("model") + 1].rpartition("/")[2]
            at, begin = int(words[words.index("offset") + 1]), int(words[-1])
            places[partition].append((version, at, begin))
    assert [[turn[0] for turn in turns] for turns in places.values()] == [["1", "2", "1"]] * 2
    check(setup, flow, places)


def test_a_control_message_names_the_model_and_takes_it_back(
    setup: Setup,
    server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.chdir(tmp_path)
    put(server.uri, "1")
    put(server.uri, "2")
    config = f"control: {{topic: {setup.kafka.control}, journal: {setup.kafka.journal}}}\n"
    path = connector(setup, tmp_path, "/1", config)

    def control(*words: str) -> str:
        assert main(["control", str(path), *words]) == 0
        return capsys.readouterr().out

    flow = Flow(setup, 300.0)
    worker = Worker(path, server.uri)
    eventually(lambda: worker.says("output from offset"), 240)
    eventually(lambda: on(setup, "1", 300), 240)
    assert control("model", "@challenger", "--by", "anna") == "sent: model\n"
    eventually(lambda: on(setup, "2"), 120)
    eventually(lambda: "in force" in control("list"), 60)
    listed = control("list").splitlines()
    assert '"version":"2"' in listed[0] and setup.kafka.input + "/1:" in listed[0]
    assert [line.split()[0] for line in listed[1:]] == ["swapped", "swapped"]
    assert all("pumps 1 -> 2, warmed up with" in line for line in listed[1:])
    control("model", "back")
    eventually(lambda: on(setup, "1"), 120)
    flow.stop()
    eventually(lambda: sum(offset for offset, _ in origins(setup).values()) == flow.count, 120)
    assert all("pumps 2 -> 1, taken up again" in x for x in control("list").splitlines()[1:])
    worker.stop()
    assert main(["control", str(path), "model", "newest"]) == 2
    assert "VERSION: a number, @ALIAS or back is needed" in capsys.readouterr().err
