"""Series beyond `max_series`: refused, or in the place of one that never warmed up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.streams import concatenate, engine, make_stream, run, same_scores
from tests.engine.test_invariants import cuts_of, relaxed, seeds
from titans_stream.detection.rules import AlertConfig, resolve_rule, resolve_rules
from titans_stream.engine.admission import MANY_SERIES
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.series import SeriesTable
from titans_stream.records import Readings, Results

STEP = 60_000_000_000


def limited(limit: int, **settings: object) -> StreamEngine:
    return engine(settings={"max_series": limit, **settings})


def of(names: list[str], first: int = 0, value: float = 1.0) -> Readings:
    n = len(names)
    at = first + np.arange(n)
    return Readings(names, 10**18 + at * STEP, np.full(n, value), np.zeros(n, np.int32), at)


def refused(result: Results) -> list[int]:
    return [] if result.refused is None else result.refused.tolist()


def test_new_series_of_a_full_partition_are_refused_and_the_others_go_on() -> None:
    one = limited(2)
    result = one.process(of(["a", "b", "c", "a", "d", "c", "b"]))
    assert refused(result) == [2, 4, 5]
    assert result.scores.series == ["a", "b", "a", "b"]
    assert result.scores.offset.tolist() == [0, 1, 3, 6]
    assert one.info()["refused_readings"] == 3
    assert one.series_count() == 2


def test_a_limit_is_of_a_partition() -> None:
    one = limited(1)
    other = dataclasses.replace(of(["b"]), partition=np.ones(1, np.int32))
    assert refused(one.process(of(["a"]))) == refused(one.process(other)) == []
    assert refused(one.process(of(["b", "a"]))) == [0]


def test_a_series_that_never_warmed_up_and_is_idle_for_long_makes_room() -> None:
    one = limited(2)
    one.process(of(["a", "b"]))
    # 50 readings for each of two series
    assert refused(one.process(of(["b"] * 98 + ["c"], 2))) == [98]
    assert refused(one.process(of(["c"], 101))) == []
    assert one.snapshot(0).meta["series"] == ["b", "c"]


def test_the_idlest_makes_room_at_once_where_that_is_wanted() -> None:
    one = limited(2, when_full="replace-idle")
    assert refused(one.process(of(["a", "b", "a", "c", "a"]))) == []
    assert one.snapshot(0).meta["series"] == ["a", "c"]
    assert one.process(of(["b"], 5)).scores.status.tolist() == [1]
    assert one.snapshot(0).meta["series"] == ["a", "b"]


def test_warm_series_are_never_forgotten() -> None:
    one = limited(2, when_full="replace-idle")
    one.process(of(["a", "b"] * 50))
    assert refused(one.process(of(["c", "a"], 100))) == [0]


def test_a_series_with_an_open_episode_stays() -> None:
    one = engine(
        settings={"max_series": 2, "when_full": "replace-idle"},
        rules=[{"series": "*", "valid_range": (None, 50.0)}],
    )
    opened = one.process(of(["a"], 0, 99.0)).alerts
    assert [alert.status for alert in opened] == ["opened"]
    one.process(of(["b", "c"], 1))
    assert one.snapshot(0).meta["series"] == ["a", "c"]


def test_members_of_groups_stay() -> None:
    one = limited(2, when_full="replace-idle")
    one.process(dataclasses.replace(of(["a"]), group=["asset"]))
    one.process(of(["b", "c"], 1))
    assert one.snapshot(0).meta["series"] == ["a", "c"]


def test_what_a_forgotten_series_had_waiting_is_scored() -> None:
    one = limited(1, when_full="replace-idle", max_out_of_orderness="1h")
    result = one.process(of(["a", "b"]))
    assert (result.scores.series, refused(result)) == (["a"], [])


@relaxed
@given(seed=seeds, at=st.integers(0, 600), when=st.sampled_from(["refuse", "replace-idle"]))
def test_who_is_taken_in_depends_on_the_readings_alone(seed: int, at: int, when: str) -> None:
    stream = make_stream(seed, series=4, readings=600)
    rng = np.random.default_rng(seed)
    names = [f"id-{rng.integers(30)}" if rng.random() < 0.4 else name for name in stream.series]
    stream = dataclasses.replace(stream, series=names)
    whole = limited(8, when_full=when)
    expected = run(whole, stream, [])
    one = limited(8, when_full=when)
    first = run(one, stream.slice(0, at), cuts_of(at, seed))
    other = limited(8, when_full=when)
    other.restore(0, one.snapshot(0))
    rest = run(other, stream.slice(at, 600), cuts_of(600 - at, seed))
    same_scores(expected, concatenate([first, rest]))
    final, replayed = whole.snapshot(0), other.snapshot(0)
    assert final.meta == replayed.meta
    for name, array in final.arrays.items():
        np.testing.assert_array_equal(array, replayed.arrays[name], err_msg=name)


@pytest.mark.parametrize("ids", [MANY_SERIES - 2, 2 * MANY_SERIES])
def test_an_id_in_the_series_name_is_told(ids: int) -> None:
    one = engine()
    names = ["pump/a"] * 60 + [f"pump/{i}" for i in range(ids)]
    one.process(of(names))
    warning = one.series_warning()
    if ids < MANY_SERIES:
        assert warning == ""
    else:
        assert warning.startswith("2,000 of 2,001 series have fewer than 5 readings, such as ")
        assert "'pump/1999'" in warning
        assert "input.series" in warning


def test_many_series_with_many_readings_are_no_mistake() -> None:
    one = engine()
    for _ in range(5):
        one.process(of([f"pump/{i}" for i in range(MANY_SERIES)]))
    assert one.series_warning() == ""


def test_series_that_are_admitted_together_get_what_each_gets_alone() -> None:
    config = AlertConfig.model_validate(
        {
            "no_data_after": "1h",
            "rules": [
                {"series": "a*", "min_deviation": 2.0, "enabled": False},
                {"series": "*7", "false_alarms_per_series_per_day": 0.5},
            ],
        }
    )
    names = ["a1", "b7", "a7", "c", "b7"]
    assert resolve_rules(config, names) == [resolve_rule(config, name) for name in names]


def test_uids_of_several_partitions_are_as_if_admitted_one_by_one() -> None:
    told: list[tuple[int, list[int], list[str]]] = []
    table = SeriesTable(lambda partition, uids, names: told.append((partition, [*uids], names)))
    found = table.uids(["x", "y", "x", "x", "z"], np.array([0, 1, 1, 0, 0], np.int32))
    assert found[0] == found[3]
    assert len(set(found.tolist())) == 4
    assert told == [(0, [0, 1], ["x", "z"]), (1, [2, 3], ["y", "x"])]
    assert table.on_two_partitions == 1
    assert [table.name(uid) for uid in found.tolist()] == ["x", "y", "x", "x", "z"]
    assert table.uids(["x"], np.array([1], np.int32)).tolist() == [3]
    assert len(told) == 2
