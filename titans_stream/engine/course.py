"""The course of an episode: how far its readings were from normal, when, and for how long.

When: an envelope of at most CELLS cells; when they are full, two become one. For how long: how many
readings were how far off on each side, by steps of a third of an octave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

CELLS = 16
LARGER = 0.25
"""A reading may be farther from normal than the pattern by this part of its largest deviation,"""
OFF_NORMAL = 0.5
"""and this part of the half width of the band of normal values."""
SHIFT = 8.0
SHIFTED = 0.25
"""Readings, and part of the pattern's, by which an episode may run ahead or behind: the next one
of a kind seldom opens at the same point of its course."""
BOTH = 0.5
"""Of the largest deviation: what goes as far on either side has no sign."""
OFF = 0.5
"""Usual deviations from normal, as a mean of some readings, that are a sign."""
MORE = 1.25
AN_OCTAVE = 3
"""Steps of size in a doubling; readings within a step are not told apart."""
STEPS = 16
"""That are kept, from the largest down."""
_FIRST = 6
NUMBERS = _FIRST + 2 * CELLS + 1 + 2 * STEPS
_NOTHING = -(10**6)


def _step(size: float) -> int:
    """The step of a size."""
    return math.floor(AN_OCTAVE * math.log2(size)) if size > 0.0 else _NOTHING


@dataclass
class Heights:
    """Readings by how far off they were: place k is the step `top` - k."""

    top: int = _NOTHING
    below: list[int] = field(default_factory=lambda: [0] * STEPS)
    above: list[int] = field(default_factory=lambda: [0] * STEPS)

    def take(self, deviation: float) -> None:
        """Count a reading."""
        step = _step(abs(deviation))
        if step > self.top:
            more = min(step - self.top, STEPS)
            self.below = [0] * more + self.below[: STEPS - more]
            self.above = [0] * more + self.above[: STEPS - more]
            self.top = step
        k = self.top - step
        if k < STEPS and step != _NOTHING:
            side = self.below if deviation < 0.0 else self.above
            side[k] += 1

    def beyond(self, level: float) -> tuple[int, int]:
        """How many readings are below -level, and above level; those in its own step are."""
        kept = max(0, self.top - _step(level) + 1)
        return sum(self.below[:kept]), sum(self.above[:kept])

    def numbers(self) -> list[float]:
        """All of it."""
        return [float(each) for each in (self.top, *self.below, *self.above)]

    @staticmethod
    def from_numbers(numbers: list[float]) -> Heights:
        """What `numbers` gave."""
        top, *counts = (int(each) for each in numbers)
        return Heights(top, counts[:STEPS], counts[STEPS:])


@dataclass
class Course:
    """An episode's readings: `low` and `high` [cells] are deviations from normal, 0 included."""

    onset: int
    last: int
    """Nanoseconds."""
    what: float
    rarity: float
    """What stands out at the peak, and the rarity there; NaN before the second stage has one."""
    side: float = 0.0
    """How far from normal the series was lately as it opened, in usual deviations."""
    readings: int = 0
    stride: int = 1
    """Readings of a cell."""
    width: float = 0.0
    """Half width of the band, the widest."""
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    heights: Heights = field(default_factory=lambda: Heights())

    def take(self, time: int, deviation: float, width: float) -> None:
        """The next reading of the episode."""
        k = self.readings // self.stride
        if k == CELLS:
            self.low = [min(pair) for pair in zip(self.low[::2], self.low[1::2], strict=True)]
            self.high = [max(pair) for pair in zip(self.high[::2], self.high[1::2], strict=True)]
            self.stride *= 2
            k = self.readings // self.stride
        if k == len(self.low):
            self.low.append(0.0)
            self.high.append(0.0)
        if math.isfinite(deviation):
            self.low[k] = min(self.low[k], deviation)
            self.high[k] = max(self.high[k], deviation)
            self.heights.take(deviation)
        if math.isfinite(width):
            self.width = max(self.width, width)
        self.last = time
        self.readings += 1

    def largest(self) -> float:
        """The largest deviation on either side."""
        return max(self.largest_below(), self.largest_above())

    def room(self) -> float:
        """How much farther from normal a reading may be."""
        return LARGER * self.largest() + OFF_NORMAL * self.width

    def beyond(self, level: float) -> tuple[float, float]:
        """How many readings are below -level, and above level: to whole cells, as no two of a kind
        are alike, but no more than by a quarter, or by three."""
        below = above = 0
        for k, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            count = min(self.stride, self.readings - k * self.stride)
            below += count * (low < -level)
            above += count * (high > level)
        few, many = (max(MORE * count, count + 3.0) for count in self.heights.beyond(level))
        return min(below, few), min(above, many)

    def is_opposite(self, side: float) -> bool:
        """Whether an episode that opens where the series was off on that side is of another sign:
        what is seen on its way back alone is no farther from normal than the pattern's own way
        back. What swings to both sides has no sign."""
        both = min(self.largest_below(), self.largest_above()) > BOTH * self.largest()
        return not both and self.side * side < 0.0 and min(abs(self.side), abs(side)) > OFF

    def largest_below(self) -> float:
        """The largest deviation below normal."""
        return max(0.0, *(-low for low in self.low))

    def largest_above(self) -> float:
        """The largest deviation above normal."""
        return max(0.0, *self.high)

    def copy(self) -> Course:
        """One that goes its own way."""
        heights = Heights(self.heights.top, [*self.heights.below], [*self.heights.above])
        return replace(self, low=[*self.low], high=[*self.high], heights=heights)

    def limits(self) -> tuple[float, float]:
        """The least and largest deviation of a reading that is no farther from normal."""
        room = self.room()
        return min(self.low, default=0.0) - room, max(self.high, default=0.0) + room

    def has(self, number: int, deviation: float) -> bool:
        """Whether the `number`-th reading of an episode, from 0, may be so far from normal."""
        shift = SHIFT + SHIFTED * self.readings
        first = min(int(max(0.0, number - shift)) // self.stride, len(self.low) - 1)
        near = slice(first, int(number + shift) // self.stride + 1)
        room = self.room()
        return min(self.low[near]) - room <= deviation <= max(self.high[near]) + room

    def numbers(self) -> list[float]:
        """The course but for its times, in NUMBERS numbers."""
        rest = [0.0] * (CELLS - len(self.low))
        first = [self.what, self.rarity, self.side, self.width, self.readings, self.stride]
        return [*map(float, first), *self.low, *rest, *self.high, *rest, *self.heights.numbers()]

    @staticmethod
    def of(times: list[int], numbers: list[float]) -> Course:
        """What `numbers` gave."""
        what, rarity, side, width, readings, stride = numbers[:_FIRST]
        cells = math.ceil(readings / stride)
        low = numbers[_FIRST : _FIRST + cells]
        high = numbers[_FIRST + CELLS : _FIRST + CELLS + cells]
        heights = Heights.from_numbers(numbers[_FIRST + 2 * CELLS :])
        return Course(
            times[0], times[1], what, rarity, side, int(readings), int(stride), width, low, high,
            heights,
        )  # fmt: skip
