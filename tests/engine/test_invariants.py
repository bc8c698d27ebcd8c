"""The invariants of the engine as properties: causal, batch- and split-invariant, isolated, ...

Every comparison is bitwise: rows are computed one after another by the same instructions.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.streams import (
    FLOATS,
    STEP,
    Stream,
    by_reading,
    concatenate,
    engine,
    make_stream,
    run,
    same_scores,
)
from titans_stream.engine.familiar import COURSES
from titans_stream.records import Results

relaxed = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
seeds = st.integers(0, 10_000)


def cuts_of(n: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    return sorted(rng.integers(0, n + 1, count).tolist())


@relaxed
@given(seed=seeds, cut_seed=seeds, bound=st.sampled_from([0, 30]))
def test_grouping_into_calls_changes_nothing(seed: int, cut_seed: int, bound: int) -> None:
    stream = make_stream(seed, series=4, readings=2400, shuffle=bound > 0)
    whole = run(engine(bound=bound), stream, [])
    parts = run(engine(bound=bound), stream, cuts_of(len(stream), cut_seed))
    same_scores(whole, parts)
    assert whole.alerts == parts.alerts
    assert (whole.scores.status == 0).sum() > 500


@relaxed
@given(
    seed=seeds,
    at=st.integers(0, 2400),
    bound=st.sampled_from([0, 30]),
    duplicates=st.sampled_from(["keep-order", "drop", "keep-last", "spread"]),
)
def test_each_way_to_take_duplicates_keeps_the_invariants(
    seed: int, at: int, bound: int, duplicates: str
) -> None:
    """Batch- and split-invariance, isolation and replay where stamps are coarse."""
    stream = make_stream(seed, series=4, readings=2400, shuffle=bound > 0)
    step = 10**10 if bound else STEP
    coarse = dataclasses.replace(stream, timestamp=stream.timestamp // (7 * step) * 7 * step)
    settings = {"duplicates": duplicates}
    whole = run(engine(bound=bound, settings=settings), coarse, [])
    one = engine(bound=bound, settings=settings)
    first = run(one, coarse.slice(0, at), cuts_of(at, seed))
    restarted = engine(bound=bound, settings=settings)
    restarted.restore(0, one.snapshot(0))
    rest = run(restarted, coarse.slice(at, 2400), cuts_of(2400 - at, seed))
    same_scores(whole, concatenate([first, rest]))
    assert whole.alerts == first.alerts + rest.alerts
    mine = np.array([name == "s0" for name in coarse.series])
    alone = run(engine(bound=bound, settings=settings), coarse.where(mine), [])
    assert by_reading(whole, "s0") == by_reading(alone, "s0")
    kept = int(np.isin(whole.scores.status, (0, 1, 4)).sum())
    assert kept > 1300 if duplicates in ("keep-order", "spread") else kept < 800


@relaxed
@given(seed=seeds, at=st.integers(900, 2300))
def test_a_score_depends_on_the_past_only(seed: int, at: int) -> None:
    stream = make_stream(seed, series=3, readings=2400)
    changed = stream.with_values(at, stream.value[at:] * -3.0 + 17.0)
    before, after = run(engine(), stream, []), run(engine(), changed, [])
    same_scores(before, after, slice(0, at))
    assert not np.array_equal(
        before.scores.surprise[at:], after.scores.surprise[at:], equal_nan=True
    )


@relaxed
@given(seed=seeds)
def test_other_series_and_their_garbage_do_not_matter(seed: int) -> None:
    stream = make_stream(seed, series=4, readings=2400)
    rng = np.random.default_rng(seed)
    mine = np.array([name == "s0" for name in stream.series])
    noisy = stream.value.copy()
    garbage = rng.choice([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0], len(stream))
    noisy[~mine] = garbage[~mine]
    clean = run(engine(), stream, [])
    dirty = run(engine(), stream.with_values(0, noisy), [])
    alone = run(engine(), stream.where(mine), [])
    own = by_reading(clean, "s0")
    for other in (dirty, alone):
        theirs = by_reading(other, "s0")
        assert own == theirs
    for name in FLOATS[:-1]:
        values = getattr(dirty.scores, name)
        assert not np.isinf(values).any(), name


@relaxed
@given(seed=seeds, at=st.integers(50, 2350), bound=st.sampled_from([0, 30]))
def test_snapshot_and_replay_equal_never_stopped(seed: int, at: int, bound: int) -> None:
    stream = make_stream(seed, series=4, readings=2400, shuffle=bound > 0)
    never = engine(bound=bound)
    first = run(never, stream.slice(0, at), [])
    saved = never.snapshot(0)
    rest = run(never, stream.slice(at, len(stream)), [])
    restarted = engine(bound=bound)
    restarted.restore(0, saved)
    again = run(restarted, stream.slice(at, len(stream)), cuts_of(len(stream) - at, seed))
    same_scores(rest, again)
    assert rest.alerts == again.alerts
    whole = run(engine(bound=bound), stream, [])
    same_scores(whole, concatenate([first, rest]))
    final, replayed = never.snapshot(0), restarted.snapshot(0)
    assert final.meta == replayed.meta
    for name, array in final.arrays.items():
        np.testing.assert_array_equal(array, replayed.arrays[name], err_msg=name)


@relaxed
@given(seed=seeds, slots=st.integers(2, 5))
def test_spilling_changes_nothing(seed: int, slots: int) -> None:
    stream = make_stream(seed, series=9, readings=3600)
    roomy, tight = engine(), engine(slots=slots)
    cuts = cuts_of(len(stream), seed)
    same_scores(run(roomy, stream, cuts), run(tight, stream, cuts))
    info = tight.info()
    assert info["resident"] <= slots
    assert info["spills"] > 0
    assert info["resident"] + info["spilled"] == 9
    for name, array in roomy.snapshot(0).arrays.items():
        np.testing.assert_array_equal(array, tight.snapshot(0).arrays[name], err_msg=name)


def test_state_has_a_constant_size() -> None:
    stream = make_stream(3, series=2, readings=6000)
    one = engine()
    sizes = []
    for first in range(0, len(stream), 1500):
        run(one, stream.slice(first, first + 1500), [])
        sizes.append({name: array.nbytes for name, array in one.snapshot(0).arrays.items()})
    courses = [name for name in sizes[-1] if name.startswith("course_")]
    assert max(size["course_series"] for size in sizes) <= 2 * COURSES * np.int64().nbytes
    for size in sizes:
        for name in courses:
            del size[name]
    assert all(size == sizes[0] for size in sizes)
    assert sum(sizes[0].values()) / 2 <= 36_864
    assert one.state_bytes <= 36_864


def test_partitions_are_apart_and_can_be_released() -> None:
    left = make_stream(1, series=2, readings=1200)
    right = make_stream(2, series=2, readings=1200).on_partition(1)
    both = engine()
    mixed = run(both, Stream.interleave(left, right), [])
    alone = run(engine(), right, [])
    at = mixed.scores.partition == 1
    for name in FLOATS:
        np.testing.assert_array_equal(
            getattr(mixed.scores, name)[at], getattr(alone.scores, name), err_msg=name
        )
    assert both.info()["on_two_partitions"] == 2
    both.release(1)
    assert both.series_count() == 2
    assert both.snapshot(1).meta["series"] == []
    fresh = run(both, right, [])
    np.testing.assert_array_equal(fresh.scores.surprise, alone.scores.surprise)


def test_a_snapshot_of_another_schema_is_refused() -> None:
    one = engine()
    run(one, make_stream(1, series=1, readings=300), [])
    saved = one.snapshot(0)
    with pytest.raises(ValueError, match="schema"):
        engine(bound=5).restore(0, saved)
    del saved.arrays["memory"]
    target = engine()
    with pytest.raises(ValueError, match="memory"):
        target.restore(0, saved)
    assert target.series_count() == 0


def test_a_changed_threshold_keeps_the_memory() -> None:
    one, other = engine(budget=0.1), engine(budget=50.0)
    stream = make_stream(1, series=2, readings=2000)
    run(one, stream.slice(0, 1000), [])
    other.restore(0, one.snapshot(0))
    kept = run(one, stream.slice(1000, 2000), [])
    changed = run(other, stream.slice(1000, 2000), [])
    np.testing.assert_array_equal(kept.scores.surprise, changed.scores.surprise)
    assert kept.scores.onset.sum() < changed.scores.onset.sum()


def test_an_empty_call_is_fine() -> None:
    result: Results = run(engine(), make_stream(0, series=1, readings=10).slice(0, 0), [])
    assert len(result.scores) == 0
    assert result.alerts == []
