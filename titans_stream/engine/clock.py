"""Local time of UTC timestamps, for the time of day."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from titans_stream.records import Float64, Int64

_HOUR = 3_600 * 1_000_000_000


class LocalTime:
    """Local seconds since the epoch in a zone; ValueError for an unknown zone."""

    def __init__(self, zone: str) -> None:
        try:
            self._zone = None if zone == "UTC" else ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"engine.timezone: {zone!r} is no IANA time zone") from error

    def seconds(self, timestamps: Int64) -> Float64:
        """[N] nanoseconds UTC -> [N] seconds of local time, offsets looked up by the hour."""
        seconds: Float64 = timestamps / 1e9
        if self._zone is None or len(timestamps) == 0:
            return seconds
        hours, inverse = np.unique(timestamps // _HOUR, return_inverse=True)
        offsets = np.array([self._offset(int(hour)) for hour in hours])
        local: Float64 = seconds + offsets[inverse]
        return local

    def _offset(self, hour: int) -> float:
        try:
            moment = datetime.fromtimestamp(hour * 3600.0, UTC)
        except (OverflowError, ValueError, OSError):
            return 0.0
        offset = moment.astimezone(self._zone).utcoffset()
        return 0.0 if offset is None else offset.total_seconds()
