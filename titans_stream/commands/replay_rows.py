"""Turns rows of a CSV file into the readings of a connector's messages.

A field that the connector looks up in a message comes from the column of the same name, from a
constant (`--set site=vienna`), or from the name of the series, which is that of a value column
or stands in the column `--series`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from titans_stream.files.csv_file import CsvChunk, CsvFile
from titans_stream.files.csv_readings import TIME_NAMES
from titans_stream.stream.codec.fields import format_path
from titans_stream.stream.codec.series_template import SeriesTemplate
from titans_stream.stream.codec.timestamps import TimestampReader
from titans_stream.stream.publisher import Row, series_fields
from titans_stream.stream.settings import InputConfig
from titans_stream.times import load_zone

KEY = "key"
"""The name by which a series id takes the message's key."""


@dataclass(frozen=True, slots=True)
class ReplayColumns:
    """What the user says about a file, as for `score`; `constants` are fields by name."""

    timestamp: str | None = None
    values: tuple[str, ...] = ()
    series: str | None = None
    constants: Mapping[str, str] = field(default_factory=dict)


def _names(template: SeriesTemplate | None) -> list[str]:
    """What the messages must hold for an id."""
    if template is None:
        return []
    fields = [format_path(path) for path in template.fields]
    return [*fields, KEY] if template.uses(KEY) else fields


class ReplayRows:
    """Iterates over the rows of `file` for `config`. `zone`: of times without offset.

    ValueError names the column or option that is needed where the file does not fit.
    """

    def __init__(
        self, file: CsvFile, config: InputConfig, columns: ReplayColumns, zone: str | None = None
    ) -> None:
        self._file = file
        self._config = config
        self._read_time = TimestampReader("auto", load_zone(zone or config.timezone))
        self._time = self._time_column(columns.timestamp)
        self._series = None if columns.series is None else file.column(columns.series)
        needed = _names(config.series_template)
        of_group = [name for name in _names(config.group_template) if name not in needed]
        self._constants = dict(columns.constants)
        for name in self._constants:
            if name not in (*needed, *of_group):
                raise ValueError(f"--set {name}: not a field of the series id {config.series!r}")
        self._direct = [n for n in needed if n not in self._constants and n in file.header]
        self._open = [n for n in needed if n not in self._constants and n not in self._direct]
        lacking = [n for n in of_group if n not in self._constants and n not in file.header]
        if lacking:
            raise ValueError(self._missing(lacking, "group"))
        self._direct += [n for n in of_group if n not in self._constants]
        self._from_whole_name = len(self._open) == len(needed) > 1
        self._values = self._value_columns(columns.values)
        self._check_names()

    def _time_column(self, given: str | None) -> str:
        if given is not None:
            return self._file.column(given)
        wanted, header = self._config.timestamp.field, self._file.header
        if wanted in header:
            return str(wanted)
        found = next((name for name in header if name.lower() in TIME_NAMES), None)
        if found is None:
            raise ValueError(
                f"{self._file.path.name}: which column holds the times? name it with --timestamp"
            )
        return found

    def _value_columns(self, given: Sequence[str]) -> dict[str, str]:
        """The columns, and the value field that each one fills."""
        fields = self._config.value_names
        if self._config.values:
            names = given or fields
            if len(names) != len(fields):
                raise ValueError(f"--value: {len(fields)} are needed, for {', '.join(fields)}")
            return {self._file.column(name): f for name, f in zip(names, fields, strict=True)}
        if given:
            return {self._file.column(name): fields[0] for name in given}
        if fields[0] in self._file.header:
            return {fields[0]: fields[0]}
        used = {self._time, self._series, *self._direct}
        found = [name for name in self._file.numeric_columns() if name not in used]
        if not found:
            raise ValueError(
                f"{self._file.path.name}: no column holds numbers; name one with --value"
            )
        return dict.fromkeys(found, fields[0])

    def _check_names(self) -> None:
        """See that each reading can get a series id of its own."""
        several = len(self._values) > 1 and not self._config.values
        if not self._open and (several or self._series is not None):
            raise ValueError(
                f"input.series: {self._config.series!r} does not take the name of a column; "
                "give one --value and no --series"
            )
        if self._open and self._config.values and (self._series is None or len(self._open) > 1):
            raise ValueError(self._missing(self._open))
        if len(self._open) > 1 and not self._from_whole_name:
            raise ValueError(self._missing(self._open[:-1]))

    def _missing(self, names: Sequence[str], what: str = "series") -> str:
        options = " ".join(f"--set {name}=..." for name in names)
        template = self._config.series if what == "series" else self._config.group
        return (
            f"{self._file.path.name}: the {what} id {template!r} needs "
            f"{', '.join(names)}: a column of that name, or {options}"
        )

    def __iter__(self) -> Iterator[Row]:
        for chunk in self._file.chunks():
            yield from self._rows(chunk)

    def _rows(self, chunk: CsvChunk) -> Iterator[Row]:
        """One message for each row, or for each value where a message holds one."""
        times = chunk.times(self._time, self._read_time).tolist()
        columns = {name: chunk.numbers(name).tolist() for name in self._values}
        direct = {name: chunk.columns[name] for name in self._direct}
        ids = None if self._series is None else chunk.columns[self._series]
        for i, time in enumerate(times):
            fields = {name: cells[i] for name, cells in direct.items()} | self._constants
            if self._config.values:
                values = {self._values[name]: cells[i] for name, cells in columns.items()}
                yield Row(time, values, fields | self._named("" if ids is None else ids[i]))
                continue
            for name, cells in columns.items():
                series = name if ids is None else ids[i]
                if ids is not None and len(columns) > 1:
                    series = f"{series}/{name}"
                yield Row(time, {self._values[name]: cells[i]}, fields | self._named(series))

    def _named(self, series: str) -> dict[str, str]:
        """The open fields of the series id, from the series' name."""
        if not self._open:
            return {}
        if len(self._open) == 1:
            return {self._open[0]: series}
        try:
            return series_fields(self._config, series)
        except ValueError:
            raise ValueError(self._missing(self._open[:-1])) from None
