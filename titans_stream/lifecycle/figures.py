"""The pictures of a training run: how the loss fell, and what the model forecasts."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from titans_stream.forecasting.one_step.layout import BAND_LEVEL
from titans_stream.lifecycle.head_accuracy import STEPS
from titans_stream.lifecycle.training import Heads, Trained

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
