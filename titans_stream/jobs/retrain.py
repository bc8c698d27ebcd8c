"""The job that trains on recent history and holds the new model against the champion."""

from __future__ import annotations

from pathlib import Path

from titans_stream.config import load_recipe, load_settings
from titans_stream.durations import format_duration
from titans_stream.job_settings import JobConfig
from titans_stream.lifecycle.comparison import table
from titans_stream.lifecycle.consideration import (
    consider,
    decide,
    described,
    named,
    own_series,
)
from titans_stream.lifecycle.lease import lease
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.promotion import PromotionPolicy
from titans_stream.lifecycle.runs import run_training
from titans_stream.lifecycle.topic_data import with_history
from titans_stream.lifecycle.tracking import connect

POLICY = Path("mlflow/promotion.yaml")


def retrain(connector: Path, name: str, job: JobConfig) -> list[str]:
    """Do the job; lines for people, the last one says what came of it.

    `LeasedError` where another replica does it already.
    """
    assert job.recipe is not None
    assert job.register_as is not None
    recipe = with_history(load_recipe(job.recipe), str(connector), format_duration(job.history))
    server = connect(recipe.tracking.tracking_uri)
    with lease(server, job.register_as, name, job.timeout):
        report = run_training(recipe, job.register_as, recipe.tracking.tracking_uri)
        assert report.registered is not None
        challenger = load_model(report.registered.uri, server.uri)
        series, source = own_series(challenger)
        policy = load_settings(PromotionPolicy, POLICY) if POLICY.is_file() else PromotionPolicy()
        found = consider(server, challenger, policy, series, described(series, source))
        names = {"a": named(found.champion), "b": named(found.challenger)}
        lines = [report.chosen, *table(found.comparison, names)]
        lines += [f"{'ok' if v.passed else 'FAILED'}: {v.text}" for v in found.decision.verdicts]
        version = report.registered.uri
        if not job.promote:
            return [*lines, f"{version} is challenger"]
        decide(server, found)
        end = "champion now" if found.decision.promoted else "refused, the champion stays"
        return [*lines, f"{version} is {end}"]
