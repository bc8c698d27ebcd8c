"""Which version serves: the gates that a challenger passes, the decision's record, the way back.

A decision is kept as tags of the version (`promotion.*`), and what was measured as metrics of its
logged model. A gate whose metric was not measured does not hold.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from titans_stream.lifecycle.backtest import MEASURES
from titans_stream.lifecycle.comparison import LOWER_IS_BETTER, Comparison
from titans_stream.lifecycle.mlflow_library import Metric, MlflowException
from titans_stream.lifecycle.registry import CHALLENGER, CHAMPION, find_version
from titans_stream.lifecycle.tracking import TrackingServer
from titans_stream.times import format_timestamp

log = logging.getLogger(__name__)

_TAG = "promotion."
_LONGEST_TAG = 4_000


class Gate(BaseModel):
    """A condition on a measure of a backtest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description=f"one of {', '.join(MEASURES)}")
    at_most: float | None = Field(default=None, description="largest value that passes")
    at_least: float | None = Field(default=None, description="smallest value that passes")
    not_worse_than_champion_by: float | None = Field(
        default=None, ge=0, description="how much more than the champion's is allowed"
    )

    @model_validator(mode="after")
    def _known(self) -> Gate:
        if self.metric not in MEASURES:
            raise ValueError(f"metric: {self.metric!r} is none of {', '.join(MEASURES)}")
        if self.at_most is self.at_least is self.not_worse_than_champion_by is None:
            raise ValueError(f"{self.metric}: a gate needs a bound")
        if self.not_worse_than_champion_by is not None and self.metric not in LOWER_IS_BETTER:
            raise ValueError(f"{self.metric}: higher is not worse; use at_least and at_most")
        return self


class PromotionPolicy(BaseModel):
    """When a challenger may become champion: every gate must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gates: tuple[Gate, ...] = Field(
        default=(
            Gate(metric="quantile_loss", not_worse_than_champion_by=0.0),
            Gate(metric="alerts_per_1000", not_worse_than_champion_by=0.05),
            Gate(metric="mae_ratio", at_most=1.0),
            Gate(metric="long_mae_ratio", at_most=1.0),
            Gate(metric="coverage", at_least=0.93, at_most=0.98),
        ),
        min_length=1,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate's outcome, and why in words."""

    passed: bool
    text: str


def judge(policy: PromotionPolicy, comparison: Comparison, *, first: bool = False) -> list[Verdict]:
    """Hold a challenger (B) against the champion (A) and the bounds.

    `first`: there is no champion, A is the base model; then B must be better in at least one
    measure that a gate compares.
    """
    champion, challenger = comparison.measures("a"), comparison.measures("b")
    verdicts = []
    for gate in policy.gates:
        verdicts.extend(
            _verdicts(gate, champion, challenger, "base model" if first else "champion")
        )
    if first:
        compared = [g.metric for g in policy.gates if g.not_worse_than_champion_by is not None]
        better = [name for name in compared if challenger[name] < champion[name]]
        verdicts.append(
            Verdict(
                bool(better),
                f"a first model: better than the base model in {', '.join(better)}"
                if better
                else "a first model has to be better than the base model in one of "
                + ", ".join(compared),
            )
        )
    return verdicts


def _verdicts(
    gate: Gate, champion: Mapping[str, float], challenger: Mapping[str, float], against: str
) -> list[Verdict]:
    value, name = challenger.get(gate.metric, math.nan), gate.metric
    if not math.isfinite(value):
        return [Verdict(False, f"{name}: not measured")]
    found = []
    if gate.at_most is not None:
        found.append(Verdict(value <= gate.at_most, f"{name} {value:.4g}, at most {gate.at_most}"))
    if gate.at_least is not None:
        told = f"{name} {value:.4g}, at least {gate.at_least}"
        found.append(Verdict(value >= gate.at_least, told))
    if gate.not_worse_than_champion_by is not None:
        before = champion.get(name, math.nan)
        allowed = before + gate.not_worse_than_champion_by
        told = f"{name} {value:.6g}, {against} {before:.6g}"
        if gate.not_worse_than_champion_by:
            told += f" and {gate.not_worse_than_champion_by:g} more"
        if not math.isfinite(before):
            told = f"{name}: not measured for the {against}"
        found.append(Verdict(value <= allowed, told))
    return found


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a challenger."""

    name: str
    version: str
    before: str | None
    """The champion's version so far."""
    promoted: bool
    forced: str | None
    """Why the gates were passed over; None where they were not."""
    verdicts: Sequence[Verdict]


def promote(
    server: TrackingServer,
    decision: Decision,
    comparison: Comparison | None,
    data: str,
) -> None:
    """Move the alias where the decision says so, and record the decision.

    `data` names what the backtest ran on.
    """
    client = server.client
    moved = decision.promoted or decision.forced is not None
    with server.errors("promote"):
        found = find_version(server, decision.name, version=decision.version)
        tags = {
            "decision": "forced" if decision.forced is not None
            else "promoted" if decision.promoted else "refused",
            "at": _now(),
            # what `rollback` goes by says only of which version this one took the place
            "champion_before" if moved else "held_against": decision.before or "none",
            "data": data,
            "gates": "; ".join(
                f"{'ok' if v.passed else 'FAILED'}: {v.text}" for v in decision.verdicts
            ),
        }  # fmt: skip
        if decision.forced is not None:
            tags["forced"] = decision.forced
        _tag(client, decision.name, decision.version, tags)
        if moved:
            client.set_registered_model_alias(decision.name, CHAMPION, decision.version)
        if comparison is not None:
            _log_measures(client, found, comparison)


def rollback(server: TrackingServer, name: str, reason: str) -> tuple[str, str]:
    """Make the version before the champion champion again: (version left, version taken).

    ValueError where the champion's record names none.
    """
    client = server.client
    with server.errors("rollback"):
        champion = find_version(server, name, alias=CHAMPION)
        left = str(champion.version)
        before = dict(champion.tags).get(_TAG + "champion_before", "none")
        if before == "none":
            raise ValueError(f"models:/{name}/{left}: no champion is recorded before it")
        find_version(server, name, version=before)
        client.set_registered_model_alias(name, CHAMPION, before)
        now = _now()
        _tag(client, name, left, {"rolled_back_at": now, "rolled_back_to": before,
                                  "rolled_back_because": reason or "not told"})  # fmt: skip
        _tag(client, name, before, {"restored_at": now, "restored_from": left})
    return left, before


def champion_of(server: TrackingServer, name: str) -> str | None:
    """The champion's version; None where there is none yet."""
    with server.errors(f"models:/{name}"):
        try:
            aliases = server.client.get_registered_model(name).aliases
        except MlflowException as error:
            raise ValueError(f"models:/{name}: there is no such model") from error
    return str(aliases[CHAMPION]) if CHAMPION in aliases else None


def _log_measures(client: Any, found: Any, comparison: Comparison) -> None:
    """Keep the backtest's measures with the version's run and logged model."""
    source = str(found.source)
    model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
    now = time.time_ns() // 1_000_000
    entries = [
        Metric(f"backtest_{name}", value, now, 0, model_id, run_id=found.run_id)
        for name, value in comparison.measures("b").items()
        if math.isfinite(value)
    ]
    if not found.run_id or not entries:
        return
    try:
        client.log_batch(found.run_id, metrics=entries)
    except MlflowException as error:  # its run was deleted; the version serves all the same
        log.warning("the measures of the backtest are not kept: %s", str(error).partition("\n")[0])


def _tag(client: Any, name: str, version: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(name, version, _TAG + key, value[:_LONGEST_TAG])


def _now() -> str:
    return format_timestamp(time.time_ns() // 10**9 * 10**9)


__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "Decision",
    "Gate",
    "PromotionPolicy",
    "Verdict",
    "champion_of",
    "judge",
    "promote",
    "rollback",
]
