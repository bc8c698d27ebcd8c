"""What the fields of the published messages mean: the words of schemas and documentation."""

from __future__ import annotations

_COMMON = {
    "schema_version": "raised when a field changes its meaning or goes away",
    "model": "name and version of the model that was in use",
}

ALERT_FIELDS: dict[str, str] = {
    "alert_id": "the same in every message about an episode",
    "status": "opened, updated or resolved",
    "series_id": "the series or group, as rendered from the template; also the message's key",
    "severity": "warning or critical; it never falls within an episode",
    "reason": "surprise: unlike what the series has done; valid_range: outside the range of a "
    "rule; no_data: nothing came for too long",
    "onset": "time of the episode's first reading",
    "timestamp": "time of the reading that this message is about",
    "peak_timestamp": "time of the reading farthest from normal so far; of the strangest one where "
    "all lie inside the band",
    "value": "its value; of a group, that of the driving channel",
    "expected": "what the series would normally have shown then, in the value's units: it does not "
    "follow the event; null where the value lies inside the band and something else stands out",
    "lower": "lower end of the band of normal values; null with expected",
    "upper": "upper end of the band of normal values; null with expected",
    "band_level": "share of normal readings between lower and upper",
    "direction": "above or below what is normal, or pattern: an unusual course of usual values",
    "score": "how strange the strangest reading is, from 0 to below 1",
    "p_value": "share of the series' normal readings that are at least as surprising",
    "surprise": "the statistic that score and p_value come from",
    "rate_per_day": "how often an episode as strange as this is due per series (group) and day",
    "extrapolated": "true until the series has had 300 readings, or three episodes were due: "
    "rates come from what is usual for all series",
    "explanation": "a sentence for people",
    "duration_s": "seconds from the onset to this reading",
    "readings": "readings of the episode so far; of a group, timestamps",
    **_COMMON,
    "source": "topic, partition and offset of the input message",
    "channels": "of a group: its channels at the peak, the driving one first, at most ten; else []",
    "onset_value": "the value at the onset; of a group, that of the channel that drove it then",
    "latest_value": "the value at timestamp; of a group as onset_value",
    "limit": "the limit of the valid range that was left last; null: none",
    "what": "what stands out: value, implausible value (beyond twice all that was seen), step "
    "(from the last reading), level (for a while, against before), level at this time of day, "
    "rate (of a counter), dwell (time at one value), turn (where or how late it turned), noise "
    "(size of the changes) or pattern",
    "figures": "its numbers, by name: see below",
    "adjusted_by": "ids of the control messages in force for the series or group (docs/control.md)",
}

CHANNEL_FIELDS: dict[str, str] = {
    "series_id": "the channel's series",
    "share": "its part of the group's surprise, all channels together being 1",
    "value": "the channel's value",
    "expected": "what the channel would normally have shown, in the value's units",
    "lower": "lower end of the band of normal values",
    "upper": "upper end of the band of normal values",
}

SCORE_FRAME_FIELDS: dict[str, str] = {
    **_COMMON,
    "source": "topic and partition of the input, first and last offset of the rows",
    "series": "series id of each row",
    "timestamp": "time of each reading, RFC 3339, UTC",
    "offset": "offset of the input message of each row",
    "status": "scored, warming_up, duplicate, late or missing; numbers are null unless scored",
    "value": "value of each reading; null: missing",
    "score": "how strange the reading is, from 0 to below 1",
    "p_value": "share of the series' normal readings that are at least as surprising",
    "surprise": "the statistic that score and p_value come from",
    "rarity": "-log10 of how often, per 100 readings, an episode this strange is due",
    "expected": "what was expected, in the value's units",
    "lower": "lower end of the band of expected values",
    "upper": "upper end of the band of expected values",
    "alert": "1 while an episode is open, the group's where the series has one",
    "onset": "1 on the first reading of an episode; of a group, on the reading that shows it",
    "gap": "1 on the first reading after a gap in the series",
}

FORECAST_FIELDS: dict[str, str] = {
    "series_id": "the series; also the message's key",
    "origin": "time of the last reading that the forecast knows",
    "timestamps": "times that are forecast: steps of the series' own interval from the origin on",
    "median": "middle of the forecast at each time",
    "quantiles": "further quantiles by their level, e.g. 0.025, each a value per time",
    "period": "length of the cycle found in the series, in readings; null: none",
    "periods": "that cycle and a longer one beside it, such as a day and a week; empty: none",
    **_COMMON,
    "source": "topic, partition and offset of the message with the reading at the origin",
}

DEAD_LETTER_FIELDS: dict[str, str] = {
    "titans.reason": "why the message could not be used, as a code",
    "titans.detail": "the same in words, naming the field; the first five problems of a message",
    "titans.topic": "topic of the original message",
    "titans.partition": "its partition",
    "titans.offset": "its offset",
    "titans.truncated": "only where the value was cut: its original length in bytes",
}
