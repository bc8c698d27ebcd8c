"""Which days are special, and what of a `calendar:` is refused."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from titans_stream.config import ConfigError, Connector, load_connector
from titans_stream.special_days import NO_SPECIAL_DAYS, CalendarConfig, as_sundays

DAY = 86_400.0
EXAMPLES = Path(__file__).parents[1] / "connectors"


def special(config: CalendarConfig, day: str) -> bool:
    return bool(config.table()[(date.fromisoformat(day) - date(1970, 1, 1)).days])


def test_holidays_of_a_country_and_of_its_parts() -> None:
    assert special(CalendarConfig(country="AT"), "2026-10-26")
    assert not special(CalendarConfig(country="AT"), "2026-10-27")
    assert not special(CalendarConfig(country="AU"), "2014-11-04")
    assert special(CalendarConfig(country="AU", subdivision="VIC"), "2014-11-04")


def test_named_days_are_special_beside_holidays() -> None:
    config = CalendarConfig.model_validate(
        {"country": "AT", "days": {"taking": ["2026-01-02"], "open": ["2026-12-08"]}}
    )
    found = [special(config, f"2026-{day}") for day in ("01-02", "12-08", "12-25", "12-28")]
    assert found == [True, True, True, False]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"country": "Austria"}, "'Austria' is no country whose holidays are known"),
        ({"country": "at"}, "did you mean AT"),
        ({"country": "AU", "subdivision": "WIEN"}, "'WIEN' is none of AU (ACT, "),
        ({"subdivision": "9", "days": {"a": ["2026-01-01"]}}, "subdivision: it needs a country"),
        ({}, "country or days is needed"),
        ({"days": {"a": []}}, "days.a: no dates"),
        ({"days": {"a": ["1969-12-31"]}}, "1969-12-31 is not between 1970 and 2100"),
        ({"days": {"a": ["2026-02-30"]}}, "valid date"),
        ({"land": "AT"}, "land"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        CalendarConfig.model_validate(given)
    assert said in str(error.value)


def connector(folder: Path, calendar: str) -> Path:
    """The example of forecasts with a calendar."""
    text = (EXAMPLES / "forecast.yaml").read_text()
    path = folder / "with-calendar.yaml"
    path.write_text(f"{text}\ncalendar: {calendar}\n")
    return path


def test_a_connector_gives_its_engine_the_calendar(tmp_path: Path) -> None:
    loaded = load_connector(connector(tmp_path, "{country: AT}"), {})
    assert loaded.engine.calendar == CalendarConfig(country="AT")
    again = Connector.model_validate(loaded.model_dump(exclude_none=True, mode="json"))
    assert again == loaded


def test_a_connector_with_an_unknown_country_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"calendar\.country: 'Wien' is no country"):
        load_connector(connector(tmp_path, "{country: Wien}"), {})


def test_special_days_become_sundays_with_their_time_of_day() -> None:
    table = np.zeros(40, np.bool_)
    table[12] = True
    seconds = np.array([11.5, 12.0, 12.25, 13.0, -1.0, 50.0, np.nan]) * DAY
    moved = as_sundays(seconds, table)
    np.testing.assert_array_equal(moved / DAY, [11.5, 10.0, 10.25, 13.0, -1.0, 50.0, np.nan])
    assert as_sundays(seconds, NO_SPECIAL_DAYS) is seconds


def test_holidays_are_loaded_only_where_they_are_asked_for() -> None:
    code = (
        "import sys, titans_stream.config, titans_stream.engine.engine;"
        "sys.exit('holidays' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
