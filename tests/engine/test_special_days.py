"""Scores and alerts take a special day for a Sunday; on other days they are as without."""

from __future__ import annotations

import numpy as np

from tests.engine.streams import FLOATS, Stream, engine, run
from tests.forecasting.test_longer import HOUR, office
from titans_stream.engine.clock import LocalTime
from titans_stream.records import Int64
from titans_stream.times import parse_timestamp

VIENNA = "Europe/Vienna"
EPIPHANY = "2026-01-06"
"""A Tuesday."""


def test_a_holiday_is_judged_as_a_sunday() -> None:
    """An office that is closed that day: alone a calendar keeps that from being an alert."""
    begin = parse_timestamp("2025-11-02T23:00:00Z")
    times: Int64 = begin + HOUR * np.arange(24 * 65, dtype=np.int64)
    n, local = len(times), LocalTime(VIENNA).seconds(times)
    special = local // 86_400 == np.datetime64(EPIPHANY).astype(int)
    x = np.where(special, 20.0, office(local)) + np.random.default_rng(1).normal(0.0, 2.0, n)
    stream = Stream(["a"] * n, times, x, np.zeros(n, np.int32), np.arange(n))
    settings: dict[str, object] = {"timezone": VIENNA}
    plain = run(engine(settings=settings), stream, [])
    settings["calendar"] = {"days": {"closed": [EPIPHANY]}}
    known = run(engine(settings=settings), stream, [])
    before = np.flatnonzero(special)[0]
    for name in FLOATS:
        one, other = (getattr(made.scores, name)[:before] for made in (plain, known))
        np.testing.assert_array_equal(one, other)
    assert plain.scores.alert[special].any()
    assert not known.scores.alert[special].any()
