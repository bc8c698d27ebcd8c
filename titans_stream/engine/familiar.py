"""What operators said of episodes: patterns that are familiar to a series, and are not told again.

The *course* of an episode is how far its readings were from normal, as an envelope of at most CELLS
cells (when they are full, two become one), with what stood out and how rare it was at most. Of each
series the last COURSES are kept. A course that is marked as a false alarm, or as expected until
some time, becomes a *pattern* of that series. An episode that takes the course of a pattern is
opened and followed in silence; with the first reading that does not it is told, as if it opened
then.

No threshold moves: what is larger, lasts longer, is rarer or of another kind is told as ever.
A course that is marked while its episode is open goes on, but no farther from normal than so far;
what does is told, and begins a course of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_stream.detection import watch
from titans_stream.engine.course import NUMBERS, SHIFT, Course
from titans_stream.engine.store import Array
from titans_stream.records import Float64, Int64

COURSES = 4
PATTERNS = 16
"""Of a series; the oldest make room."""
LONGER = 1.5
"""An episode may last so many times as long, and be far from normal for so many times as long."""
FAR = 0.5
"""Of the pattern's largest deviation; and outside the band."""
SOONER = 12.0
"""Readings by which one of a kind may be noticed sooner than the pattern was, if that was not
larger than the band; by the square of band against size, as the delay of a test for a change."""
RARER = 1.0
"""Decades by which it may be rarer."""
SILENT = 1e300
"""`Episode.known_far` of an episode that is silent for its pattern."""


class Step(NamedTuple):
    """A reading of an episode."""

    time: int
    number: int
    """From 0."""
    deviation: float
    what: float
    rarity: float
    """Of the episode's peak."""
    calm: bool
    """Nothing about the reading itself is strange."""
    side: float = 0.0
    """Where the series was lately, in usual deviations from normal."""


@dataclass
class Pattern:
    """A course that is familiar. `order` is the id of the message that says so; `until`: it is
    expected up to then, however long; 0: a false alarm. `limits`, of one that was marked while it
    was open: the least and largest deviation of its readings from then on."""

    order: str
    course: Course
    until: int = 0
    limits: tuple[float, float] | None = None

    def has(self, step: Step, so_far: Course | None) -> bool:
        """Whether an episode's reading is as the pattern has it; `so_far`: those before it."""
        course = self.course
        if self.until and step.time >= self.until:
            return False
        if step.number == 0 and course.is_opposite(step.side):
            return False
        if _kind(step.what) != _kind(course.what):
            return False
        if so_far is course and self.limits is not None:
            low, high = self.limits
            return not low > step.deviation and not high < step.deviation
        if not self.until:
            calm = step.calm and abs(step.deviation) <= course.width
            if step.number >= LONGER * course.readings + SHIFT and not calm:
                return False
            if self._outlasts(step.deviation, so_far):
                return False
        rarer = not math.isnan(course.rarity) and step.rarity > course.rarity + RARER
        return not rarer and course.has(step.number, step.deviation)

    def _outlasts(self, deviation: float, so_far: Course | None) -> bool:
        """Whether an episode is far from normal, on one side, for longer than the pattern may."""
        course = self.course
        largest = course.largest()
        level = max(FAR * largest, course.width)
        before = (0, 0) if so_far is None else so_far.beyond(level)
        now = (deviation < -level, deviation > level)
        sooner = SOONER * min(1.0, course.width / largest) ** 2 if largest > 0.0 else SOONER
        return any(
            further and count + 1 > max(1.0, LONGER * usual + sooner)
            for further, count, usual in zip(now, before, course.beyond(level), strict=True)
        )


def _kind(what: float) -> float:
    """What stands out, of three kinds: time at one value, size of the changes, or values."""
    return what if what in (watch.DWELL, watch.NOISE) else float(watch.VALUE)


@dataclass
class Known:
    """What is kept of a series' episodes."""

    courses: list[Course] = field(default_factory=list)
    patterns: list[Pattern] = field(default_factory=list)
    open: Course | None = None
    """The one of the episode that is open."""

    def marked(self, course: Course) -> bool:
        """Whether a course is a pattern."""
        return any(pattern.course is course for pattern in self.patterns)


class Familiar:
    """What is known of the episodes of series, by uid; series without any have nothing."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}
        self._marked: set[int] = set()
        """Series that have patterns."""

    def marked(self, uids: Int64) -> Array:
        """Which of N series have patterns: their readings are looked at one by one."""
        if not self._marked:
            return np.zeros(len(uids), bool)
        return np.isin(uids, list(self._marked))

    def of(self, uid: int) -> Known:
        """What is known of a series, to be changed."""
        return self._known.setdefault(uid, Known())

    def changed(self, uid: int) -> None:
        """Patterns of a series came or went."""
        known = self._known.get(uid)
        if known is not None and known.patterns:
            self._marked.add(uid)
        else:
            self._marked.discard(uid)
        if known is not None and not known.patterns and not known.courses:
            del self._known[uid]

    def mark(self, uid: int, course: Course, order: str, until: int) -> None:
        """A course is a pattern from now on."""
        known = self.of(uid)
        limits = course.limits() if course is known.open else None
        known.patterns = [*known.patterns, Pattern(order, course, until, limits)][-PATTERNS:]
        self.changed(uid)

    def unmark(self, uid: int, order: str) -> None:
        """The patterns of a message go."""
        known = self._known.get(uid)
        if known is not None:
            known.patterns = [pattern for pattern in known.patterns if pattern.order != order]
            self.changed(uid)

    def forget(self, uids: Int64) -> None:
        """Forget series."""
        if self._known:
            for uid in uids.tolist():
                self._known.pop(uid, None)
                self._marked.discard(uid)

    def begin(self, uid: int, onset: int, what: float, rarity: float, side: float) -> Course:
        """An episode opens, and is told; `side` as in `Step`."""
        known = self.of(uid)
        known.open = Course(onset, onset, what, rarity, side)
        kept = [course for course in known.courses if not known.marked(course)]
        known.courses = [*kept[-COURSES + 1 :], known.open]
        return known.open

    def part(self, known: Known) -> None:
        """The open episode of a series is told after all: what comes is not of its pattern."""
        if known.open is not None and known.marked(known.open):
            told = known.open.copy()
            known.courses = [told if each is known.open else each for each in known.courses]
            known.open = told

    def find(self, uid: int) -> Known | None:
        """What is known of a series, if anything."""
        return self._known.get(uid)

    # --- state

    def export(self, uids: Int64) -> tuple[dict[str, Array], list[list[Any]]]:
        """Arrays, and JSON, of series; nothing where nothing is known of them.

        A row of the arrays is a course: its series by its place, whether it is open (1), and the
        numbers. The JSON has the patterns: row, id of the message, until, whether the row is one
        of the last courses, too, and limits.
        """
        place, flags, times, numbers = [], [], [], []
        patterns: list[list[Any]] = []
        for i, uid in enumerate(uids.tolist() if self._known else ()):
            known = self._known.get(uid)
            if known is None:
                continue
            rows: list[Course] = []
            for course in [*known.courses, *(pattern.course for pattern in known.patterns)]:
                if any(course is other for other in rows):
                    continue
                rows.append(course)
                place.append(i)
                flags.append(int(course is known.open))
                times.append([course.onset, course.last])
                numbers.append(course.numbers())
            first = len(place) - len(rows)
            for pattern in known.patterns:
                at = next(k for k, course in enumerate(rows) if course is pattern.course)
                kept = any(pattern.course is course for course in known.courses)
                limits = None if pattern.limits is None else [*pattern.limits]
                patterns.append([first + at, pattern.order, pattern.until, kept, limits])
        if not place:
            return {}, []
        return {
            "course_series": np.array(place, np.int64),
            "course_open": np.array(flags, np.int64),
            "course_times": np.array(times, np.int64),
            "course_numbers": np.array(numbers, np.float64),
        }, patterns

    def load(self, uids: Int64, arrays: Mapping[str, Array], patterns: list[list[Any]]) -> None:
        """Put what `export` gave in place. ValueError for what it did not give."""
        if "course_series" not in arrays:
            return
        place: Int64 = arrays["course_series"]
        numbers: Float64 = arrays["course_numbers"]
        if ((place < 0) | (place >= len(uids))).any():
            raise ValueError("state: array 'course_series' names what is not there")
        if numbers.shape != (len(place), NUMBERS):
            raise ValueError(f"state: array 'course_numbers' has shape {numbers.shape}")
        times, flags = arrays["course_times"].tolist(), arrays["course_open"].tolist()
        courses = [Course.of(*each) for each in zip(times, numbers.tolist(), strict=True)]
        of = [int(uids[i]) for i in place.tolist()]
        gone = {int(row) for row, _, _, kept, _ in patterns if not kept}
        for i, (uid, course) in enumerate(zip(of, courses, strict=True)):
            known = self.of(uid)
            if i not in gone:
                known.courses.append(course)
            if flags[i]:
                known.open = course
        for row, order, until, _, limits in patterns:
            known = self.of(of[int(row)])
            within = None if limits is None else (float(limits[0]), float(limits[1]))
            known.patterns.append(Pattern(str(order), courses[int(row)], int(until), within))
            self._marked.add(of[int(row)])


def some_courses(
    arrays: Mapping[str, Array], patterns: list[list[Any]], keep: npt.NDArray[np.bool_]
) -> tuple[dict[str, Array], list[list[Any]]]:
    """Of what `Familiar.export` gave, that of the series to `keep` [N]."""
    if "course_series" not in arrays:
        return {}, []
    of = arrays["course_series"]
    rows = keep[of]
    place, row = np.cumsum(keep) - 1, np.cumsum(rows) - 1
    some = {name: array[rows] for name, array in arrays.items() if name.startswith("course_")}
    some["course_series"] = place[of[rows]]
    return some, [[int(row[int(r)]), *rest] for r, *rest in patterns if rows[int(r)]]
