"""A training run from recipe to registered version."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from titans_stream.config import Recipe
from titans_stream.durations import SECOND
from titans_stream.engine.model import Model
from titans_stream.files.account import FileAccount
from titans_stream.lifecycle import detector_training as detector
from titans_stream.lifecycle import forecaster_training as forecaster
from titans_stream.lifecycle.checkpoint import Checkpoint
from titans_stream.lifecycle.data import TrainingData, load_data
from titans_stream.lifecycle.data_figures import (
    calibration_figure,
    calibration_of,
    forecast_figure,
    score_series,
    surprise_figure,
)
from titans_stream.lifecycle.datasets import DatasetRecord, dataset_records
from titans_stream.lifecycle.descriptions import model_text, run_text
from titans_stream.lifecycle.detector_training import Candidate, TrainedDetector, train_detector
from titans_stream.lifecycle.environment import environment
from titans_stream.lifecycle.figures import detector_figure, heads_figure, training_figure
from titans_stream.lifecycle.forecaster_training import (
    NAIVE_RATIO,
    Epoch,
    Heads,
    metrics_of,
    train,
)
from titans_stream.lifecycle.processes import ALONE, Processes
from titans_stream.lifecycle.recording import NOTE, LoggedModel, RunRecorder
from titans_stream.lifecycle.registry import RegisteredVersion, Source, check_model_name, register
from titans_stream.lifecycle.residual_training import ResidualStep
from titans_stream.lifecycle.tracking import connect
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
    model_id: str
    """Of the logged model: `models:/<model_id>` loads it as a pyfunc."""
    metrics: Mapping[str, float]
    """Of the epoch or candidate whose weights the model has."""
    chosen: str
    """Which one that is, for people."""
    seconds: float
    registered: RegisteredVersion | None
    accounts: Sequence[FileAccount] = ()
    """What became of the values of each file that was learned from."""

    @property
    def naive_ratio(self) -> float | None:
        """Error of forecasts of many steps of the user's own series; see `NAIVE_RATIO`."""
        return self.metrics.get(NAIVE_RATIO)


def run_training(
    recipe: Recipe,
    register_as: str | None = None,
    tracking_uri: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    processes: Processes = ALONE,
) -> TrainingReport:
    """Train `recipe`, record the run in MLflow and, if asked, register the model.

    `register_as` and `tracking_uri` win over the recipe's own. Logged are the parameters, the
    metrics of every epoch or candidate, figures, the recipe, the datasets, the environment and the
    model. ValueError for a recipe that cannot be trained, ConnectionError
    where MLflow does not answer; both before any time is spent on training. A training that was
    interrupted goes on after its last epoch, with the same result.

    Of several `processes` this is the first; the others `follow_training`.
    """
    begin = time.perf_counter()
    name = register_as or recipe.register_as
    if name is not None:
        check_model_name(name)
    data, checkpoint = _prepared(recipe, processes)
    server = connect(tracking_uri or recipe.tracking.tracking_uri)
    made_in = environment()
    tags = {**recipe.tracking.tags, "kind": recipe.kind, "recipe": recipe.name}
    if "commit" in made_in:
        tags["mlflow.source.git.commit"] = made_in["commit"].removesuffix("-dirty")
        tags["commit"] = made_in["commit"]
    recorder = RunRecorder(server, recipe.tracking.experiment, recipe.name, tags)

    with recorder:
        parameters = _parameters(recipe) | {"data.fingerprint": data.fingerprint}
        if processes.size > 1:
            parameters["processes"] = processes.size
        recorder.parameters(parameters)
        datasets = dataset_records(recipe, data)
        recorder.datasets(list(datasets.values()))
        recorder.document("recipe.yaml", _public(recipe))
        recorder.document("environment.json", made_in)
        logged = recorder.begin_model(recipe.name, recipe.kind, parameters)
        session = _Session(
            recorder, recipe, data, datasets, logged, on_progress, checkpoint, processes
        )
        made = (_detector_run if recipe.kind == "detector" else _forecaster_run)(session)
        model = _with_card(made.model, recipe, made_in)
        measured = session.picture(model, made.step)
        model_tags = {**tags, "data.fingerprint": data.fingerprint, "chosen": made.chosen}
        recorder.describe(run_text(recipe, datasets, made.metrics, measured, made.chosen))
        text = model_text(recipe, datasets, made.metrics, made.chosen)
        recorder.model(logged, model, model_tags | {NOTE: text}, made.step)
    registered = None
    if name is not None:
        source = Source(logged.location, recorder.run_id, logged.model_id)
        registered = register(server, name, source, text, model_tags)
    checkpoint.done()  # only now: where the registry fails, the same command need not train again
    return TrainingReport(
        run_id=recorder.run_id,
        tracking_uri=server.shown,
        experiment=recipe.tracking.experiment,
        model_uri=logged.location,
        model_id=logged.model_id,
        metrics=made.metrics,
        chosen=made.chosen,
        seconds=time.perf_counter() - begin,
        registered=registered,
        accounts=data.accounts,
    )


def follow_training(recipe: Recipe, processes: Processes) -> None:
    """Train along with the first of several processes, which records what comes of it."""
    data, checkpoint = _prepared(recipe, processes)
    kind = detector if recipe.kind == "detector" else forecaster
    kind.follow(recipe, data, checkpoint, processes)


def _prepared(recipe: Recipe, processes: Processes) -> tuple[TrainingData, Checkpoint]:
    """The same data in all processes, and where a training that was interrupted lies."""
    heads = recipe.kind == "forecaster" and recipe.training.heads
    data = load_data(recipe.data, recipe.seed, heads)
    processes.check_same("data", data.fingerprint)
    shared = {"processes": processes.size} if processes.size > 1 else {}
    return data, Checkpoint.of({**_public(recipe), **shared}, data.fingerprint)


@dataclass(frozen=True, slots=True)
class _Session:
    """What a training needs to record itself."""

    recorder: RunRecorder
    recipe: Recipe
    data: TrainingData
    datasets: Mapping[str, DatasetRecord]
    logged: LoggedModel
    on_progress: Callable[[Progress], None]
    checkpoint: Checkpoint
    processes: Processes

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics, linked to the model and to the data that their names speak of."""
        for context in ("training", "validation", "testing"):
            mine = {n: v for n, v in metrics.items() if _context_of(n) == context}
            if mine:
                self.recorder.metrics(mine, step, self.logged, self.datasets.get(context))

    def picture(self, model: Model, step: int) -> dict[str, float]:
        """Draw what the model makes of the validation series, and count how well it holds."""
        scored = score_series(model, self.data.validation)
        found = calibration_of(scored)
        self.recorder.figure("figures/forecast.png", forecast_figure(scored))
        self.recorder.figure("figures/surprise.png", surprise_figure(scored))
        self.recorder.figure("figures/calibration.png", calibration_figure(found))
        numbers = {f"engine_{name}": value for name, value in found.metrics().items()}
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        self.recorder.metrics(finite, step, self.logged, self.datasets.get("validation"))
        return finite


def _context_of(name: str) -> str:
    """Which dataset a metric was measured on, from its name."""
    if "held_out" in name:
        return "testing"
    return "validation" if "validation" in name else "training"


@dataclass(frozen=True, slots=True)
class _Made:
    """What one kind of training leaves to be recorded in the common way."""

    model: Model
    metrics: Mapping[str, float]
    chosen: str
    step: int
    """The epoch that the weights are of."""


def _forecaster_run(session: _Session) -> _Made:
    recorder, recipe = session.recorder, session.recipe

    def log_epoch(epoch: Epoch) -> None:
        numbers = {"learning_rate": epoch.learning_rate, "seconds": epoch.seconds}
        session.metrics({**metrics_of(epoch), **numbers}, epoch.number)
        session.on_progress(epoch)

    def log_step(step: ResidualStep) -> None:
        losses = {"training_loss": step.training_loss, "validation_loss": step.validation_loss}
        session.metrics({f"residual_{name}": loss for name, loss in losses.items()}, step.number)
        session.on_progress(step)

    trained = train(
        recipe, session.data, log_epoch, log_step, session.checkpoint, session.processes
    )
    families = {name: asdict(accuracy) for name, accuracy in trained.families.items()}
    recorder.document("families.json", families)
    best = metrics_of(trained.best)
    if trained.heads is not None:
        best = {**best, **trained.heads.metrics}
        recorder.document("heads.json", _heads(trained.heads))
        recorder.figure("heads.png", heads_figure(trained.heads))
    named = {f"best_{name}": value for name, value in best.items()}
    session.metrics({**named, "best_epoch": trained.best.number}, trained.epochs[-1].number)
    recorder.figure("training.png", training_figure(trained))
    chosen = f"epoch {trained.best.number} of {recipe.training.epochs}"
    return _Made(trained.model, best, chosen, trained.best.number)


def _detector_run(session: _Session) -> _Made:
    recorder, recipe = session.recorder, session.recipe

    def log_candidate(candidate: Candidate) -> None:
        metrics = {**detector.metrics_of(candidate), "seconds": candidate.seconds}
        prefix = "" if candidate.trained else "untrained_"
        session.metrics({prefix + n: v for n, v in metrics.items()}, candidate.number)
        session.on_progress(candidate)

    trained = train_detector(
        recipe, session.data, log_candidate, session.checkpoint, session.processes
    )
    best = detector.metrics_of(trained.best)
    named = {f"best_{name}": value for name, value in best.items()}
    named["untrained_spread"] = trained.spread()
    session.metrics(named, trained.candidates[-1].number)
    recorder.document("candidates.json", _candidates(trained))
    if trained.calibration is not None:
        recorder.document("calibration.json", trained.calibration.to_json())
        recorder.text("calibration.txt", trained.calibration.table() + "\n")
    recorder.figure("training.png", detector_figure(trained))
    other = recorder.begin_model(f"{recipe.name}-best-trained", recipe.kind)
    recorder.model(other, trained.best_trained, {"chosen": "best trained epoch"}, 0)
    step = trained.best.number if trained.best.trained else 0
    return _Made(trained.model, best, trained.best.name, step)


def _heads(heads: Heads) -> dict[str, object]:
    return {
        "mse_ratio_by_family": dict(heads.families),
        "series_with_a_period": heads.fit.series,
        "series_by_row": list(heads.fit.row_series),
    }


def _candidates(trained: TrainedDetector) -> dict[str, object]:
    return {one.name: detector.metrics_of(one) for one in trained.candidates}


def _with_card(model: Model, recipe: Recipe, made_in: Mapping[str, str]) -> Model:
    card = {
        **model.card,
        "recipe": _public(recipe),
        "environment": dict(made_in),
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
