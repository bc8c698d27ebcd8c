"""Where young series live without a slot: as their readings (young.py), replayed on entry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from titans_stream.engine.blank import bounded
from titans_stream.engine.columns import Columns
from titans_stream.engine.compute import Compute
from titans_stream.engine.forecasts import SeriesForecasts
from titans_stream.engine.rows import Slots
from titans_stream.engine.young import Young
from titans_stream.records import Float64, Int64, Status

YOUNG_RESIDENT = 4_096
"""Young series in slots at most; the others have their readings kept."""


class YoungHome:
    """Implements `rows.Home` for young series. `seconds` gives local time.

    `as_judged` turns it into that by which readings are judged; `forecasts` None: there are no
    forecasts of many steps.
    """

    def __init__(
        self,
        slots: Slots,
        young: Young,
        compute: Compute,
        forecasts: SeriesForecasts | None,
        seconds: Callable[[Int64], Float64],
        as_judged: Callable[[Float64], Float64],
    ) -> None:
        self.slots = slots
        self.young = young
        self.forecasts = forecasts
        self._compute = compute
        self._seconds = seconds
        self._as_judged = as_judged

    def vacate(self) -> None:
        """Leave no more than YOUNG_RESIDENT young series in slots: those with most readings."""
        if len(self.young) <= YOUNG_RESIDENT:
            return
        uids, slots, touched = self.slots.residents()
        young = np.flatnonzero(self.young.has(uids))
        if len(young) > YOUNG_RESIDENT:
            order = np.lexsort((touched[young], self.young.counts(uids[young])))
            self.slots.vacate(slots[young[order[: len(young) - YOUNG_RESIDENT * 3 // 4]]])

    def leave(self, uids: Int64, slots: Int64) -> npt.NDArray[np.bool_]:
        """As `Home.leave`, of young series."""
        young = self.young.has(uids)
        self.young.carry_in(uids[young], slots[young], self.slots.store)
        return young

    def enter(self, uids: Int64, slots: Int64) -> None:
        """As `Home.enter`, of young series: their readings are replayed."""
        young = self.young.has(uids)
        uids, slots = uids[young], slots[young]
        if len(uids) == 0:
            return
        self.young.carry_out(uids, slots, self.slots.store)
        kept = self.young.kept(uids)
        if len(kept.row) == 0:
            return
        missing, seconds = np.isnan(kept.value), self._seconds(kept.time)
        if self.forecasts is not None:
            n = len(kept.row)
            status = np.where(missing, Status.MISSING, Status.SCORED).astype(np.int8)
            columns = Columns(
                uids[kept.row], kept.time, kept.value, np.zeros(n, np.int32), np.zeros(n, np.int64),
                np.zeros(n, np.int8), np.full(n, -1),
            )  # fmt: skip
            self.forecasts.run(columns, slots[kept.row], status, kept.pace, kept.rank, seconds)
        at, values = slots[kept.row[~missing]], bounded(kept.value[~missing])
        judged = self._as_judged(seconds[~missing])
        self._compute.replay(at, kept.time[~missing], judged, values, kept.pace[~missing])

    def bring_home(self, uids: Int64) -> None:
        """Bring the rows of young series up to date, whether they are in slots or not."""
        slots = self.slots.slots_of(uids)
        here = slots >= 0
        self.young.carry_in(uids[here], slots[here], self.slots.store)
