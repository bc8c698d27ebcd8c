"""A training run from recipe to registered version."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from titans_stream.config import Recipe
from titans_stream.durations import SECOND
from titans_stream.lifecycle.accuracy import Accuracy
from titans_stream.lifecycle.data import load_data
from titans_stream.lifecycle.environment import environment
from titans_stream.lifecycle.figures import training_figure
from titans_stream.lifecycle.registry import RegisteredVersion, check_model_name, register
from titans_stream.lifecycle.tracking import RunRecorder, connect
from titans_stream.lifecycle.training import Epoch, Trained, metrics_of, train
from titans_stream.times import format_timestamp


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
    """Of the best epoch, whose weights the model has."""
    before: Accuracy
    """On the validation series, with the random weights that training started from."""
    epochs: int
    seconds: float
    registered: RegisteredVersion | None


def run_training(
    recipe: Recipe,
    register_as: str | None = None,
    tracking_uri: str | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> TrainingReport:
    """Train `recipe`, record the run in MLflow and, if asked, register the model.

    `register_as` and `tracking_uri` win over the recipe's own. Logged are the parameters, the
    metrics of every epoch, a figure, the recipe, the data's fingerprint, the environment and the
    model. ValueError for a recipe that cannot be trained, ConnectionError where MLflow does not
    answer; both before any time is spent on training.
    """
    begin = time.perf_counter()
    name = register_as or recipe.register_as
    if name is not None:
        check_model_name(name)
    data = load_data(recipe.data, recipe.seed)
    server = connect(tracking_uri or recipe.tracking.tracking_uri)
    recorder = RunRecorder(server, recipe)

    def log_epoch(epoch: Epoch) -> None:
        numbers = {"learning_rate": epoch.learning_rate, "seconds": epoch.seconds}
        recorder.metrics({**metrics_of(epoch), **numbers}, epoch.number)
        on_epoch(epoch)

    with _finished(recorder):
        recorder.parameters(_parameters(recipe) | {"data.fingerprint": data.fingerprint})
        recorder.document("recipe.yaml", _public(recipe))
        trained = train(recipe, data, log_epoch)
        trained = _with_card(trained, recipe)
        source = _record(recorder, trained)
    return TrainingReport(
        run_id=recorder.run_id,
        tracking_uri=server.shown,
        experiment=recipe.tracking.experiment,
        model_uri=source,
        metrics=metrics_of(trained.best),
        before=trained.before,
        epochs=len(trained.epochs),
        seconds=time.perf_counter() - begin,
        registered=None if name is None else register(server, name, source, recorder.run_id),
    )


def _with_card(trained: Trained, recipe: Recipe) -> Trained:
    card = {
        **trained.model.card,
        "recipe": _public(recipe),
        "environment": environment(),
        "created": format_timestamp(time.time_ns() // SECOND * SECOND),
    }
    return replace(trained, model=replace(trained.model, card=card))


def _record(recorder: RunRecorder, trained: Trained) -> str:
    """Log what was made; returns where the model lies."""
    card = trained.model.card
    recorder.document("environment.json", card["environment"])
    families = {name: asdict(accuracy) for name, accuracy in trained.families.items()}
    recorder.document("families.json", families)
    best = {f"best_{name}": value for name, value in metrics_of(trained.best).items()}
    recorder.metrics({**best, "best_epoch": trained.best.number}, trained.epochs[-1].number)
    recorder.figure("training.png", training_figure(trained))
    return recorder.model(trained.model)


@contextmanager
def _finished(recorder: RunRecorder) -> Iterator[None]:
    """Mark the run as what became of it."""
    status = "KILLED"
    try:
        yield
        status = "FINISHED"
    except (ValueError, ArithmeticError, OSError):
        status = "FAILED"
        raise
    finally:
        recorder.finish(status)


def _public(recipe: Recipe) -> dict[str, object]:
    """The recipe without where it is recorded, which may name users and passwords."""
    return recipe.model_dump(mode="json", by_alias=True, exclude={"tracking", "register_as"})


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
