"""Which series belong to which group, from the connector's templates and from alerts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from titans_stream.stream.codec.series_template import SeriesTemplate
from titans_stream.stream.settings import InputConfig


class Membership:
    """The group of a series.

    Where the group's template names nothing that the series' id does not hold, the id tells it:
    each field of `{site}/{machine}/{value_name}` ends where the text behind it begins. Else the
    channels that alerts name are known as members.
    """

    def __init__(self, config: InputConfig) -> None:
        group = config.group_template
        self._pattern = None if group is None else _pattern(config.series_template)
        self._group = group
        self._told: dict[str, str] = {}
        self._heard: dict[str, dict[str, None]] = {}
        """Channels by group, as far as they were heard of."""

    @property
    def any(self) -> bool:
        """Whether there are groups at all."""
        return self._group is not None

    def tell(self, series_id: str, group_id: str) -> None:
        """An alert says of which group a series is a channel."""
        self._told[series_id] = group_id
        self._heard.setdefault(group_id, {})[series_id] = None

    def hear(self, names: Iterable[str]) -> bool:
        """Learn of groups from the ids of new series; whether any of them has one."""
        found = False
        for name in names if self._group is not None else ():
            group = self.group_of(name)
            if group is not None:
                self._heard.setdefault(group, {})[name] = None
                found = True
        return found

    def heard(self, group_id: str) -> list[str]:
        """The channels of a group that were heard of; empty for what is none, or not yet."""
        return list(self._heard.get(group_id, ()))

    def group_of(self, series_id: str) -> str | None:
        """The group of a series; None where it has none, or none that is known."""
        if self._group is None:
            return None
        told = self._told.get(series_id)
        return told if told is not None else self._by_template(series_id)

    def members(self, group_id: str, names: Iterable[str]) -> list[str]:
        """Which of `names` are channels of a group, by name."""
        if self._group is None:
            return []
        return sorted(name for name in names if self.group_of(name) == group_id)

    def judged(self, spans: Iterable[tuple[str, int]]) -> dict[str, int]:
        """The longest span of each series that is judged by itself, and of each group once."""
        longest: dict[str, int] = {}
        for name, span in spans:
            name = self.group_of(name) or name
            longest[name] = max(span, longest.get(name, 0))
        return longest

    def _by_template(self, series_id: str) -> str | None:
        assert self._group is not None
        match = None if self._pattern is None else self._pattern.fullmatch(series_id)
        if match is None:
            return None
        texts = match.groupdict()
        parts = []
        for kind, part in self._group.parts:
            text = part if kind == "text" else texts.get(_name(kind, part))
            if text is None:
                return None
            parts.append(text)
        return "".join(parts)


def _name(kind: str, part: object) -> str:
    return f"{kind}_" + "".join(f"{ord(letter):x}_" for letter in str(part))


def _pattern(template: SeriesTemplate) -> re.Pattern[str]:
    """An expression whose groups are the fields of an id; a field that comes twice is the same."""
    seen: set[str] = set()
    text = ""
    for i, (kind, part) in enumerate(template.parts):
        if kind == "text":
            text += re.escape(part)
            continue
        name = _name(kind, part)
        after = template.parts[i + 1 : i + 2]
        end = after[0][1][0] if after and after[0][0] == "text" else ""
        inner = f"[^{re.escape(end)}]+" if end else ".+"
        text += f"(?P={name})" if name in seen else f"(?P<{name}>{inner})"
        seen.add(name)
    return re.compile(text, re.DOTALL)
