"""Compiles kernels ahead: the CPU's for this kind of CPU, and those of GPUs, which needs none.

    XDG_CACHE_HOME=DIR python -m titans_stream.engine.device.prebuilt [--capability 8.0 9.0 ...]
        [--forecasts]

fills DIR/titans-stream, which `$TITANS_STREAM_KERNELS` may then name (shipped_kernels.py). An
engine on an emulated device shows what a GPU's kernels are called with; numba-cuda compiles them
for each compute capability and CUDA's linker assembles them.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from titans_stream.detection.rules import AlertConfig
from titans_stream.durations import SECOND
from titans_stream.engine.build import compile_kernels
from titans_stream.engine.device.emulated import EmulatedDevice, Memory
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.kernel_cache import own_cache
from titans_stream.records import ModelRef, Readings
from titans_stream.shipped_kernels import seal

log = logging.getLogger(__name__)

COMMON = ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0")
"""Compute capabilities of the cards that are found in data centres and workstations now."""
SERIES, READINGS = 4, 80

Launch = tuple[Callable[..., None], tuple[Any, ...]]


class Recorder(EmulatedDevice):
    """Keeps the arguments of the first launch of each function, its arrays as those of a host."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, Launch] = {}

    def launch(self, thread: Callable[..., None], count: int, *arguments: Any) -> None:
        """As `Device.launch`."""
        self.seen.setdefault(thread.__name__, (thread, (count, *map(_host_array, arguments))))
        super().launch(thread, count, *arguments)


def _host_array(argument: Any) -> Any:
    if isinstance(argument, Memory):
        return argument.inside
    if isinstance(argument, tuple):
        return type(argument)(*map(_host_array, argument))
    return argument


def record(model: Model, forecasts: bool) -> dict[str, Launch]:
    """What a device's functions are called with, by name."""
    device = Recorder()
    ahead = ForecastConfig(steps=1, every=10) if forecasts else None
    # fewer slots than series: some leave them and come back, which moves rows and learns again
    config = EngineConfig(slots=SERIES // 2, device="cpu")
    engine = StreamEngine(config, AlertConfig(), model, forecast=ahead, device=device)
    for k in range(READINGS):
        for first in range(0, SERIES, SERIES // 2):
            names = [f"s{i}" for i in range(first, first + SERIES // 2)]
            n = len(names)
            stamps = np.full(n, k * 60 * SECOND, np.int64)
            value = np.sin(k + np.arange(n))
            engine.process(Readings(names, stamps, value, np.zeros(n, np.int32), np.arange(n)))
    engine.snapshot(0)
    return device.seen


def main() -> None:
    """Fill the cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--capability", nargs="*", default=[], help=f"such as {' '.join(COMMON)}")
    parser.add_argument("--forecasts", action="store_true", help="those of forecasts, too")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = make_model(ModelRef("untrained", "0"), untrained_weights(0))
    begun = time.perf_counter()
    for grouped in (False, True):
        compile_kernels(model, "cpu", grouped, args.forecasts)
    log.info("CPU: %.0f s", time.perf_counter() - begun)
    if args.capability:
        # numba-cuda takes half a second to import, and is not installed everywhere
        from titans_stream import jit_cuda
        from titans_stream.engine.device.cuda_kernels import ENTRIES

        launches = record(model, args.forecasts)
        for capability in args.capability:
            major, minor = map(int, capability.split("."))
            begun = time.perf_counter()
            with jit_cuda.capability_without_device((major, minor)):
                for name, (thread, arguments) in sorted(launches.items()):
                    size = jit_cuda.store(ENTRIES[thread], arguments, (major, minor))
                    log.info("GPU %s: %s, %d bytes", capability, name, size)
            log.info("GPU %s: %.0f s", capability, time.perf_counter() - begun)
    log.info("%s: %d files", own_cache(), seal(own_cache()))


if __name__ == "__main__":
    main()
