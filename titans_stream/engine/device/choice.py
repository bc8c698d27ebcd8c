"""Which device an engine's settings come to on this machine, and why."""

from __future__ import annotations

from dataclasses import dataclass

from titans_stream.engine.device.api import Device, DeviceError
from titans_stream.engine.device.forecasts import CHECK_BYTES, CHECKS
from titans_stream.engine.forecasts import forecast_state
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.state import series_state

GAINS_FROM = 100_000
"""`auto` looks for a GPU for more slots than this: a core or two serve fewer series, and calls that
hold few series leave most of a GPU idle."""
CALLS = 1 << 30
"""Bytes of a device that are kept beside the state: columns of calls, pieces of rows that are
copied, and the local memory of all threads that a large card runs at once."""
FORECAST_STACK = 20 << 10
"""Bytes of local memory that a thread of `threads.learn` has; a device keeps them for as many
threads as it can run at once (tests/detection/test_ptx.py bounds them)."""
_GIB = float(1 << 30)


@dataclass(frozen=True, slots=True)
class Choice:
    """`device` None: the CPU. `why` is for people, `fits` the series that the device can hold."""

    device: Device | None
    why: str
    fits: int | None = None


def forecast_room(threads: int) -> int:
    """Bytes that forecasts take beside their state, on a device that runs so many threads."""
    return CHECKS * CHECK_BYTES + threads * FORECAST_STACK


def choose(config: EngineConfig, forecasts: bool = False) -> Choice:
    """The device for an engine, with `forecasts` of many steps or without.

    DeviceError (a ValueError of one line) where `cuda` cannot be.
    """
    if config.device == "cpu":
        return Choice(None, "engine.device: cpu")
    if config.device == "auto" and config.slots <= GAINS_FROM:
        return Choice(
            None, f"engine.device: auto takes the CPU for up to {GAINS_FROM:,} engine.slots"
        )
    try:
        return _cuda(config.slots, forecasts)
    except DeviceError as error:
        if config.device == "cuda":
            raise DeviceError(f"engine.device: cuda: {error}") from None
        return Choice(None, f"engine.device: auto takes the CPU: {error}")


def _cuda(slots: int, forecasts: bool) -> Choice:
    # numba-cuda takes half a second to import; only those who ask for a GPU wait for it
    from titans_stream.engine.device.cuda import open_cuda

    device = open_cuda()
    return Choice(device, *_room(device, slots, forecasts))


def _room(device: Device, slots: int, forecasts: bool = False) -> tuple[str, int]:
    """Words and the number of series that fit; DeviceError where they are fewer than `slots`."""
    specs, beside = series_state(), CALLS
    if forecasts:
        specs |= forecast_state()
        beside += forecast_room(device.threads)
    row = sum(spec.nbytes for spec in specs.values())
    free = device.free_bytes
    fits = max(0, (free - beside) // row)
    if fits < slots:
        raise DeviceError(
            f"{device.name}: engine.slots: {slots:,} series of {row:,} bytes are "
            f"{slots * row / _GIB:,.1f} GiB, but {free / _GIB:,.1f} GiB of its memory are free, "
            f"which is room for {fits:,}"
        )
    what = "series with forecasts" if forecasts else "series"
    return f"{device.name} has room for {fits:,} {what}, engine.slots: {slots:,}", fits
