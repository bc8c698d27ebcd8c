"""A year's two changes of clocks: what follows local time raises no alert on these days."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.streams import Stream, engine, run
from tests.forecasting.test_longer import HOUR, office
from titans_stream.durations import DAY
from titans_stream.engine.clock import LocalTime
from titans_stream.records import Int64
from titans_stream.times import parse_timestamp

pytestmark = pytest.mark.timeout(1_200)
VIENNA = "Europe/Vienna"


@pytest.mark.parametrize("change", ["2025-03-30T01:00:00Z", "2025-10-26T01:00:00Z"])
def test_a_change_of_clocks_raises_no_alert(change: str) -> None:
    """Office hours by Vienna's clocks: none in the week after the change, and a night with the
    office's load is one all the same."""
    moment = parse_timestamp(change)
    times: Int64 = moment + HOUR * np.arange(-24 * 70, 24 * 14, dtype=np.int64)
    n = len(times)
    x = office(LocalTime(VIENNA).seconds(times)) + np.random.default_rng(2).normal(0.0, 3.0, n)
    night = moment + 8 * DAY
    x[(times >= night) & (times < night + 6 * HOUR)] += 80.0
    stream = Stream(["a"] * n, times, x, np.zeros(n, np.int32), np.arange(n))
    made = run(engine(budget=0.1, settings={"timezone": VIENNA}), stream, [])
    opened = [parse_timestamp(alert.onset) for alert in made.alerts]
    assert not [at for at in opened if moment - DAY <= at < moment + 7 * DAY]
    assert [at for at in opened if night <= at < night + 6 * HOUR]
