"""What an engine will make of the order of readings, without scoring them."""

from __future__ import annotations

import numpy as np

from titans_stream.engine.columns import Columns, Row, columns_of
from titans_stream.engine.order import Arrivals, Judgements, judge
from titans_stream.engine.reorder import ReorderBuffer
from titans_stream.engine.rows import Rows
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.state import clock_state, clocks_of, fresh_series, order_settings
from titans_stream.records import Int8

_TOGETHER = 1_000


class OrderCheck:
    """The engine's reorder buffer and its judge of event time, for readings one by one."""

    def __init__(self, config: EngineConfig) -> None:
        self._order = ReorderBuffer(config.max_out_of_orderness, config.duplicates)
        self._settings = order_settings(config)
        specs, fresh = clock_state(), fresh_series()
        self._rows = Rows(specs, {name: fresh[name] for name in specs if name in fresh})
        self._uids: dict[str, int] = {}
        self._taken: list[Row] = []

    def take(self, series: str, time: int, value: float) -> Int8:
        """Take a reading; the statuses [N] of those that are decided by now, often none."""
        uid = self._uids.setdefault(series, len(self._uids))
        self._taken.append((uid, time, value, 0, 0, 0, -1))
        return self._judged() if len(self._taken) >= _TOGETHER else np.empty(0, np.int8)

    def flush(self) -> Int8:
        """The statuses of the rest."""
        return np.concatenate([self._judged(), self._statuses(self._order.flush())])

    def _judged(self) -> Int8:
        columns = columns_of(self._taken)
        self._taken.clear()
        return self._statuses(self._order.push(columns))

    def _statuses(self, columns: Columns) -> Int8:
        self._rows.reserve(len(self._uids))
        judged = Judgements.empty(len(columns))
        arrivals = Arrivals(columns.uid, columns.timestamp, columns.value, columns.duplicate)
        judge(arrivals, clocks_of(self._rows.arrays), self._settings, judged)
        return judged.status
