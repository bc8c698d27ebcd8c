"""A first event does not hide a second one, and what comes again and again becomes usual."""

from __future__ import annotations

import numpy as np

from titans_stream.calendar_features import calendar_features
from titans_stream.detection import layout as L
from titans_stream.detection.detector import Detector
from titans_stream.engine.model import untrained_weights


def peaks(first_rows: list[int], n: int = 5_000) -> tuple[list[float], np.ndarray]:
    """The highest S of events of 20 readings, and the last `core` of the series."""
    values = np.random.default_rng(0).standard_normal(n)
    for first in first_rows:
        values[first : first + 20] += 6.0
    arrays = {name: spec.rows(1) for name, spec in L.state_layout().items()}
    arrays["core"][:] = L.fresh_core()
    detector = Detector(untrained_weights(0))
    calendar = calendar_features(np.full(n, np.nan))
    s = detector.run(arrays, np.zeros(n, np.int64), values, calendar)[0]
    return [float(s[first : first + 30].max()) for first in first_rows], arrays["core"][0]


def test_a_second_event_is_nearly_as_strange_as_the_first() -> None:
    first, second = peaks([3_030, 3_430])[0]
    alone = peaks([3_430])[0][0]
    assert first > L.NOTABLE
    assert second > 0.7 * alone


def test_an_event_within_the_next_block_is_none_of_its_own() -> None:
    first, again = peaks([3_030, 3_130])[0]
    assert again < 0.75 * first


def test_what_keeps_coming_becomes_usual() -> None:
    found = peaks(list(range(3_030, 4_900, 100)))[0]
    assert max(found[6:]) < 0.5 * found[0]


def test_sums_are_those_of_the_counted_blocks() -> None:
    _, core = peaks([4_630], 5_000)
    bits = int(core["notable_bits"])
    assert bits & 0b1000 and not bits & 0b11
    counted = [age for age in range(49) if not (bits >> age) & 1]
    expected = sum(L.BLOCK_DECAY**age for age in counted)
    np.testing.assert_allclose(core["w_sum"], expected, rtol=1e-6)
