"""A training that is interrupted goes on, and gives what an undisturbed one gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.lifecycle.conftest import quick_recipe
from titans_stream.lifecycle.checkpoint import Checkpoint
from titans_stream.lifecycle.forecaster_training import Epoch, train

RECIPE = quick_recipe()


def interrupted(path: Path, after: int) -> list[int]:
    seen: list[int] = []

    def stop(epoch: Epoch) -> None:
        seen.append(epoch.number)
        if epoch.number == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, on_epoch=stop, checkpoint=Checkpoint(path))
    return seen


@pytest.mark.parametrize("after", [1, 2])
def test_the_result_is_that_of_an_undisturbed_training(
    tmp_path: Path, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    plain = train(RECIPE)
    path = tmp_path / "c.pt"
    assert interrupted(path, after) == list(range(1, after + 1))
    again: list[Epoch] = []
    resumed = train(RECIPE, on_epoch=again.append, checkpoint=Checkpoint(path))
    assert f"going on after epoch {after} of an interrupted training" in caplog.text
    assert [e.validation_loss for e in again] == [e.validation_loss for e in plain.epochs]
    assert [e.learning_rate for e in again] == [e.learning_rate for e in plain.epochs]
    for name, weight in plain.model.weights.items():
        np.testing.assert_array_equal(resumed.model.weights[name], weight)


def test_what_was_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from titans_stream.lifecycle.gradient_fit import RecurrentFit

    path = tmp_path / "c.pt"
    interrupted(path, 2)
    passes: list[int] = []
    plain = RecurrentFit._pass

    def counted(self: RecurrentFit) -> float:  # type: ignore[type-arg]
        passes.append(1)
        return plain(self)

    monkeypatch.setattr(RecurrentFit, "_pass", counted)
    train(RECIPE, checkpoint=Checkpoint(path))
    assert len(passes) == 1


class Payload:
    """Unpickling it leaves a folder behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (str(self.mark),)


def test_a_damaged_or_hostile_checkpoint_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import pickle

    import torch

    path, mark = tmp_path / "c.pt", tmp_path / "mark"
    for content in (b"", b"PK\x03\x04", pickle.dumps(Payload(mark))):
        path.write_bytes(content)
        assert Checkpoint(path).load() is None
    torch.save({"passes": [Payload(mark)]}, path)
    assert Checkpoint(path).load() is None
    assert not mark.exists()
    assert "training begins anew" in caplog.text


def test_other_recipes_and_data_have_other_checkpoints() -> None:
    one = Checkpoint.of({"seed": 1}, "a").path
    assert one == Checkpoint.of({"seed": 1}, "a").path
    assert (
        len({one, Checkpoint.of({"seed": 2}, "a").path, Checkpoint.of({"seed": 1}, "b").path}) == 3
    )
