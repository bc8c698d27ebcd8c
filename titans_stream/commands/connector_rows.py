"""Rows of a CSV file as a connector's readings: for its messages, and without Kafka.

A field that the connector looks up in a message comes from the column of the same name, from a
constant (`--set site=vienna`), or from the name of the series, which is that of a value column
or stands in the column `--series`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from titans_stream.files.column_choice import TIME_NAMES, CsvColumns, time_parts, value_columns
from titans_stream.files.csv_file import CsvChunk, CsvFile
from titans_stream.files.csv_readings import ASSUMED_INTERVAL, CsvReadings
from titans_stream.records import Readings
from titans_stream.stream.codec.fields import UnusableError, format_path
from titans_stream.stream.codec.series_template import SeriesTemplate
from titans_stream.stream.publisher import Row, series_fields
from titans_stream.stream.settings import InputConfig
from titans_stream.times import load_zone

KEY = "key"
"""The name by which a series id takes the message's key."""
VALUE_NAME = "value_name"


@dataclass(frozen=True, slots=True)
class FileColumns:
    """What the user says about a file; `constants` are fields by name, `zone` of bare times."""

    timestamp: str | None = None
    values: tuple[str, ...] = ()
    series: str | None = None
    constants: Mapping[str, str] = field(default_factory=dict)
    zone: str | None = None

    @staticmethod
    def of(args: argparse.Namespace) -> FileColumns:
        """As the command line says."""
        constants = dict(args.set)
        return FileColumns(args.timestamp, tuple(args.value), args.series, constants, args.timezone)


def _names(template: SeriesTemplate | None) -> list[str]:
    """What the messages must hold for an id."""
    if template is None:
        return []
    fields = [format_path(path) for path in template.fields]
    return [*fields, KEY] if template.uses(KEY) else fields


class SeriesNames:
    """The ids that a connector gives to the readings of a row, as its decoder would."""

    def __init__(self, config: InputConfig) -> None:
        self._topic = config.topic
        self._series = config.series_template
        self._group = config.group_template
        self.of = cache(self._of)

    def _of(self, fields: tuple[tuple[str, str], ...], value_name: str) -> tuple[str, str | None]:
        """Series id and group id; `fields` as in `Row`. UnusableError where there is none."""
        texts = dict(fields)
        special = {**texts, "topic": self._topic, "partition": "0", VALUE_NAME: value_name}

        def render(template: SeriesTemplate) -> str:
            return template.render(
                lambda path: _text(texts, format_path(path)), special.__getitem__
            )

        return render(self._series), None if self._group is None else render(self._group)


def _text(texts: Mapping[str, str], name: str) -> str:
    return texts[name] if name in texts else texts["." + name]


class ConnectorRows:
    """The rows of `file` for `config`, in the file's order.

    ValueError names the column or option that is needed where the file does not fit.
    """

    def __init__(
        self, file: CsvFile, config: InputConfig, columns: FileColumns | None = None
    ) -> None:
        columns = columns or FileColumns()
        self._file = file
        self._config = config
        self._zone = load_zone(columns.zone or config.timezone)
        self._time = self._time_column(columns.timestamp)
        self._series = None if columns.series is None else file.column(columns.series)
        needed = _names(config.series_template)
        of_group = [name for name in _names(config.group_template) if name not in needed]
        self._constants = dict(columns.constants)
        for name in self._constants:
            if name not in (*needed, *of_group):
                raise ValueError(f"--set {name}: not a field of the series id {config.series!r}")
        self._direct = [n for n in needed if n not in self._constants and n in file.header]
        if self._series in self._direct:
            self._series = None  # the column is a field of the id as it is
        self._open = [n for n in needed if n not in self._constants and n not in self._direct]
        lacking = [n for n in of_group if n not in self._constants and n not in file.header]
        if lacking:
            raise ValueError(self._missing(lacking, "group"))
        self._direct += [n for n in of_group if n not in self._constants]
        self._from_whole_name = len(self._open) == len(needed) > 1
        self.left_out: list[tuple[str, str]] = []
        """Columns that nobody named and that hold no values, with the reason."""
        self._whole = {} if columns.values else self._whole_names()
        if not self._whole:
            self._values = self._value_columns(columns.values)
            self._check_names()

    @property
    def remarks(self) -> list[str]:
        """What a person may not have meant: a field of the id that one column's name is for."""
        if self._series is not None or self._whole:
            return []
        if len(self._open) != 1 or len(self._values) != 1:
            return []
        name, value = self._open[0], next(iter(self._values))
        return [
            f"the file has no column {name}: it is {value!r} everywhere, the name of the value "
            f"column; --set {name}=... says otherwise"
        ]

    @property
    def timed(self) -> bool:
        """Whether the file has times."""
        return self._time is not None

    @property
    def columns(self) -> CsvColumns:
        """The columns in use."""
        ids = [*self._direct, *([] if self._series is None else [self._series])]
        return CsvColumns(self._time, tuple(self._whole or self._values), ",".join(ids) or None)

    def _time_column(self, given: str | None) -> str | None:
        if given is not None:
            return self._file.time_column(given)
        wanted, header = self._config.timestamp.field, self._file.header
        if wanted in header:
            return wanted
        return next((name for name in header if name.lower() in TIME_NAMES), None)

    def _whole_names(self) -> dict[str, dict[str, str]]:
        """Columns that are called like the series of messages with several values.

        By name the fields of each, `value_name` among them; empty where they are called otherwise.
        """
        config, header = self._config, self._file.header
        given = self._series or self._constants or self._direct
        if given or not config.values or any(name in header for name in config.values):
            return {}
        columns = [name for name in self._file.numeric_columns() if name != self._time]
        whole = config.model_copy(update={"series": config.series_template.text})
        try:
            fields = {name: series_fields(whole, name) for name in columns}
        except ValueError:
            return {}
        known = all(one[VALUE_NAME] in config.values for one in fields.values())
        return fields if known else {}

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
        used = {*time_parts(self._file, self._time), self._series, *self._direct}
        found, left_out = value_columns(self._file, [name for name in used if name is not None])
        self.left_out = list(left_out.items())
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
        """What the messages hold. ValueError where the file has no times."""
        if self._time is None:
            raise ValueError(
                f"{self._file.path.name}: which column holds the times? name it with --timestamp"
            )
        for chunk in self._file.chunks():
            for _, row in self._rows(chunk):
                yield row

    def readings(self, group: str | None = None) -> Iterator[CsvReadings]:
        """The readings that the connector's decoder would make of the messages, in chunks.

        `group` is that of all of them, in place of the connector's. Without times those of a
        series are `ASSUMED_INTERVAL` apart.
        """
        names = SeriesNames(self._config)
        count: defaultdict[str, int] = defaultdict(int)
        first = 0
        for chunk in self._file.chunks():
            numbers, times, values = [], [], []
            series: list[str] = []
            groups: list[str | None] = []
            for i, row in self._rows(chunk):
                for value_name, value in row.values.items():
                    number = chunk.first_row + i
                    try:
                        one, of_group = names.of(tuple(row.fields.items()), value_name)
                    except UnusableError as error:
                        raise ValueError(
                            f"{self._file.path.name}: row {number}: {error.detail}"
                        ) from error
                    series.append(one)
                    groups.append(group or of_group)
                    numbers.append(number)
                    times.append(row.timestamp if self.timed else count[one] * ASSUMED_INTERVAL)
                    values.append(value)
                    count[one] += 1
            n = len(series)
            yield CsvReadings(
                Readings(
                    series,
                    np.array(times, np.int64),
                    np.array(values, np.float64),
                    np.zeros(n, np.int32),
                    np.arange(first, first + n),
                    [one for one in groups if one is not None] or None,
                ),
                np.array(numbers, np.int64),
            )
            first += n

    def _rows(self, chunk: CsvChunk) -> Iterator[tuple[int, Row]]:
        """One message for each row, or for each value where a message holds one.

        Each with its row's place in the chunk; the time is 0 where the file has none.
        """
        n = len(chunk)
        times = [0] * n
        if self._time is not None:
            times = chunk.times(self._time, self._zone).tolist()
        direct = {name: chunk.columns[name] for name in self._direct}
        ids = None if self._series is None else chunk.columns[self._series]
        parts = self._parts(chunk)
        for i, time in enumerate(times):
            fields = {name: cells[i] for name, cells in direct.items()} | self._constants
            for name, own, columns in parts:
                values = {value_name: cells[i] for value_name, cells in columns.items()}
                series = name if ids is None else ids[i]
                if ids is not None and len(parts) > 1:
                    series = f"{series}/{name}"
                yield i, Row(time, values, fields | (own or self._named(series)))

    def _parts(self, chunk: CsvChunk) -> list[tuple[str, dict[str, str], dict[str, list[float]]]]:
        """The messages of a row: name of the column, fields it gives, cells by value field."""
        if self._whole:
            parts: dict[tuple[tuple[str, str], ...], dict[str, list[float]]] = {}
            for column, fields in self._whole.items():
                own = tuple((k, text) for k, text in fields.items() if k != VALUE_NAME)
                parts.setdefault(own, {})[fields[VALUE_NAME]] = chunk.numbers(column).tolist()
            return [("", dict(own), cells) for own, cells in parts.items()]
        cells = {name: chunk.numbers(name).tolist() for name in self._values}
        if self._config.values:
            return [("", {}, {self._values[name]: cells[name] for name in cells})]
        return [(name, {}, {self._values[name]: cells[name]}) for name in cells]

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
