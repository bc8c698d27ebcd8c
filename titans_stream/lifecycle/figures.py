"""The pictures of a training run: how the loss fell, and how well the model does."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from titans_stream.forecasting.one_step.layout import BAND_LEVEL
from titans_stream.lifecycle.accuracy import STEPS
from titans_stream.lifecycle.detector_training import TrainedDetector
from titans_stream.lifecycle.forecaster_training import Heads, Trained

SHOWN = 300
"""Readings of the example that are drawn."""


def training_figure(trained: Trained) -> Figure:
    """Losses by epoch above, the end of a validation series with its band below."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    losses, series = figure.subplots(2)
    numbers = [epoch.number for epoch in trained.epochs]
    losses.plot(numbers, [epoch.training_loss for epoch in trained.epochs], label="training")
    losses.plot(numbers, [epoch.validation_loss for epoch in trained.epochs], label="validation")
    losses.axvline(trained.best.number, color="grey", linestyle=":", label="best")
    losses.set(xlabel="epoch", ylabel="loss relative to repeating the last value")
    losses.legend()

    example = trained.example
    rows = np.arange(max(len(example.value) - SHOWN, 0), len(example.value))
    expected, lower, upper = example.forecast[rows].T
    label = f"{BAND_LEVEL:.0%} band"
    series.fill_between(rows, lower, upper, alpha=0.3, linewidth=0, label=label)
    series.plot(rows, expected, linewidth=1, label="expected")
    series.plot(rows, example.value[rows], ".", color="black", markersize=3, label="value")
    series.set(xlabel="reading", title=f"one step ahead: {example.name}")
    series.legend()
    return figure


def heads_figure(heads: Heads) -> Figure:
    """Squared error of many steps by family."""
    figure = Figure(figsize=(7, 0.8 + 0.3 * len(heads.families)), layout="constrained")
    axes = figure.subplots()
    names = sorted(heads.families, key=lambda name: -heads.families[name])
    axes.barh(names, [heads.families[name] for name in names])
    axes.axvline(1.0, color="grey", linestyle=":")
    axes.set(xlabel=f"squared error of {STEPS} steps relative to repeating the last value")
    return figure


def detector_figure(trained: TrainedDetector) -> Figure:
    """Losses by epoch above; the measure by epoch below, beside that of every untrained seed."""
    epochs = [one for one in trained.candidates if one.trained]
    random = [one for one in trained.candidates if not one.trained]
    numbers = [one.number for one in epochs]
    figure = Figure(figsize=(9, 7), layout="constrained")
    losses, measures = figure.subplots(2, sharex=True)
    losses.plot(numbers, [one.training_loss for one in epochs], label="training")
    losses.plot(numbers, [one.validation_loss for one in epochs], label="validation")
    losses.set(ylabel="errors relative to random projections")
    losses.legend()
    for part, colour in (("validation", "C1"), ("held_out", "C2")):
        label = part.replace("_", " ")
        for one in random:
            found = getattr(one, part)
            if found is not None:
                measures.axhline(found.measure, color=colour, linestyle=":", linewidth=1)
        found = [getattr(one, part) for one in epochs]
        if all(one is not None for one in found):
            measures.plot(numbers, [one.measure for one in found], color=colour, label=label)
    if trained.best.trained:
        measures.axvline(trained.best.number, color="grey", label="chosen")
    measures.set(
        xlabel="epoch",
        ylabel="mean of AP and recall",
        title=f"dotted: untrained seeds; chosen: {trained.best.name}",
    )
    measures.legend()
    return figure
