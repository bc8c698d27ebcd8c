"""A challenger held against the champion, from the backtest to the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from titans_stream.config import Recipe
from titans_stream.engine.model import Model
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.backtest import backtest
from titans_stream.lifecycle.comparison import Comparison, compare
from titans_stream.lifecycle.data import backtest_series
from titans_stream.lifecycle.datasets import series_digest
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.promotion import (
    Decision,
    PromotionPolicy,
    champion_of,
    judge,
    promote,
)
from titans_stream.lifecycle.series import Series
from titans_stream.lifecycle.tracking import TrackingServer


@dataclass(frozen=True, slots=True)
class Consideration:
    """Both models, what the backtest says of them, and whether the gates hold."""

    champion: Model
    challenger: Model
    comparison: Comparison
    decision: Decision
    told: str
    """What the backtest ran on."""


def compared(a: Model, b: Model, series: Iterable[Series]) -> Comparison:
    """Backtest two models on the same series, which are gone through twice."""
    return compare(backtest(a, series), backtest(b, series))


def own_series(model: Model) -> tuple[list[Series], str]:
    """The validation series of the recipe that a model was trained by, and their source."""
    recipe = model.card.get("recipe")
    if not isinstance(recipe, dict):
        raise ValueError(f"model {named(model)} names no recipe: --data FILE.csv is needed")
    parsed = Recipe.model_validate(recipe)
    source = f"the validation series of recipe {parsed.name}"
    return backtest_series(parsed.data, parsed.seed), source


def described(series: Sequence[Series], source: str) -> str:
    """What a backtest runs on, in words."""
    if not series:
        raise ValueError(f"{source}: no series to backtest on")
    readings = sum(len(one.value) for one in series)
    return (
        f"{source}: {len(series):,} series, {readings:,} readings, digest "
        f"{series_digest(series)[:12]}"
    )


def consider(
    server: TrackingServer,
    challenger: Model,
    policy: PromotionPolicy,
    series: Iterable[Series],
    told: str,
    force: str | None = None,
) -> Consideration:
    """Hold a registered challenger against its champion; nothing is changed yet."""
    name = challenger.ref.name
    before = champion_of(server, name)
    champion = (
        base_model() if before is None else load_model(f"models:/{name}/{before}", server.uri)
    )
    comparison = compared(champion, challenger, series)
    verdicts = judge(policy, comparison, first=before is None)
    passed = all(verdict.passed for verdict in verdicts)
    forced = None if passed else force
    decision = Decision(name, challenger.ref.version, before, passed, forced, verdicts)
    return Consideration(champion, challenger, comparison, decision, told)


def decide(server: TrackingServer, found: Consideration) -> None:
    """Move the alias where the decision says so, and record the decision."""
    promote(server, found.decision, found.comparison, found.told)


def named(model: Model) -> str:
    """A model for people."""
    return f"{model.ref.name} version {model.ref.version}"
