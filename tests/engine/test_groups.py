"""Groups: joint alerts by value, and the engine's invariants for them, bit for bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.detection.test_claims import believed, fresh, take
from tests.engine.streams import (
    FLOATS,
    MODEL,
    Stream,
    by_reading,
    concatenate,
    engine,
    make_stream,
    run,
    same_scores,
)
from titans_stream.calendar_features import calendar_features
from titans_stream.detection.claims import SHARE
from titans_stream.detection.detector import Detector
from titans_stream.detection.layout import fresh_core, state_layout
from titans_stream.engine.engine import StreamEngine
from titans_stream.records import Alert, GroupScores, Readings, Results, Status

relaxed = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
seeds = st.integers(0, 10_000)
STEP = 60_000_000_000
START = 1_700_000_000_000_000_000
QUIET = 900


def by_parity(series: str) -> str:
    """s0, s2, ... are one asset, s1, s3, ... another."""
    return "even" if int(series[1:]) % 2 == 0 else "odd"


def feed(
    one: StreamEngine, stream: Stream, cuts: list[int], group: Callable[[str], str] = by_parity
) -> Results:
    """As `streams.run`, with groups."""
    parts = []
    for first, last in pairwise([0, *cuts, len(stream)]):
        readings = stream.slice(first, last).readings()
        parts.append(one.process(replace(readings, group=list(map(group, readings.series)))))
    return replace(concatenate(parts), groups=join([p.groups for p in parts if p.groups]))


def join(parts: list[GroupScores]) -> GroupScores:
    columns = {
        item.name: np.concatenate([getattr(part, item.name) for part in parts])
        for item in fields(GroupScores)
        if item.name != "group"
    }
    return GroupScores(group=[name for part in parts for name in part.group], **columns)


def same(left: Results, right: Results) -> None:
    same_scores(left, right)
    assert left.alerts == right.alerts
    assert left.groups is not None
    assert right.groups is not None
    assert left.groups.group == right.groups.group
    for item in fields(GroupScores):
        if item.name != "group":
            np.testing.assert_array_equal(
                getattr(left.groups, item.name), getattr(right.groups, item.name), item.name
            )


def cuts_of(n: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return sorted(rng.integers(0, n + 1, int(rng.integers(1, 40))).tolist())


def grid(stream: Stream) -> Stream:
    """The same values, with equal times in each row of the members."""
    n = len(set(stream.series))
    rows = np.arange(len(stream)) // n
    return replace(stream, timestamp=START + rows * STEP)


# ---------------------------------------------------------------- invariants


@relaxed
@given(seed=seeds, cut_seed=seeds, bound=st.sampled_from([0, 30]), even=st.booleans())
def test_grouping_into_calls_changes_nothing(
    seed: int, cut_seed: int, bound: int, even: bool
) -> None:
    stream = make_stream(seed, series=6, readings=2400, shuffle=bound > 0)
    stream = grid(stream) if even else stream
    whole = feed(engine(bound=bound), stream, [])
    parts = feed(engine(bound=bound), stream, cuts_of(len(stream), cut_seed))
    same(whole, parts)
    assert whole.groups is not None
    assert np.isfinite(whole.groups.statistic).sum() > 100


def test_one_reading_a_call_changes_nothing() -> None:
    stream = grid(make_stream(8, series=5, readings=3000))
    whole = feed(engine(budget=50.0), stream, [])
    same(whole, feed(engine(budget=50.0), stream, list(range(1, len(stream)))))
    assert len(whole.alerts) > 1


@relaxed
@given(seed=seeds, at=st.integers(50, 2350), bound=st.sampled_from([0, 30]))
def test_snapshot_and_replay_equal_never_stopped(seed: int, at: int, bound: int) -> None:
    stream = grid(make_stream(seed, series=6, readings=2400, shuffle=bound > 0))
    never = engine(bound=bound)
    feed(never, stream.slice(0, at), [])
    saved = never.snapshot(0)
    rest = feed(never, stream.slice(at, len(stream)), [])
    restarted = engine(bound=bound)
    # other series and groups come first, so that rows are others
    feed(restarted, stream.slice(0, 100).on_partition(1), [], lambda name: "x" + name)
    restarted.restore(0, saved)
    again = feed(restarted, stream.slice(at, len(stream)), cuts_of(len(stream) - at, seed))
    same(rest, again)
    final, replayed = never.snapshot(0), restarted.snapshot(0)
    assert final.meta == replayed.meta
    assert final.arrays.keys() == replayed.arrays.keys()
    for name, array in final.arrays.items():
        np.testing.assert_array_equal(array, replayed.arrays[name], err_msg=name)


def test_a_frame_and_an_episode_live_through_a_snapshot() -> None:
    """Stopped in the middle of a frame, while an episode is open."""
    values = noise(8)
    values[QUIET : QUIET + 30, 2] += 12.0
    stream = table(values)
    at = (QUIET + 4) * 8 + 5
    never = engine(budget=0.5)
    first = feed(never, stream.slice(0, at), [], asset)
    assert first.scores.alert[-1] == 1
    restarted = engine(budget=0.5)
    restarted.restore(0, never.snapshot(0))
    rest = feed(never, stream.slice(at, len(stream)), [], asset)
    same(rest, feed(restarted, stream.slice(at, len(stream)), [], asset))
    assert rest.groups is not None
    assert len(rest.groups) == len(values) - QUIET - 4, "the open frame is closed by the rest"
    assert rest.alerts[-1].status == "resolved"
    assert rest.alerts[-1].channels[0].series_id == "pump/2"


@relaxed
@given(seed=seeds)
def test_another_groups_garbage_does_not_matter(seed: int) -> None:
    stream = make_stream(seed, series=6, readings=2400)
    rng = np.random.default_rng(seed)
    mine = np.array([by_parity(name) == "even" for name in stream.series])
    noisy = stream.value.copy()
    noisy[~mine] = rng.choice([np.nan, np.inf, -np.inf, 1e308, 5e-324, 0.0], len(stream))[~mine]
    own = only(feed(engine(), stream, []), "even")
    for other in (stream.with_values(0, noisy), stream.where(mine)):
        theirs = only(feed(engine(), other, []), "even")
        assert own == theirs


def only(results: Results, group: str) -> tuple[object, ...]:
    """What a group gave: its alerts, frames and members' scores, NaN as text."""
    assert results.groups is not None
    at = [i for i, name in enumerate(results.groups.group) if name == group]
    frames = [
        [repr(x) for x in getattr(results.groups, name)[at].tolist()]
        for name in ("timestamp", "statistic", "p_value", "rarity", "alert", "onset", "offset")
    ]
    alerts = [alert for alert in results.alerts if alert.series_id == group]
    return alerts, frames, [by_reading(results, f"s{i}") for i in (0, 2, 4)]


@relaxed
@given(seed=seeds, slots=st.integers(2, 5))
def test_spilling_changes_nothing(seed: int, slots: int) -> None:
    stream = grid(make_stream(seed, series=9, readings=3600))
    roomy, tight = engine(), engine(slots=slots)
    cuts = cuts_of(len(stream), seed)
    same(feed(roomy, stream, cuts), feed(tight, stream, cuts))
    assert tight.info()["spills"] > 0


def test_state_has_a_constant_size() -> None:
    stream = grid(make_stream(3, series=4, readings=6000))
    one = engine()
    sizes = []
    for first in range(0, len(stream), 1500):
        feed(one, stream.slice(first, first + 1500), [])
        sizes.append({name: array.nbytes for name, array in one.snapshot(0).arrays.items()})
    assert all(size == sizes[0] for size in sizes)
    assert sum(n for name, n in sizes[0].items() if name.startswith("group_")) / 2 < 4600


def test_a_group_changes_no_score_of_its_members() -> None:
    stream = make_stream(4, series=6, readings=2400)
    alone, together = run(engine(), stream, []), feed(engine(), stream, [])
    for name in (*FLOATS, "status", "gap", "timestamp", "offset"):
        np.testing.assert_array_equal(
            getattr(alone.scores, name), getattr(together.scores, name), err_msg=name
        )
    assert alone.groups is None
    assert {alert.series_id for alert in alone.alerts} <= set(stream.series)
    assert {alert.series_id for alert in together.alerts} == {"even", "odd"}
    assert all(alert.channels == [] for alert in alone.alerts)


def test_partitions_are_apart_and_can_be_released() -> None:
    left = make_stream(1, series=4, readings=1200)
    right = make_stream(2, series=4, readings=1200).on_partition(1)
    both = engine()
    mixed = feed(both, Stream.interleave(left, right), [])
    alone = feed(engine(), right, [])
    assert [a for a in mixed.alerts if a.source.partition == 1] == alone.alerts
    assert (both.info()["groups"], both.info()["groups_on_two_partitions"]) == (4, 2)
    both.release(1)
    assert both.info()["groups"] == 2
    assert both.snapshot(1).meta["groups"] == []
    assert feed(both, right, []).alerts == alone.alerts


def test_a_damaged_state_is_refused() -> None:
    one = engine()
    feed(one, make_stream(1, series=4, readings=1200), [])
    saved = one.snapshot(0)
    for name, change in (
        ("member", lambda array: array + 7),
        ("group_tail", lambda array: array[:, 1:]),
    ):
        target = engine()
        arrays = {**saved.arrays, name: change(saved.arrays[name])}
        with pytest.raises(ValueError, match=name.removeprefix("group_")):
            target.restore(0, replace(saved, arrays=arrays))
        assert target.series_count() == 0
        assert target.info()["groups"] == 0


# ---------------------------------------------------------------- by value


def noise(channels: int, rows: int = QUIET + 120, seed: int = 5) -> np.ndarray:
    return 20.0 + np.random.default_rng(seed).standard_normal((rows, channels))


def asset(series: str) -> str:
    return series.partition("/")[0]


def table(values: np.ndarray, order: list[int] | None = None) -> Stream:
    """Rows of one message each; the channels of `pump` side by side."""
    rows, channels = values.shape
    order = list(range(channels)) if order is None else order
    return Stream(
        [f"pump/{i}" for i in order] * rows,
        np.repeat(START + np.arange(rows) * STEP, channels),
        values[:, order].ravel(),
        np.zeros(values.size, np.int32),
        np.repeat(np.arange(rows), channels),
    )


def score(values: np.ndarray, **alerts: object) -> Results:
    return feed(engine(**{"budget": 0.5, **alerts}), table(values), [], asset)


def after(results: Results, row: int, status: str = "opened") -> list[Alert]:
    return [a for a in results.alerts if a.source.offset >= row and a.status == status]


def joint_parts(values: np.ndarray) -> np.ndarray:
    """[rows, channels, 2]: what the detector says of each channel by itself, NaN where missing."""
    found = np.full((*values.shape, 2), np.nan)
    seconds = (START + np.arange(len(values)) * STEP) / 1e9
    for i, column in enumerate(values.T):
        arrays = {name: spec.rows(1) for name, spec in state_layout().items()}
        arrays["core"][:] = fresh_core()
        at = np.flatnonzero(~np.isnan(column))
        slots = np.zeros(len(at), np.int64)
        scored = Detector(MODEL.weights).run(
            arrays, slots, column[at], calendar_features(seconds[at])
        )
        found[at, i] = scored.joint
    return found


def joint_statistic(values: np.ndarray) -> np.ndarray:
    """The mean even part, and the mean of the three largest magnitudes."""
    even, magnitude = np.moveaxis(joint_parts(values), 2, 0)
    largest = -np.sort(-magnitude, axis=1)[:, :3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without a score
        return np.nanmean(even, axis=1) + np.nanmean(largest, axis=1)


def test_the_statistic_is_how_unusual_all_are_and_how_much_three() -> None:
    values = noise(8)
    values[300:310, 1:3] = np.nan
    values[500, :] = np.nan
    results = score(values)
    assert results.groups is not None
    np.testing.assert_allclose(results.groups.statistic, joint_statistic(values), rtol=1e-9)
    assert np.isnan(results.groups.statistic).sum() == 201
    assert results.groups.timestamp.tolist() == table(values).timestamp[::8].tolist()
    assert results.groups.offset.tolist() == [1, *range(1, len(values))]
    few = score(noise(2))
    assert few.groups is not None
    np.testing.assert_allclose(few.groups.statistic, joint_statistic(noise(2)), rtol=1e-9)


def test_a_frame_is_as_rare_as_its_rarest_member_among_so_many() -> None:
    values = noise(8)
    values[QUIET, 3] += 12.0
    results = score(values)
    assert results.groups is not None
    members = results.scores.rarity.reshape(values.shape)
    assert members[QUIET].argmax() == 3
    history, bound = fresh(), np.full(len(values), -np.inf)
    for i in np.flatnonzero(~np.isnan(members).any(axis=1)):
        claim = float(members[i].max() + np.log10(SHARE / 8))
        bound[i] = believed(history, claim)
        take(history, claim)
    np.testing.assert_allclose(results.groups.rarity[QUIET], bound[QUIET], rtol=1e-12)
    quiet = results.groups.rarity[QUIET - 300 : QUIET]
    assert (quiet >= bound[QUIET - 300 : QUIET] - 1e-12).all()
    assert (quiet > bound[QUIET - 300 : QUIET] + 1e-9).any(), "the joint statistic decides there"


def test_one_of_eight_channels_alerts_the_group_and_is_named() -> None:
    values = noise(8)
    values[QUIET : QUIET + 5, 3] += 12.0
    results = score(values)
    (alert,) = after(results, QUIET)
    assert (alert.series_id, alert.reason, alert.direction) == ("pump", "surprise", "above")
    assert alert.channels[0].series_id == "pump/3"
    assert [c.share for c in alert.channels] == sorted(c.share for c in alert.channels)[::-1]
    assert alert.channels[0].share > 0.6
    assert sum(c.share for c in alert.channels) == pytest.approx(1.0)
    assert {c.series_id for c in alert.channels} == {f"pump/{i}" for i in range(8)}
    driver = alert.channels[0]
    assert driver.value == alert.value == values[QUIET, 3]
    assert (driver.expected, driver.lower, driver.upper) == (
        alert.expected, alert.lower, alert.upper,
    )  # fmt: skip
    assert alert.explanation.startswith(f"driven by 3 {100 * driver.share:.0f} %")
    assert "for this group" in alert.explanation
    assert (alert.onset, alert.readings) == (alert.timestamp, 1)
    at = np.flatnonzero(results.scores.onset)
    assert at[-1] == QUIET * 8 + 7, "the reading that closes the frame carries the onset"
    assert results.scores.alert[at[-1] - 1 : at[-1] + 9].tolist() == [0] + [1] * 9


def test_all_channels_at_once_are_one_episode_with_equal_shares() -> None:
    values = np.repeat(noise(1), 8, axis=1)
    values[QUIET : QUIET + 5] += 9.0
    results = score(values)
    (alert,) = after(results, QUIET)
    assert [c.share for c in alert.channels] == [pytest.approx(1 / 8)] * 8
    assert len({a.alert_id for a in results.alerts if a.source.offset >= QUIET}) == 1
    alone = run(engine(budget=0.5), table(values), [])
    assert len(after(alone, QUIET)) == 8


def test_of_many_channels_ten_are_named() -> None:
    values = noise(14)
    values[QUIET : QUIET + 3, :3] += 9.0
    (alert,) = after(score(values), QUIET)
    assert len(alert.channels) == 10
    assert {c.series_id for c in alert.channels[:3]} == {"pump/0", "pump/1", "pump/2"}
    assert 0.5 < sum(c.share for c in alert.channels) <= 1.0 + 1e-12


def test_the_order_of_a_message_does_not_matter_for_the_statistic() -> None:
    values = noise(5)
    values[QUIET : QUIET + 5, 3] += 9.0
    one = score(values)
    other = feed(engine(budget=0.5), table(values, [3, 1, 4, 0, 2]), [], asset)
    assert one.groups is not None
    assert other.groups is not None
    np.testing.assert_allclose(one.groups.statistic, other.groups.statistic, rtol=1e-12)
    assert [a.onset for a in one.alerts] == [a.onset for a in other.alerts]


def test_the_budget_is_one_assets() -> None:
    values = np.random.default_rng(3).standard_t(3, (6000, 4))
    onsets = [
        int(score(values, budget=budget).groups.onset.sum())  # type: ignore[union-attr]
        for budget in (1.0, 10.0)
    ]
    days = 6000 / 1440
    assert onsets[0] < onsets[1]
    assert onsets[1] / days == pytest.approx(10.0, rel=0.6)


# ---------------------------------------------------------------- rules


def rule(series: str, **given: object) -> dict[str, object]:
    return {"rules": [{"series": series, **given}]}


@pytest.mark.parametrize("series", ["pump", "pump/3"])
def test_direction_and_deviation_are_asked_of_the_driving_channel(series: str) -> None:
    values = noise(4)
    values[QUIET, 3] += 12.0
    assert len(after(score(values, **rule(series, direction="above")), QUIET)) == 1
    assert after(score(values, **rule(series, direction="below")), QUIET) == []
    assert len(after(score(values, **rule(series, min_deviation=5.0)), QUIET)) == 1
    assert after(score(values, **rule(series, min_deviation=50.0)), QUIET) == []


def test_rules_of_other_channels_do_not_matter() -> None:
    values = noise(4)
    values[QUIET, 3] += 12.0
    assert len(after(score(values, **rule("pump/1", direction="below")), QUIET)) == 1


def test_a_disabled_channel_has_no_part_and_a_disabled_group_no_alerts() -> None:
    values = noise(4)
    values[QUIET : QUIET + 3, 3] += 12.0
    out = score(values, **rule("pump/3", enabled=False))
    assert after(out, QUIET) == []
    assert out.scores.surprise[QUIET * 4 + 3] > 0.5
    assert score(values, **rule("pump", enabled=False)).alerts == []


def test_a_value_outside_its_range_opens_at_once_even_while_warming_up() -> None:
    values = noise(4, rows=60)
    values[40, 1] = 99.0
    results = score(values, **rule("pump/1", valid_range=[None, 60.0]), resolve_after=5)
    opened, resolved = results.alerts
    assert (opened.reason, opened.severity, opened.score) == ("valid_range", "critical", None)
    assert (opened.series_id, opened.value, opened.readings) == ("pump", 99.0, 1)
    assert [(c.series_id, c.share, c.value) for c in opened.channels] == [("pump/1", 1.0, 99.0)]
    assert "valid range" in opened.explanation
    assert "1: 99" in opened.explanation
    assert np.flatnonzero(results.scores.onset).tolist() == [40 * 4 + 1], "before the frame closes"
    assert results.scores.alert[161:164].tolist() == [1, 1, 1]
    assert results.groups is not None
    assert np.flatnonzero(results.groups.onset).tolist() == [40]
    assert (resolved.status, resolved.readings, resolved.value) == ("resolved", 6, 99.0)
    assert resolved.alert_id == opened.alert_id
    assert resolved.channels == opened.channels
    assert score(values, **rule("pump", valid_range=[None, 60.0])).alerts == []


def test_a_channel_outside_its_range_drives_the_alert_whatever_the_shares() -> None:
    values = noise(4)
    values[QUIET, 0] += 30.0
    values[QUIET, 2] = 26.0
    opened, *_ = after(score(values, **rule("pump/2", valid_range=[None, 25.5])), QUIET)
    assert (opened.channels[0].series_id, opened.value) == ("pump/2", 26.0)
    resolved = after(score(values, **rule("pump/2", valid_range=[None, 25.5])), QUIET, "resolved")
    assert resolved[0].channels[0].series_id == "pump/2"
    assert resolved[0].channels[1].series_id == "pump/0"
    assert resolved[0].channels[1].share > resolved[0].channels[0].share


# ---------------------------------------------------------------- who reports when


def parts(*pieces: Stream) -> Stream:
    columns = (
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("timestamp", "value", "partition", "offset")
    )
    return Stream([name for piece in pieces for name in piece.series], *columns)


def rows_of(stream: Stream) -> list[tuple[str, int]]:
    return list(zip(stream.series, stream.offset.tolist(), strict=True))


def without(stream: Stream, name: str, first: int, last: int) -> Stream:
    """One series silent in rows first to last."""
    keep = [s != name or not first <= o < last for s, o in rows_of(stream)]
    return stream.where(np.array(keep))


def test_a_silent_member_delays_a_frame_but_blocks_nothing() -> None:
    values = noise(4)
    values[QUIET : QUIET + 3, 1] += 12.0
    stream = without(table(values), "pump/2", 600, 2 * QUIET)
    results = feed(engine(budget=0.5), stream, [], asset)
    (alert,) = after(results, QUIET)
    assert alert.channels[0].series_id == "pump/1"
    assert "pump/2" not in {c.series_id for c in alert.channels}
    assert alert.source.offset == QUIET, "by then the silent one is waited for no longer"
    assert results.groups is not None
    assert len(results.groups) == len(values)
    waited = results.groups.offset - np.arange(len(values))
    assert waited[0] == 1
    assert np.flatnonzero(waited[1:] == 1).tolist() == list(range(599, 698))


def test_a_new_member_joins() -> None:
    values = noise(4)
    values[QUIET : QUIET + 3, 2] += 12.0
    stream = without(table(values), "pump/2", 0, 400)
    results = feed(engine(budget=0.5), stream, [], asset)
    (alert,) = after(results, QUIET)
    assert alert.channels[0].series_id == "pump/2"
    assert results.groups is not None
    assert results.groups.timestamp.tolist() == table(values).timestamp[::4].tolist()
    late = feed(
        engine(budget=0.5), without(table(values, [0, 1, 3, 2]), "pump/2", 0, 400), [], asset
    )
    assert after(late, QUIET)[0].channels[0].series_id == "pump/2"


def test_a_slow_member_that_comes_last_is_judged_too() -> None:
    values = noise(3, rows=5000)
    values[4400, 2] += 15.0
    stream = table(values)
    slow = np.array([s != "pump/2" or o % 10 == 0 for s, o in rows_of(stream)])
    results = feed(engine(budget=0.5), stream.where(slow), [], asset)
    (alert,) = after(results, 4400)
    assert alert.channels[0].series_id == "pump/2"
    assert results.groups is not None
    assert len(results.groups) == len(values) - 1, "the last frame still waits"


def test_late_and_duplicate_readings_are_in_no_frame() -> None:
    values = noise(3)
    plain = table(values)
    again = plain.slice(600 * 3, 601 * 3).with_values(0, np.full(3, 99.0))
    stream = parts(plain.slice(0, 610 * 3), again, plain.slice(610 * 3, len(plain)))
    with_late, clean = (feed(engine(), each, [], asset) for each in (stream, plain))
    assert (with_late.scores.status == Status.LATE).sum() == 3
    assert with_late.scores.alert[1830:1833].tolist() == [0, 0, 0]
    assert with_late.alerts == clean.alerts
    np.testing.assert_array_equal(with_late.groups.statistic, clean.groups.statistic)  # type: ignore[union-attr]


def test_a_member_of_the_groups_past_is_scored_alone() -> None:
    """A reading that comes after a later one of the group closed its frame."""
    values = noise(2, rows=400)
    stream = table(values)
    order = np.arange(len(stream))
    order[601], order[602] = 602, 601  # pump/1 of row 300 after pump/0 of row 301
    results = feed(engine(), stream.where(order), [], asset)
    assert results.groups is not None
    assert len(results.groups) == 400
    even, magnitude = np.moveaxis(joint_parts(values), 2, 0)
    lone = even[300, 0] + magnitude[300, 0]
    np.testing.assert_allclose(results.groups.statistic[300], lone, rtol=1e-9)
    assert results.scores.status[602] == Status.SCORED
    both = even[301].mean() + magnitude[301].mean()
    np.testing.assert_allclose(results.groups.statistic[301], both, rtol=1e-9)


def test_a_wrong_clock_of_one_member_does_not_hold_up_the_others() -> None:
    values = noise(5)
    values[QUIET : QUIET + 3, 1] += 12.0
    stream = table(values)
    wrong = np.array([s == "pump/3" and o >= 500 for s, o in rows_of(stream)])
    times = stream.timestamp + wrong * 900 * STEP
    results = feed(engine(budget=0.5), replace(stream, timestamp=times), [], asset)
    (alert,) = after(results, QUIET)
    assert alert.channels[0].series_id == "pump/1"
    assert alert.onset == after(score(values), QUIET)[0].onset
    assert results.groups is not None
    present = results.groups.timestamp < START + len(values) * STEP
    assert len(values) - 3 <= present.sum() <= len(values)
    assert (~present).sum() <= 2


def test_clocks_that_are_all_set_back_are_followed() -> None:
    values = noise(4)
    values[QUIET : QUIET + 3, 1] += 12.0
    stream = table(values)
    times = stream.timestamp - (stream.offset >= 500) * 300 * STEP
    follow = {"clock_reset": "after 20"}
    results = feed(engine(budget=0.5, settings=follow), replace(stream, timestamp=times), [], asset)
    assert after(results, QUIET)[0].channels[0].series_id == "pump/1"
    assert results.groups is not None
    assert len(results.groups) >= len(values) - 22


def test_a_member_that_delivers_its_past_does_not_move_the_clock() -> None:
    values = noise(3)
    whole = table(values)
    dump = whole.where(np.array([s == "pump/2" and 300 <= o < 600 for s, o in
                                 rows_of(whole)]))  # fmt: skip
    live = without(whole, "pump/2", 300, 600)
    at = int(np.flatnonzero(live.offset == 600)[0])
    stream = parts(live.slice(0, at), dump, live.slice(at, len(live)))
    results = feed(engine(), stream, [], asset)
    assert results.groups is not None
    assert len(results.groups) == len(values)
    assert (np.diff(results.groups.timestamp) > 0).all()


def test_a_group_that_was_silent_for_long_starts_anew() -> None:
    values = noise(3, rows=600)
    stream = table(values)
    again = replace(stream, timestamp=stream.timestamp + 10**6 * STEP)
    one = engine()
    feed(one, stream, [], asset)
    second = feed(one, again, [], asset)
    same(second, feed(engine(), again, [], asset))


def test_a_snapshot_frees_no_group() -> None:
    """The clock of the partition's other series goes on while a group is silent."""
    old = table(noise(3, rows=500))
    others = replace(table(noise(5, rows=3)), series=[f"other/{i}" for i in range(5)] * 3)
    others = replace(others, timestamp=others.timestamp + 60_000 * STEP)
    back = replace(table(noise(3, rows=300, seed=9)), timestamp=None)
    back = replace(back, timestamp=START + np.repeat(70_000 + np.arange(300), 3) * STEP)
    undisturbed, saved = engine(), engine()
    for one in (undisturbed, saved):
        feed(one, old, [], asset)
        feed(one, others, [], asset)
    assert set(saved.snapshot(0).meta["groups"]) == {"pump", "other"}
    same(feed(undisturbed, back, [], asset), feed(saved, back, [], asset))


def test_an_open_episode_of_a_group_that_starts_anew_is_resolved() -> None:
    values = noise(3)
    values[QUIET:, 1] += 30.0
    first = table(values[: QUIET + 3])
    back = table(noise(3, rows=300, seed=9))
    back = replace(back, timestamp=back.timestamp + 10**6 * STEP)
    one = engine(budget=0.5)
    opened = after(feed(one, first, [], asset), QUIET)
    assert [alert.status for alert in opened][:1] == ["opened"]
    ended = [a for a in feed(one, back, [], asset).alerts if a.alert_id == opened[0].alert_id]
    assert [alert.status for alert in ended] == ["resolved"]
    assert "starts anew" in ended[0].explanation


def test_one_wild_time_of_a_member_does_not_cost_a_group_its_memory() -> None:
    values = noise(3, rows=900)
    stream = table(values)
    wild = stream.timestamp.copy()
    wild[3 * 600 + 1] += 10**7 * STEP
    one, other = engine(), engine()
    feed(one, stream, [], asset)
    feed(other, replace(stream, timestamp=wild), [], asset)
    seen = [e.snapshot(0).arrays["group_tail"][0, 0] for e in (one, other)]
    assert seen[1] > 0.99 * seen[0]


def test_a_series_can_move_to_another_group_and_out_of_groups() -> None:
    values = noise(4)
    values[QUIET, 1] += 12.0
    stream = table(values)
    one = engine(budget=0.5)
    feed(one, stream.slice(0, 1600), [], asset)
    moved = feed(one, stream.slice(1600, 3200), [], lambda _: "other")
    assert moved.groups is not None
    assert set(moved.groups.group) == {"other"}
    alone = run(one, stream.slice(3200, len(stream)), [])
    assert alone.groups is None
    assert {a.series_id for a in after(alone, QUIET)} == {"pump/1"}


def test_readings_that_wait_for_order_keep_their_group() -> None:
    values = noise(4)
    values[QUIET : QUIET + 3, 1] += 12.0
    stream = table(values)
    one = engine(bound=300, budget=0.5)
    first = feed(one, stream.slice(0, QUIET * 4 + 6), [], asset)
    saved = one.snapshot(0)
    again = engine(bound=300, budget=0.5)
    again.restore(0, saved)
    rest = feed(again, stream.slice(QUIET * 4 + 6, len(stream)), [], asset)
    same(feed(one, stream.slice(QUIET * 4 + 6, len(stream)), [], asset), rest)
    assert after(first, QUIET) == []
    assert after(rest, QUIET)[0].channels[0].series_id == "pump/1"


def test_an_empty_call_is_fine() -> None:
    result = engine().process(
        Readings([], *(np.empty(0, t) for t in (np.int64, float, np.int32, np.int64)), group=[])
    )
    assert len(result.scores) == 0
    assert result.groups is None
