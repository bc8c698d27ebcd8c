"""`evaluate` and `train` from the command line, on the smallest data that shows something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from titans_stream import cli
from titans_stream.commands.evaluate_outcome import flatten
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.tracking import connect
from titans_stream.synthetic import HELD_OUT


def write_set(root: Path) -> None:
    """A set of one labelled series with a plain anomaly in its evaluated part."""
    folder = root / "plant"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    value = rng.normal(0, 1, 1_200)
    value[900:930] += 12
    rows = [f"{v},{int(900 <= i < 930)}" for i, v in enumerate(value)]
    (folder / "a.csv").write_text("value,label\n" + "\n".join(rows) + "\n", encoding="utf-8")


def test_evaluate_telemetry_prints_a_table_and_writes_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path / "sets")
    out = tmp_path / "numbers.json"
    arguments = ["telemetry", "--root", str(tmp_path / "sets"), "--json", str(out)]
    assert cli.main(["evaluate", *arguments]) == 0
    assert "titans-stream" in capsys.readouterr().out
    numbers = json.loads(out.read_text(encoding="utf-8"))["plant"]
    assert numbers["titans-stream"]["event_recall"] == 1.0
    assert numbers["titans-stream"]["ap"] > 0.3
    assert len(numbers) > 1, "baselines stand beside it"
    baseline = next(name for name in numbers if name != "titans-stream")
    assert cli.main(["evaluate", *arguments, "--detector", baseline]) == 0
    again = json.loads(out.read_text(encoding="utf-8"))["plant"]
    assert again == {baseline: numbers[baseline]}


def write_timed(path: Path, backwards: int) -> None:
    """900 labelled rows; the last `backwards` of them, and the row before, have one time."""
    rng = np.random.default_rng(0)
    rows = []
    for i, value in enumerate(rng.normal(0, 1, 900).tolist()):
        time = 1_767_225_600 + 60 * min(i, 900 - backwards - 1)
        rows.append(f"{time},{0.5 if i >= 900 - backwards else value},{int(i == 500)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("timestamp,v,label\n" + "\n".join(rows) + "\n", encoding="utf-8")


def test_evaluate_says_what_a_service_would_drop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "telemetry", "--root", str(tmp_path), "--detector", "rolling z 100"]
    write_timed(tmp_path / "plant" / "a.csv", 60)
    assert cli.main(arguments) == 0
    assert capsys.readouterr().err == "1 series: 900 values, 59 duplicate\n"
    write_timed(tmp_path / "plant" / "b.csv", 120)
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "2 series: 1,800 values, 178 duplicate"
    assert err[1].startswith(
        "warning: plant/b: 900 values, 119 duplicate; more than a tenth of them have the time of"
    ) or err[1].startswith("warning: b: 900 values, 119 duplicate; more than a tenth of them")
    assert "--allow-dropped" in err[2]
    assert cli.main([*arguments, "--allow-dropped"]) == 0


def numbers_of(out: Path, *arguments: str) -> dict[str, Any]:
    """Run an evaluation; its numbers."""
    assert cli.main(["evaluate", *arguments, "--json", str(out)]) == 0
    numbers: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return numbers


def test_ablations_settings_and_scores_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path / "sets")
    (tmp_path / "peers").mkdir()
    forest = np.column_stack((np.arange(1_200.0), np.zeros(1_200)))
    np.savez(tmp_path / "peers" / "trcf_plant.npz", a=forest)
    arguments = ["telemetry", "--root", str(tmp_path / "sets"), "--starts", "2"]
    out = tmp_path / "numbers.json"
    plant = numbers_of(out, *arguments, "--files")["plant"]
    assert {"titans-stream", "memory off", "rolling z 100", "random cut forest, score"} <= set(
        plant
    )
    assert list(plant["titans-stream"]["budgets"]) == ["0.1", "0.03", "0.01"]
    assert plant["titans-stream"]["budgets"]["0.01"]["event_recall"] == 1.0
    assert "plant, titans-stream\nseries" in capsys.readouterr().out
    off = numbers_of(out, *arguments, "--detector", "memory-off")["plant"]
    assert off == {"memory off": plant["memory off"]}
    assert off["memory off"]["threshold"] != plant["titans-stream"]["threshold"]
    slow = numbers_of(out, *arguments, "--set", "alerts.min_duration=60")["plant"]
    assert slow["titans-stream"]["ap"] == plant["titans-stream"]["ap"]
    assert slow["titans-stream"]["budgets"]["0.01"]["event_recall"] == 0.0


def test_calibration_and_pairs_of_generated_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "numbers.json"
    numbers = numbers_of(
        out, "calibration", "--series", "1", "--plots", str(tmp_path), "--detector", "dense"
    )
    assert set(numbers["sets"]) == {*HELD_OUT, "assets"}
    row = numbers["sets"]["traffic"]["0.003"]
    assert row["nominal"] == pytest.approx(0.003 * row["readings"] / 100, rel=1e-4)
    assert 0.2 < numbers["sets"]["traffic"]["0.1"]["ratio"] < 5
    assert numbers["young"]["200-1000"]["0.1"]["readings"] > 800 * 32
    assert (tmp_path / "calibration.png").read_bytes()[:4] == b"\x89PNG"
    pairs = numbers_of(out, "pairs", "--series", "12")["all"]["0.1"]
    assert pairs["pairs"] == 12 and 0 < pairs["first"] <= 1
    assert "second alone" in capsys.readouterr().out


def test_an_evaluation_is_a_run_in_mlflow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "sets")
    uri = f"sqlite:///{tmp_path}/runs.db"
    out = tmp_path / "numbers.json"
    arguments = ["telemetry", "--root", str(tmp_path / "sets"), "--set", "engine.gap_factor=4"]
    numbers = numbers_of(out, *arguments, "--tracking-uri", uri)
    shown = capsys.readouterr().out
    run_id = shown.rpartition("recorded: run ")[2].partition(" ")[0]
    client = connect(uri).client
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.info.run_name == "telemetry titans-stream"
    assert run.data.tags["kind"] == "evaluation"
    assert run.data.params["engine.gap_factor"] == "4"
    assert run.data.params["starts"] == "1"
    ours = numbers["plant"]["titans-stream"]
    assert run.data.metrics["plant/titans-stream/ap"] == ours["ap"]
    assert (
        run.data.metrics["plant/memory off/budgets/0.1/event_f1"]
        == (numbers["plant"]["memory off"]["budgets"]["0.1"]["event_f1"])
    )
    assert not any("/series/" in name for name in run.data.metrics)
    found = {entry.path for entry in client.list_artifacts(run_id)}
    assert found == {"numbers.json", "tables.txt", "plots"}
    assert [entry.path for entry in client.list_artifacts(run_id, "plots")] == [
        "plots/plant__a.png"
    ]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert cli.main(["evaluate", "telemetry", "--root", "nosuch"]) == 2
    capsys.readouterr()
    experiment = client.get_experiment_by_name("titans-stream-evaluation").experiment_id
    statuses = [run.info.status for run in client.search_runs([experiment])]
    assert sorted(statuses) == ["FAILED", "FINISHED"]


def test_numbers_get_names_that_mlflow_takes() -> None:
    numbers = {"a": 1, "b, c": {"0.1": 2.5, "none": None, "files": {"x": 1}}, "text": "t"}
    assert dict(flatten(numbers)) == {"a": 1.0, "b c/0.1": 2.5}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nab"], "--root: the folder of nab is needed"),
        (["telemetry", "--root", "none"], "root: none is no folder"),
        (["nab", "--root", ".", "--starts", "0"], "--starts: at least 1 is needed"),
        (
            ["nab", "--root", ".", "--detector", "x"],
            "--detector: 'x' is none of titans-stream, memory-off, running-mean, dense, sparse, ",
        ),
        (["pairs", "--series", "0"], "--series: at least 1 is needed"),
        (["pairs", "--set", "alerts.budget=1"], "--set: alerts.budget=1: unknown; alerts has "),
    ],
)
def test_evaluate_errors(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"titans-stream evaluate: {line}")
    assert err.count("\n") == 1


RECIPE = """\
name: tiny
kind: forecaster
data: {synthetic: {families: [daily], series: 4, length: 128, interval: 30m}}
training: {epochs: 1, batch: 4}
"""


def test_train_registers_a_model_that_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    uri = f"sqlite:///{tmp_path}/runs.db"
    assert cli.main(["train", str(recipe), "--register", "tiny", "--tracking-uri", uri]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch   1  loss ")
    assert lines[-1].startswith("registered: models:/tiny/1")
    assert load_model("models:/tiny/1", uri).ref.name == "tiny"


def test_train_says_what_was_not_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{1_767_225_600 + 60 * i},{np.sin(i / 9):.4f}" for i in range(600)]
    (tmp_path / "d.csv").write_text("t,v\n" + "\n".join(lines + lines[:80]) + "\n")
    recipe = tmp_path / "tiny.yaml"
    csv = "{csv: {files: [d.csv], timestamp: t, length: 128}}"
    recipe.write_text(
        f"name: tiny\nkind: forecaster\ndata: {csv}\ntraining: {{epochs: 1, batch: 4}}\n"
    )
    arguments = ["train", str(recipe), "--tracking-uri", f"sqlite:///{tmp_path}/runs.db"]
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err.splitlines()
    assert "data d.csv: 680 values, 80 duplicate" in err
    assert err[-2].startswith("warning: d.csv: 680 values, 80 duplicate; more than a tenth of them")
    assert cli.main([*arguments, "--allow-dropped"]) == 0


def test_train_names_a_misspelt_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.replace("epochs", "epoch"), encoding="utf-8")
    assert cli.main(["train", str(recipe)]) == 2
    assert capsys.readouterr().err == (
        f"titans-stream train: {recipe}:4: training.epoch: unknown key; did you mean 'epochs'?\n"
    )
