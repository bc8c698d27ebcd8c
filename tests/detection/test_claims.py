"""What is stated of members, states and shifts is held against what came before."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.detection.test_trust import opened, score
from titans_stream.detection import claims
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec


@njit()
def take(state: claims.Claims, claim: float) -> None:
    claims.learn(state, claim)


@njit()
def believed(state: claims.Claims, claim: float) -> float:
    return claims.believed(state, claim)


def fresh() -> np.record:
    return ArraySpec.of(claims.Claims).rows(1).view(np.recarray)[0]


def feed(state: np.record, tops: np.ndarray) -> None:
    """Blocks of frames with the given largest claims."""
    for top in tops:
        for i in range(int(claims.BLOCK)):
            take(state, float(top) if i == 70 else -2.0)


def drawn(blocks: int, unit: float) -> np.ndarray:
    """Largest claims of blocks: above c in SHARE 10^-c of them, the excess over LEAST unit-fold."""
    rng = np.random.default_rng(5)
    due = rng.random(blocks) < claims.SHARE * 10.0**-claims.LEAST
    excess = rng.exponential(unit / math.log(10.0), blocks)
    found: np.ndarray = np.where(due, claims.LEAST + excess, -1.0)
    return found


@pytest.mark.parametrize("claim", [-math.inf, 0.2, 1.0, 4.0])
def test_without_history_a_claim_is_believed(claim: float) -> None:
    assert believed(fresh(), claim) == pytest.approx(claim)


def test_claims_that_are_right_stay_what_they_are() -> None:
    state = fresh()
    feed(state, drawn(600, 1.0))
    assert believed(state, 2.5) == pytest.approx(2.5, abs=0.35)


def test_claims_whose_tail_is_heavier_than_they_say_are_believed_less() -> None:
    state = fresh()
    feed(state, drawn(600, 3.0))
    assert believed(state, 5.0) < claims.LEAST + 4.5 / 2.0
    assert believed(state, 5.0) > believed(state, 4.0) > believed(state, 0.4)


def test_claims_that_come_too_often_are_believed_less_and_rare_ones_a_little_more() -> None:
    often, never = fresh(), fresh()
    feed(often, np.full(60, 0.7))
    too_often = math.log10(10.0**claims.LEAST / claims.SHARE)
    assert believed(often, 0.7) == pytest.approx(0.7 - too_often, abs=0.25)
    feed(never, np.full(60, 0.1))
    assert believed(never, 2.0) == pytest.approx(2.0 + math.log10(claims.GAIN))


def test_one_absurd_claim_is_bounded() -> None:
    one, absurd = fresh(), fresh()
    feed(one, np.array([claims.LEAST + 2.0]))
    feed(absurd, np.array([1e6]))
    assert believed(absurd, 5.0) == pytest.approx(believed(one, 5.0), abs=0.3)


def test_a_series_that_begins_to_switch_between_two_states_is_told_once() -> None:
    rng = np.random.default_rng(0)
    values, i, on = np.zeros(1000), 500, False
    while i < len(values):
        lasts = int(rng.integers(5, 20) if on else rng.integers(20, 60))
        values[i : i + lasts] = on
        i, on = i + lasts, not on
    found = opened(score(values, 60))
    assert found[0] < 560
    assert len(found) == 1, "eight times by its levels"


def test_a_tight_budget_does_not_let_the_reference_follow_a_lasting_shift() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 9000)
    values[6000:] += 3.0
    found = opened(score(values, 1))
    assert any(6000 <= at < 6120 for at in found), "missed while only what alerts was held"
    assert len(found) <= 2


def test_an_event_makes_neither_itself_nor_the_next_one_usual() -> None:
    state = fresh()
    feed(state, np.full(20, -1.0))
    before = believed(state, 4.0)
    feed(state, np.full(claims.WAIT, 6.0))
    assert believed(state, 4.0) >= before - 0.01
    feed(state, np.full(claims.WAIT, 6.0))
    assert believed(state, 4.0) < before - 1.0
