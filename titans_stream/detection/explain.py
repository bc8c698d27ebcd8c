"""Alert messages from the state of an episode, in words a person reads."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

from titans_stream.detection import layout, tail
from titans_stream.detection.episodes import (
    EXPIRED,
    OPENED,
    RESOLVED,
    UPDATED,
    Episode,
    EpisodeTimes,
)
from titans_stream.detection.normal import BAND_LEVEL
from titans_stream.detection.printed import plain
from titans_stream.detection.standing_out import Standing, standing_of
from titans_stream.records import Alert, Channel, ModelRef, Source
from titans_stream.times import format_timestamp

CAUSES = (
    "the level left what its recent past predicts",
    "it has been off what its past predicts for a while",
    "it has been off what its past predicts for long",
    "the level is unusual for this time of day",
    "the next value was not the predicted one",
    "this value is unfamiliar at this time of day",
    "this value is unfamiliar after such a past",
    "this value is unfamiliar at this time of day",
    "this value is unfamiliar after such a past",
    "the next values are not those that the last 32 predict",
    "this value is unfamiliar after the one before it",
    "its changes from one reading to the next are unusually small",
)
"""What a channel's score means, in the order of the channels."""

_OF_THE_NEXT = (4.0, 9.0)
"""What a step from the expected next value says already."""
NAMED_SHARE = 0.8
"""An explanation names channels until they make up this share, ..."""
COMMON = 0.01
"""Share of readings as strange, from which on the share says nothing."""
MOST_NAMED = 3
"""... but no more than this."""
_STATUS: dict[int, Literal["opened", "updated", "resolved"]] = {
    OPENED: "opened",
    UPDATED: "updated",
    RESOLVED: "resolved",
    EXPIRED: "resolved",
}


def alert_id(series_id: str, partition: int, onset: int, group: bool = False) -> str:
    """Names an episode; the same for each of its messages and in each replay."""
    text = f"{series_id}\0{partition}\0{onset}".encode("utf-8", "surrogatepass")
    mark = b"group" if group else b""
    return hashlib.blake2b(text, digest_size=10, person=mark).hexdigest()


def make_alert(
    event: int,
    state: Episode,
    times: EpisodeTimes,
    timestamp: int,
    series_id: str,
    model: ModelRef,
    source: Source,
    channels: Sequence[Channel] = (),
) -> Alert:
    """The message about an event; `state` and `times` as `episodes.run` wrote them.

    EXPIRED: the series starts anew with the reading at `timestamp`. `channels` are those of a
    group, the driving one first; `state` is then the group's.
    """
    violation = state.violation == 1.0
    per_day = _rate_per_day(state)
    standing = standing_of(state, bool(channels))
    return Alert(
        alert_id=alert_id(series_id, source.partition, int(times.onset), bool(channels)),
        status=_STATUS[event],
        series_id=series_id,
        severity="critical" if state.critical == 1.0 else "warning",
        reason="valid_range" if violation else "surprise",
        onset=format_timestamp(int(times.onset)),
        timestamp=format_timestamp(timestamp),
        peak_timestamp=format_timestamp(int(times.peak)),
        value=float(state.peak_value),
        expected=_finite(state.peak_expected) if standing.outside else None,
        lower=_finite(state.peak_lower) if standing.outside else None,
        upper=_finite(state.peak_upper) if standing.outside else None,
        band_level=BAND_LEVEL,
        direction=standing.direction,
        score=None if math.isnan(state.peak_s) else float(tail.score(state.peak_s)),
        p_value=_finite(state.peak_p),
        surprise=_finite(state.peak_s),
        rate_per_day=per_day,
        extrapolated=bool(state.extrapolated == 1.0),
        explanation=_explain(state, standing, per_day, series_id, channels) + _ended(event),
        duration_s=(timestamp - int(times.onset)) / 1e9,
        readings=int(state.readings),
        model=model,
        source=source,
        channels=list(channels),
        onset_value=_finite(state.onset_value),
        latest_value=_finite(state.latest_value),
        limit=_finite(state.limit) if violation else None,
        what=standing.what,
        figures=standing.figures,
    )


def _ended(event: int) -> str:
    return "; it was silent for too long and starts anew" if event == EXPIRED else ""


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _rate_per_day(state: Episode) -> float | None:
    c = state.peak_c
    return None if math.isnan(c) else float(10.0**-c * state.per_day / 100.0)


def _explain(
    state: Episode,
    standing: Standing,
    per_day: float | None,
    series_id: str,
    channels: Sequence[Channel],
) -> str:
    parts = []
    name = ""
    if channels:
        parts.append(f"driven by {_shares(series_id, channels)}")
        name = f"{_short(series_id, channels[0].series_id)}: "
    if state.violation == 1.0:
        parts.append(f"the value left its valid range: {_limit(state)}")
    parts.append(name + standing.words)
    # of a group these are values of the channels that drove it then
    if state.readings > 1.0 and not channels:
        parts += _course(state)
    if per_day is not None:
        if standing.needs_cause and not (standing.what == "step" and state.cause in _OF_THE_NEXT):
            parts.append(CAUSES[int(state.cause)])
        rare = _how_rare(per_day, state)
        if rare:
            parts.append(f"{rare} for this {'group' if channels else 'series'}")
        if state.extrapolated == 1.0:
            parts.append("extrapolated from a short history")
    return "; ".join(parts)


def _course(state: Episode) -> list[str]:
    """The values at the onset and now, where they are not the one that is quoted."""
    quoted = plain(state.peak_value)
    told = ((plain(state.onset_value), "at the onset"), (plain(state.latest_value), "now"))
    course = ", ".join(f"{value} {when}" for value, when in told if value != quoted)
    return [course] if course else []


def _limit(state: Episode) -> str:
    side = "above" if state.peak_value > state.limit else "below"
    return f"it is {side} {plain(state.limit)}"


def _two_digits(number: float) -> str:
    """A number below 1,000 with two digits that count: 1.8, 29, 890."""
    return f"{number:.2g}" if number < 99.5 else f"{round(number, -1):.0f}"


def _how_rare(per_day: float, state: Episode) -> str:
    """How rare an episode is, in words that fit the budget."""
    times = state.accepted / per_day if per_day > 0.0 else math.inf
    if times >= 0.4:
        if times < 1.5:
            return f"about as rare as you accept, {_how_often(per_day)}"
        many = _two_digits(times) if times < 1_000.0 else "more than 1000"
        return f"{many} times rarer than you accept, {_how_often(per_day)}"
    if not 0.0 < state.peak_p < COMMON:
        return ""
    return f"about one reading in {float(f'{1.0 / state.peak_p:.2g}'):,.0f} is this strange"


def _shares(group: str, channels: Sequence[Channel]) -> str:
    """The driving channel and those that make up NAMED_SHARE with it, at most MOST_NAMED."""
    named: list[str] = []
    total = 0.0
    for channel in channels[:MOST_NAMED]:
        if named and (total >= NAMED_SHARE or channel.share == 0.0):
            break
        named.append(f"{_short(group, channel.series_id)} {100 * channel.share:.0f} %")
        total += channel.share
    return ", ".join(named)


def _short(group: str, series_id: str) -> str:
    """A channel's name without the group's id before it."""
    rest = series_id.removeprefix(group)
    return rest.lstrip("/.:_- ") or series_id if rest != series_id else series_id


def _how_often(per_day: float) -> str:
    if per_day >= 1.5:
        return f"{plain(per_day, 2)} times a day"
    if per_day > 0.95:
        return "once a day"
    days = 1.0 / per_day if per_day > 0.0 else math.inf
    if days < 60:
        return f"once in {days:.2g} days"
    years = days / 365.25
    if years < 2:
        return f"once in {days / 30.44:.2g} months"
    return f"once in {years:.2g} years" if years < 100 else "once in more than 100 years"


assert len(CAUSES) == layout.CHANNELS
