"""The picture of a detector's training: the loss, and how well each candidate detects."""

from __future__ import annotations

from matplotlib.figure import Figure

from titans_stream.lifecycle.detector_training import TrainedDetector


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
