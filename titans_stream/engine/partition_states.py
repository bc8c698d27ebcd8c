"""The states of partitions as snapshots: copied out at once or little by little, and put back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from titans_stream.engine.admission import Admission
from titans_stream.engine.capture import MOST_TOUCHED, SLICE_BYTES, Touched
from titans_stream.engine.capture import Capture as RowCapture
from titans_stream.engine.forecasts import forecast_state
from titans_stream.engine.groups import Groups
from titans_stream.engine.no_data import NoData
from titans_stream.engine.orders import Orders
from titans_stream.engine.reorder import ReorderBuffer
from titans_stream.engine.scoring import Scoring
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.snapshot import missing_rows, pack, unpack
from titans_stream.memory.rows import plain
from titans_stream.records import Capture, Int64, Snapshot


@dataclass(frozen=True, slots=True)
class PartitionStates:
    """What holds a part of the state of series and partitions; `schema` names all of it."""

    schema: str
    series: SeriesTable
    scoring: Scoring
    order: ReorderBuffer
    admission: Admission
    groups: Groups
    no_data: NoData
    orders: Orders
    touched: Touched

    def snapshot(self, partition: int) -> Snapshot:
        """Copy out the state of a partition, reorder buffers included.

        Nothing changes by it: when snapshots are taken must not decide what series remember.
        """
        names, uids = self.series.members(partition)
        head, rows = self._head(partition, names, uids), self._rows(uids)
        return Snapshot(self.schema, head.meta | rows.meta, rows.arrays | head.arrays)

    def capture(self, partition: int, since: int | None) -> Capture:
        """As `records.Engine.capture`.

        All series are in it where most of them were touched.
        """
        names, uids = self.series.members(partition)
        changed = uids if since is None else uids[self.touched.since(uids, since)]
        whole = since is None or len(changed) > MOST_TOUCHED * len(uids)
        head = self._head(partition, names, uids)
        return self.touched.begin(
            partition,
            RowCapture(
                head,
                uids if whole else changed,
                self._rows,
                rows=SLICE_BYTES // self.scoring.slots.row_bytes,
                whole=whole,
                mark=self.touched.mark(),
            ),
        )

    def _head(self, partition: int, names: list[str], uids: Int64) -> Snapshot:
        """The state of a partition but for the rows of its series."""
        arrivals, admission = self.admission.export(partition, uids)
        arrays = self.groups.export(partition, uids) | arrivals
        silences, clocks = self.no_data.export(partition, uids, self.groups.members(partition))
        arrays |= {name: plain(array) for name, array in silences.items()}
        meta = {
            "series": names,
            "groups": self.groups.names(partition),
            "clocks": clocks if any(clocks) else None,
            "admission": admission,
            "control": self.orders.export(partition) or None,
        }
        return pack(self.schema, meta, arrays)

    def _rows(self, uids: Int64) -> Snapshot:
        """The rows of series; a part of a snapshot."""
        names = self.series.names(uids)
        courses, patterns = self.scoring.familiar.export(uids)
        waiting = self.order.export(zip(names, uids.tolist(), strict=True), self.groups.name)
        meta = {"series": names, "waiting": waiting, "patterns": patterns or None}
        return pack(self.schema, meta, self.scoring.export(uids) | courses)

    def restore(self, partition: int, snapshot: Snapshot) -> None:
        """Put a partition's state in place; ValueError for another schema or a damaged state.

        Forecasts begin anew where the snapshot has none, or those of other weights.
        """
        names, groups = unpack(self.schema, snapshot)
        arrays, meta = dict(snapshot.arrays), snapshot.meta
        self.release(partition)
        self.orders.load(partition, meta.get("control", {}))
        uids = self.series.add_all(partition, names)
        self.scoring.slots.expect(len(names))
        try:
            self.groups.load(partition, groups, uids, arrays)
            self.admission.load(partition, uids, arrays, meta.get("admission", {}))
            tables = (uids, self.groups.members(partition))
            self.no_data.load(partition, tables, arrays, meta.get("clocks", []))
            parts = [snapshot] if snapshot.parts is None else snapshot.parts
            for part in missing_rows(snapshot.schema, names, parts):
                self._restore_rows(partition, part)
        except Exception:
            self.release(partition)
            raise

    def _restore_rows(self, partition: int, part: Snapshot) -> None:
        names, arrays = part.meta["series"], dict(part.arrays)
        if self.scoring.forecasts is not None and part.schema != self.schema:
            warm = len(names) - len(arrays.get("young", ()))
            arrays |= {n: plain(s.rows(warm)) for n, s in forecast_state().items()}
        uids = self.series.add_all(partition, names)
        self.scoring.load(uids, arrays)
        self.scoring.familiar.load(uids, arrays, part.meta.get("patterns", []))
        group, waiting = partial(self.groups.add, partition), part.meta.get("waiting", {})
        for name, uid in zip(names, uids.tolist(), strict=True):
            self.order.restore(uid, partition, waiting.get(name), group)

    def release(self, partition: int) -> None:
        """Forget a partition."""
        self.touched.end(partition)
        names, uids = self.series.members(partition)
        self.scoring.forget(uids)
        for uid in uids.tolist():
            self.order.forget(uid)
        self.series.remove(partition, names)
        self.groups.release(partition)
        self.no_data.release(partition)
        self.admission.release(partition)
        self.orders.release(partition)
