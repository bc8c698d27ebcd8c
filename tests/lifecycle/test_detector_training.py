"""The detector's training is repeatable, follows the detector's own recurrence, and must win."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.lifecycle.conftest import quick_recipe
from titans_stream.calendar_features import calendar_features
from titans_stream.detection import layout as L
from titans_stream.engine.model import untrained_weights
from titans_stream.evaluation.metrics import average_precision
from titans_stream.evaluation.ours import OurDetector
from titans_stream.lifecycle import detector_recurrence as fitting
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.data import load_data
from titans_stream.lifecycle.detector_selection import Quality, load_labelled, quality
from titans_stream.lifecycle.detector_training import (
    Candidate,
    TrainedDetector,
    metrics_of,
    train_detector,
)
from titans_stream.lifecycle.mlflow_library import MlflowClient
from titans_stream.lifecycle.runs import run_training
from titans_stream.synthetic import FAMILIES, HELD_OUT

SELECTION = {"seeds": 2, "series": 13, "length": 1_400, "calibration_series": 0}
TRAINING = {"epochs": 2, "batch": 13, "unroll": 128, "learning_rate": 0.01, "selection": SELECTION}
DATA = {"synthetic": {"series": 26, "length": 384}, "validation_share": 0.5}
RECIPE = quick_recipe(kind="detector", data=DATA, training=TRAINING)
SERIES, READINGS = 4, 150


@pytest.fixture(scope="module")
def trained() -> TrainedDetector:
    return train_detector(RECIPE)


def weights(requires_grad: bool = False) -> dict[str, torch.Tensor]:
    start = untrained_weights(2)
    return {n: torch.from_numpy(start[n]).requires_grad_(requires_grad) for n in L.weight_shapes()}


def values() -> torch.Tensor:
    rng = np.random.default_rng(4)
    t = np.arange(READINGS)
    rows = [
        np.sin(t / 5.0) + 0.1 * rng.normal(size=READINGS),
        np.cumsum(rng.normal(size=READINGS)),
        np.full(READINGS, 2.5),
        100.0 * rng.standard_t(2.0, size=READINGS),
    ]
    return torch.from_numpy(np.array(rows))


def calendar() -> torch.Tensor:
    one = calendar_features(1.7e9 + 600.0 * np.arange(READINGS, dtype=np.float64))
    return torch.from_numpy(one).expand(SERIES, -1, -1)


def normalised(value: np.ndarray) -> np.ndarray:
    """One series in past deviations, a reading at a time (docs/method.md)."""
    out = np.zeros(len(value))
    mean, var, last = value[0], 0.0, 0.0
    for n in range(1, len(value)):
        deviation = value[n] - mean
        sd = max(np.sqrt(var), 1e-3 * abs(mean) + 1e-9)
        out[n] = min(L.Y_CLIP, max(-L.Y_CLIP, deviation / sd))
        bound = max(L.OUTLIER_CLIP * sd, abs(last))
        taken = min(bound, max(-bound, deviation)) if n > L.OUTLIER_AFTER else deviation
        mean += taken / (n + 1)
        var = (1 - 1 / (n + 1)) * (var + taken**2 / (n + 1))
        last = deviation
    return out


def stepped(value: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surprises [T, 5] and memories [3, K] of one series, a reading at a time."""
    w = {name: tensor.numpy() for name, tensor in weights().items()}

    def key(name: str, x: np.ndarray) -> np.ndarray:
        z = x @ w[f"detect.key_{name}_weight"] + w[f"detect.key_{name}_bias"]
        k = np.append(z / (1.0 + np.exp(-z)), L.KEY_CONSTANT)
        return k / np.linalg.norm(k)

    y = normalised(value)
    M, S = np.zeros((2, L.MEMORIES, L.KEY))
    level, means, out = np.ones(L.MEMORIES), np.zeros(2), []
    for t in range(len(value)):
        past = np.zeros(L.LAGS)
        past[: min(t, L.LAGS)] = y[:t][::-1][: L.LAGS]
        key_a = key("a", np.concatenate((past.clip(-8, 8), 0.5 * times[t])))
        key_t = key("t", times[t])
        targets = [
            y[max(0, t + 1 - L.HORIZON_A) : t + 1].mean(),
            y[max(0, t + 1 - L.HORIZON_T) : t + 1].mean(),
            y[t],
        ]
        theta = max(L.THETA_FLOOR, L.THETA * np.sqrt(L.THETA_DECAY / (t + L.THETA_DECAY)))
        errors = np.zeros(L.MEMORIES)
        for h, (k, target) in enumerate(zip((key_a, key_t, key_a), targets, strict=True)):
            errors[h] = M[h] @ k - target
            gradient = 2.0 * errors[h] * k
            norm, clip = np.linalg.norm(gradient), L.CLIP_FACTOR * max(level[h], L.CLIP_FLOOR)
            S[h] = L.ETA * S[h] - theta * gradient * min(1.0, clip / max(norm, 1e-300))
            M[h] += S[h]
            level[h] += L.CLIP_EMA * (min(norm, clip) - level[h])
        means += np.array([L.EMA_SHORT, L.EMA_LONG]) * (errors[0] - means)
        out.append([errors[0], *means, errors[1], errors[2]])
    return np.abs(out), M


def test_unrolling_is_stepping() -> None:
    errors, carry = fitting.unroll(
        fitting.prepare(values(), calendar()), fitting.fresh_carry(SERIES), weights()
    )
    for row, value in enumerate(values().numpy()):
        surprises, memory = stepped(value, calendar()[row, :, : L.TIME_FEATURES].numpy())
        np.testing.assert_allclose(errors[:, row].abs().numpy(), surprises, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(carry.memory[row, :, 0].numpy(), memory, rtol=1e-9, atol=1e-12)
    assert carry.memory.abs().sum() > 0.1


def test_two_unrolls_are_one_and_padding_counts_for_nothing() -> None:
    padded = values().clone()
    padded[0, 120:] = torch.nan
    inputs = fitting.prepare(padded, calendar())
    assert not inputs.counts[:100].any() and not inputs.counts[120:, 0].any()
    assert inputs.counts[100:, 1:].all() and inputs.counts[100:120].all()
    whole, _ = fitting.unroll(inputs, fitting.fresh_carry(SERIES), weights())
    rows = torch.arange(SERIES)
    first, carry = fitting.unroll(
        inputs.part(rows, slice(0, 60)), fitting.fresh_carry(SERIES), weights()
    )
    second, _ = fitting.unroll(inputs.part(rows, slice(60, None)), carry, weights())
    torch.testing.assert_close(torch.cat((first, second)), whole, rtol=1e-12, atol=1e-14)


def test_gradient_equals_finite_differences_where_nothing_is_clipped() -> None:
    rows = torch.arange(2)
    inputs = fitting.prepare(values(), calendar()).part(rows, slice(0, 60))
    # clipping counts as a constant: keep it away
    start = replace(fitting.fresh_carry(2), gradient=torch.full((2, L.MEMORIES), 1e6))
    learnt = weights(requires_grad=True)

    def loss() -> torch.Tensor:
        return fitting.unroll(inputs, start, learnt)[0].square().sum()

    loss().backward()
    for name, tensor in learnt.items():
        direction = torch.from_numpy(np.random.default_rng(0).normal(size=tuple(tensor.shape)))
        assert tensor.grad is not None
        slope = float((tensor.grad * direction).sum())
        step = 1e-6
        with torch.no_grad():
            tensor += step * direction
            above = float(loss())
            tensor -= 2 * step * direction
            below = float(loss())
            tensor += step * direction
        assert abs(slope) > 1e-4, name
        np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-4)


def test_gradient_is_finite_where_a_series_is_at_rest() -> None:
    learnt = weights(requires_grad=True)
    inputs = fitting.prepare(values(), calendar())
    errors, _ = fitting.unroll(inputs, fitting.fresh_carry(SERIES), learnt)
    assert errors[:, 2].abs().max() == 0.0
    errors.square().sum().backward()
    for name, tensor in learnt.items():
        assert tensor.grad is not None and tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0.0, name


def test_the_same_recipe_gives_the_same_bits(trained: TrainedDetector) -> None:
    again = train_detector(RECIPE)
    for name, weight in trained.model.weights.items():
        np.testing.assert_array_equal(again.model.weights[name], weight)
    assert [metrics_of(one) for one in again.candidates] == [
        metrics_of(one) for one in trained.candidates
    ]


def test_candidates_and_the_choice(trained: TrainedDetector) -> None:
    names = [one.name for one in trained.candidates]
    assert names == [
        "untrained, seed 1", "untrained, seed 2", "trained, epoch 1", "trained, epoch 2",
    ]  # fmt: skip
    first, other, _, last = trained.candidates
    assert first.validation_loss == pytest.approx(1.0, abs=1e-12)
    assert other.validation_loss != first.validation_loss
    assert last.validation_loss < first.validation_loss
    measures = [one.validation.measure for one in trained.candidates]
    assert trained.best == _chosen(trained)
    assert trained.spread() == pytest.approx(abs(measures[0] - measures[1]) / np.sqrt(2.0))
    labelled = load_labelled(RECIPE.training.selection, RECIPE.data.synthetic, RECIPE.seed)
    assert quality(trained.model, labelled.validation, 0.03) == trained.best.validation
    assert quality(trained.model, labelled.held_out, 0.03) == trained.best.held_out


def _chosen(trained: TrainedDetector) -> Candidate:
    first, *others = trained.candidates
    clear = [first]
    for one in others:
        gains = np.subtract(one.validation.by_series, first.validation.by_series)
        if gains.mean() > 2.0 * gains.std(ddof=1) / np.sqrt(len(gains)):
            clear.append(one)
    return max(clear, key=lambda one: one.validation.measure)


def test_untrained_projections_stay_if_training_does_not_help() -> None:
    still = {**TRAINING, "epochs": 1, "learning_rate": 1e-300, "weight_decay": 0.0}
    still["selection"] = {**SELECTION, "seeds": 1}
    result = train_detector(quick_recipe(kind="detector", data=DATA, training=still))
    assert result.best.name == "untrained, seed 1"
    start = untrained_weights(1)
    for name, weight in result.model.weights.items():
        known = start if name.startswith("detect.") else base_model().weights
        np.testing.assert_array_equal(weight, known[name])


def test_labelled_series_are_others_than_those_trained_on() -> None:
    labelled = load_labelled(RECIPE.training.selection, RECIPE.data.synthetic, RECIPE.seed)
    assert {one.name.split("/")[0] for one in labelled.validation} == set(FAMILIES)
    assert {one.name.split("/")[0] for one in labelled.held_out} == set(HELD_OUT)
    assert all(len(one.windows) == 2 for one in labelled.validation)
    known = {one.value.tobytes() for one in load_data(RECIPE.data, RECIPE.seed).training}
    assert not {one.values[:384].tobytes() for one in labelled.validation} & known


def test_quality_is_what_the_service_detects() -> None:
    labelled = load_labelled(RECIPE.training.selection, RECIPE.data.synthetic, RECIPE.seed)
    found = quality(base_model(), labelled.validation, 0.1)
    detections = OurDetector(base_model(), (0.1,))(labelled.validation)
    ap, events, false = [], 0, 0
    for one, detection in zip(labelled.validation, detections, strict=True):
        ap.append(average_precision(detection.surprise, one.label))
        free = np.flatnonzero(detection.onsets[0.1])
        for first, last in one.windows:
            inside = (free >= first) & (free <= max(last, first + 19))
            events += int(inside.any())
            free = free[~inside]
        false += len(free)
    windows = sum(len(one.windows) for one in labelled.validation)
    rows = sum(map(len, labelled.validation))
    assert found.ap == pytest.approx(np.mean(ap))
    assert found.recall == events / windows
    assert found.event_f1 == 2 * events / (events + false + windows)
    assert found.false_alarms == pytest.approx(100 * false / rows / 0.1)
    assert 0.1 < found.recall < 1.0
    assert found.measure == pytest.approx((found.ap + found.recall) / 2.0)


def test_a_gain_is_measured_series_by_series() -> None:
    one = Quality(0.0, 0.0, 0.0, 0.0, (0.5, 0.7, 0.3, 0.5))
    two = Quality(0.0, 0.0, 0.0, 0.0, (0.3, 0.5, 0.1, 0.7))
    gain, error = one.gain_over(two)
    assert gain == pytest.approx(0.1)
    assert error == pytest.approx(0.1)  # gains .2, .2, .2, -.2: deviation .2, four series
    assert one.gain_over(one) == (0.0, 0.0)


def test_a_run_is_recorded_and_registered(mlflow_server: str) -> None:
    changes = {**TRAINING, "epochs": 1, "selection": {**SELECTION, "seeds": 1}}
    recipe = quick_recipe(kind="detector", name="quick-detector", data=DATA, training=changes)
    seen: list[str] = []
    report = run_training(
        recipe, "detector", mlflow_server, on_progress=lambda one: seen.append(one.summary)
    )
    assert [line.split(":")[0] for line in seen] == ["untrained, seed 1", "trained, epoch 1"]
    assert report.chosen in ("untrained, seed 1", "trained, epoch 1")
    assert report.registered is not None and report.registered.uri == "models:/detector/1"
    client = MlflowClient(tracking_uri=mlflow_server)
    run = client.get_run(report.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.selection.seeds"] == "1"
    assert run.data.metrics["best_validation_measure"] == report.metrics["validation_measure"]
    assert {"untrained_held_out_ap", "validation_recall", "training_loss"} <= set(run.data.metrics)
    assert {entry.path for entry in client.list_artifacts(report.run_id)} == {
        "recipe.yaml", "environment.json", "candidates.json", "training.png", "figures",
    }  # fmt: skip
    models = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{report.run_id}'"
    )
    assert {(one.name, one.status) for one in models} == {
        ("quick-detector", "READY"), ("quick-detector-best-trained", "READY"),
    }  # fmt: skip
