"""What a service would make of the order of the series that an evaluation measures on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from titans_stream.engine.order_check import OrderCheck
from titans_stream.engine.settings import EngineConfig
from titans_stream.evaluation.forecasting_data import ForecastSet
from titans_stream.evaluation.protocol import Detection, Detector, LabelledSeries
from titans_stream.files.account import FileAccount
from titans_stream.records import Status

REMEDY = (
    "have the time of another row or an earlier one than the row before: a service would drop them "
    "(here every row counts, in the order of the file)"
)


@dataclass
class Accounted:
    """A detector that takes down what it is given; start-shifted copies do not count."""

    detector: Detector
    accounts: list[FileAccount] = field(default_factory=list)

    def __call__(self, series: Sequence[LabelledSeries]) -> list[Detection]:
        """As the detector itself."""
        self.accounts += [account_of(one) for one in series if one.start == 0]
        return self.detector(series)


def account_of(series: LabelledSeries) -> FileAccount:
    """Counts over all channels of a series."""
    values = series.values.reshape(len(series), -1)
    account = FileAccount(series.name, values.size, int(np.isnan(values).sum()))
    times = series.timestamp
    if times is None or not (np.diff(times) <= 0).any():
        return account
    for channel in values.T:
        order = OrderCheck(EngineConfig())
        found = [order.take("", *one) for one in zip(times.tolist(), channel.tolist(), strict=True)]
        status = np.concatenate([*found, order.flush()])
        account.late += int((status == Status.LATE).sum())
        account.duplicate += int((status == Status.DUPLICATE).sum())
    return account


def account_of_set(data: ForecastSet) -> FileAccount:
    """Counts over all series of a set, whose times are known to increase."""
    return FileAccount(data.name, data.values.size, int(np.isnan(data.values).sum()))


def summary(accounts: Sequence[FileAccount]) -> str:
    """All of them in one line."""
    names = ("values", "missing", "late", "duplicate", "short")
    sums = {name: sum(getattr(one, name) for one in accounts) for name in names}
    return str(FileAccount(f"{len(accounts):,} series", **sums))
