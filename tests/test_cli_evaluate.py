"""`evaluate` and `train` from the command line, on the smallest data that shows something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from titans_stream import cli
from titans_stream.lifecycle.loading import load_model


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


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nab"], "--root: the folder of nab is needed"),
        (["telemetry", "--root", "none"], "root: none is no folder"),
        (["nab", "--root", ".", "--starts", "0"], "--starts: at least 1 is needed"),
        (["nab", "--root", ".", "--detector", "x"], "--detector: 'x' is none of titans-stream, "),
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


def test_train_names_a_misspelt_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.replace("epochs", "epoch"), encoding="utf-8")
    assert cli.main(["train", str(recipe)]) == 2
    assert capsys.readouterr().err == (
        f"titans-stream train: {recipe}:4: training.epoch: unknown key; did you mean 'epochs'?\n"
    )
