"""A training run from recipe to registered version."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from titans_stream.config import Recipe
from titans_stream.durations import SECOND
from titans_stream.engine.model import Model
from titans_stream.files.account import FileAccount
from titans_stream.lifecycle import detector_training as detector
from titans_stream.lifecycle.data import TrainingData, load_data
from titans_stream.lifecycle.detector_training import Candidate, TrainedDetector, train_detector
from titans_stream.lifecycle.environment import environment
from titans_stream.lifecycle.figures import detector_figure, heads_figure, training_figure
from titans_stream.lifecycle.forecaster_training import Epoch, Heads, metrics_of, train
from titans_stream.lifecycle.registry import RegisteredVersion, check_model_name, register
from titans_stream.lifecycle.residual_training import ResidualStep
from titans_stream.lifecycle.tracking import RunRecorder, connect
from titans_stream.times import format_timestamp

Progress = Epoch | Candidate | ResidualStep
"""What a training tells of itself while it runs."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run made and where it is recorded."""

    run_id: str
    tracking_uri: str
    """Without user and password."""
    experiment: str
    model_uri: str
    """Where the model's folder lies."""
    metrics: Mapping[str, float]
    """Of the epoch or candidate whose weights the model has."""
    chosen: str
    """Which one that is, for people."""
    seconds: float
    registered: RegisteredVersion | None
    accounts: Sequence[FileAccount] = ()
    """What became of the values of each file that was learned from."""


def run_training(
    recipe: Recipe,
    register_as: str | None = None,
    tracking_uri: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> TrainingReport:
    """Train `recipe`, record the run in MLflow and, if asked, register the model.

    `register_as` and `tracking_uri` win over the recipe's own. Logged are the parameters, the
    metrics of every epoch or candidate, a figure, the recipe, the data's fingerprint, the
    environment and the model. ValueError for a recipe that cannot be trained, ConnectionError
    where MLflow does not answer; both before any time is spent on training.
    """
    begin = time.perf_counter()
    name = register_as or recipe.register_as
    if name is not None:
        check_model_name(name)
    heads = recipe.kind == "forecaster" and recipe.training.heads
    data = load_data(recipe.data, recipe.seed, heads)
    server = connect(tracking_uri or recipe.tracking.tracking_uri)
    tags = {**recipe.tracking.tags, "kind": recipe.kind, "recipe": recipe.name}
    recorder = RunRecorder(server, recipe.tracking.experiment, recipe.name, tags)

    with recorder:
        recorder.parameters(_parameters(recipe) | {"data.fingerprint": data.fingerprint})
        recorder.document("recipe.yaml", _public(recipe))
        run = _detector_run if recipe.kind == "detector" else _forecaster_run
        made = run(recorder, recipe, data, on_progress)
        model = _with_card(made.model, recipe)
        recorder.document("environment.json", model.card["environment"])
        source = recorder.model(model)
    return TrainingReport(
        run_id=recorder.run_id,
        tracking_uri=server.shown,
        experiment=recipe.tracking.experiment,
        model_uri=source,
        metrics=made.metrics,
        chosen=made.chosen,
        seconds=time.perf_counter() - begin,
        registered=None if name is None else register(server, name, source, recorder.run_id),
        accounts=data.accounts,
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """What one kind of training leaves to be recorded in the common way."""

    model: Model
    metrics: Mapping[str, float]
    chosen: str


def _forecaster_run(
    recorder: RunRecorder,
    recipe: Recipe,
    data: TrainingData,
    on_progress: Callable[[Progress], None],
) -> _Made:
    def log_epoch(epoch: Epoch) -> None:
        numbers = {"learning_rate": epoch.learning_rate, "seconds": epoch.seconds}
        recorder.metrics({**metrics_of(epoch), **numbers}, epoch.number)
        on_progress(epoch)

    def log_step(step: ResidualStep) -> None:
        losses = {"training_loss": step.training_loss, "validation_loss": step.validation_loss}
        recorder.metrics({f"residual_{name}": loss for name, loss in losses.items()}, step.number)
        on_progress(step)

    trained = train(recipe, data, log_epoch, log_step)
    families = {name: asdict(accuracy) for name, accuracy in trained.families.items()}
    recorder.document("families.json", families)
    best = metrics_of(trained.best)
    if trained.heads is not None:
        best = {**best, **trained.heads.metrics}
        recorder.document("heads.json", _heads(trained.heads))
        recorder.figure("heads.png", heads_figure(trained.heads))
    named = {f"best_{name}": value for name, value in best.items()}
    recorder.metrics({**named, "best_epoch": trained.best.number}, trained.epochs[-1].number)
    recorder.figure("training.png", training_figure(trained))
    return _Made(trained.model, best, f"epoch {trained.best.number} of {recipe.training.epochs}")


def _detector_run(
    recorder: RunRecorder,
    recipe: Recipe,
    data: TrainingData,
    on_progress: Callable[[Progress], None],
) -> _Made:
    def log_candidate(candidate: Candidate) -> None:
        metrics = {**detector.metrics_of(candidate), "seconds": candidate.seconds}
        prefix = "" if candidate.trained else "untrained_"
        recorder.metrics({prefix + n: v for n, v in metrics.items()}, candidate.number)
        on_progress(candidate)

    trained = train_detector(recipe, data, log_candidate)
    best = detector.metrics_of(trained.best)
    named = {f"best_{name}": value for name, value in best.items()}
    named["untrained_spread"] = trained.spread()
    recorder.metrics(named, trained.candidates[-1].number)
    recorder.document("candidates.json", _candidates(trained))
    if trained.calibration is not None:
        recorder.document("calibration.json", trained.calibration.to_json())
        recorder.text("calibration.txt", trained.calibration.table() + "\n")
    recorder.figure("training.png", detector_figure(trained))
    recorder.model(trained.best_trained, "best_trained")
    return _Made(trained.model, best, trained.best.name)


def _heads(heads: Heads) -> dict[str, object]:
    return {
        "mse_ratio_by_family": dict(heads.families),
        "series_with_a_period": heads.fit.series,
        "series_by_row": list(heads.fit.row_series),
        "series_of_the_shared_head": heads.fit.window_series,
    }


def _candidates(trained: TrainedDetector) -> dict[str, object]:
    return {one.name: detector.metrics_of(one) for one in trained.candidates}


def _with_card(model: Model, recipe: Recipe) -> Model:
    card = {
        **model.card,
        "recipe": _public(recipe),
        "environment": environment(),
        "created": format_timestamp(time.time_ns() // SECOND * SECOND),
    }
    return replace(model, card=card)


def _public(recipe: Recipe) -> dict[str, object]:
    """The recipe without where it is recorded, which may name users and passwords."""
    shown = recipe.model_dump(mode="json", by_alias=True, exclude={"tracking", "register_as"})
    others = ("heads", "residual") if recipe.kind == "detector" else ("selection",)
    for part in others:
        del shown["training"][part]
    return shown


def _parameters(recipe: Recipe) -> dict[str, object]:
    """The recipe's settings by dotted name, `data.synthetic.series`."""
    flat: dict[str, object] = {}
    stack: list[tuple[str, object]] = [("", _public(recipe))]
    while stack:
        prefix, value = stack.pop()
        if isinstance(value, Mapping):
            stack.extend((f"{prefix}{key}.", inner) for key, inner in value.items())
        elif value is not None:
            flat[prefix.removesuffix(".")] = value
    return dict(sorted(flat.items()))
