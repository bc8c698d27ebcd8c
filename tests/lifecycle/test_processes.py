"""Training by several processes that torchrun starts, on one machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from titans_stream.cli import main
from titans_stream.config import load_recipe
from titans_stream.lifecycle.forecaster_training import ONE_STEP, train
from titans_stream.lifecycle.gradient_fit import Descent
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.processes import ALONE, Processes
from titans_stream.lifecycle.tracking import connect
from titans_stream.recipe_settings import TrainingConfig

RECIPE = """
name: pair
kind: {kind}
data: {{synthetic: {{series: 26, length: 300}}}}
training: {{epochs: 2, batch: {batch}, unroll: 100, learning_rate: 0.05, heads: false,
  selection: {{series: 26, length: 1400, seeds: 1, calibration_series: 0}}}}
"""


def recipe(folder: Path, batch: int, kind: str = "forecaster") -> Path:
    path = folder / f"{kind}-{batch}.yaml"
    path.write_text(RECIPE.format(batch=batch, kind=kind), encoding="utf-8")
    return path


def torchrun(folder: Path, path: Path, database: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "titans_stream.cli", "train", str(path), "--register", "pair",
         "--tracking-uri", database],
        capture_output=True, text=True, timeout=240, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:3_000]
    return done.stdout


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    database = f"sqlite:///{tmp_path}/mlflow.db"
    # 21 series to train on: the last batch of 10 leaves one process a series, the other none
    out = torchrun(tmp_path, recipe(tmp_path, 5), database)
    assert out.count("epoch ") == 3, "two lines of epochs, and the one that was chosen"
    assert out.count("registered: models:/pair/1") == 1
    both = load_model("models:/pair/1", database).weights
    single = load_recipe(recipe(tmp_path, 10))
    one = train(single).model.weights
    half = train(load_recipe(recipe(tmp_path, 5))).model.weights
    for name in ONE_STEP:
        np.testing.assert_allclose(both[name], one[name], rtol=1e-7, atol=1e-9)
    assert max(np.abs(both[name] - half[name]).max() for name in ONE_STEP) > 1e-3
    client = connect(database, must_exist=True).client
    experiments = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    assert run.data.params["processes"] == "2"


@pytest.mark.slow
def test_a_detector_is_trained_by_two_processes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = torchrun(tmp_path, recipe(tmp_path, 5, "detector"), f"sqlite:///{tmp_path}/mlflow.db")
    assert out.count("registered: models:/pair/1") == 1


STEPS = """
import sys
import torch
from titans_stream.lifecycle.gradient_fit import Descent
from titans_stream.lifecycle.processes import together
from titans_stream.recipe_settings import TrainingConfig

with together() as processes:
    processes.check_same("data", "ab")
    weight = torch.full((3,), 2.0, dtype=torch.float64, requires_grad=True)
    descent = Descent([weight], TrainingConfig(learning_rate=0.1), 6)
    targets = torch.arange(12, dtype=torch.float64).reshape(4, 3)
    for batch in (targets, targets[:3], targets[:1]):
        rows = processes.share(torch.arange(len(batch)))
        loss = (weight - batch[rows]).square().sum() / len(rows) if len(rows) else None
        print(descent.step_together(loss, float(len(rows)), processes))
    print(weight.tolist())
    try:
        processes.check_same("data", "ab" if processes.leads else "cd")
    except ValueError as error:
        print(error)
"""


def test_two_processes_take_the_steps_of_one() -> None:
    def run(rank: int, size: int, port: int) -> subprocess.Popen[str]:
        joined = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
        return subprocess.Popen(
            [sys.executable, "-c", STEPS], stdout=subprocess.PIPE, text=True,
            env={**os.environ, **joined, "WORLD_SIZE": str(size), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone, *pair = (run(0, 1, port), run(0, 2, port), run(1, 2, port))
    expected, *found = (one.communicate(timeout=240)[0].splitlines() for one in (alone, *pair))
    assert len(expected) == 4
    for lines in found:
        assert lines[-1] == "the processes of this training do not have the same data"
        for line, wanted in zip(lines, expected, strict=False):
            np.testing.assert_allclose(json.loads(line), json.loads(wanted), rtol=1e-12)
    assert found[0][:-1] == found[1][:-1], "bit by bit the same in both"


def test_processes_without_torchrun_are_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert main(["train", str(recipe(tmp_path, 5))]) == 2
    told = capsys.readouterr().err
    assert "WORLD_SIZE is 2, but torchrun's others are missing" in told and told.count("\n") == 1


def test_every_series_of_a_batch_is_one_processes() -> None:
    rows = torch.arange(11)
    shares = [Processes(rank, 3).share(rows).tolist() for rank in range(3)]
    assert [row for share in shares for row in share] == rows.tolist()
    assert [len(one) for one in shares] == [4, 4, 3]
    assert Processes(1, 3).share(rows[:1]).tolist() == []
    assert ALONE.share(rows) is rows


def test_a_step_together_is_the_plain_one_where_one_process_has_all() -> None:
    steps = []
    for together in (False, True):
        weight = torch.full((3,), 2.0, dtype=torch.float64, requires_grad=True)
        descent = Descent([weight], TrainingConfig(learning_rate=0.1), 10)
        for _ in range(5):
            loss = weight.square().sum()
            if together:
                descent.step_together(loss, 7.0, ALONE)
            else:
                descent.step(loss)
        steps.append(weight.detach().clone())
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-12, atol=0.0)
    weight = torch.ones(1, requires_grad=True)
    descent = Descent([weight], TrainingConfig(), 10)
    with pytest.raises(ArithmeticError, match="diverged"):
        descent.step_together(weight.sum() * torch.nan, 7.0, ALONE)
