"""Special days: holidays of a country and named days, which are taken for Sundays."""

from __future__ import annotations

import difflib
from datetime import date
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

FIRST_YEAR, LAST_YEAR = 1970, 2100
"""Years whose holidays are known."""
SUNDAY = 3
"""Of the days counted from 1970-01-01, a Thursday, modulo seven."""
_DAY_SECONDS = 86_400.0
_EPOCH = date(1970, 1, 1)


def _known_country(code: str) -> str:
    import holidays

    known = holidays.list_supported_countries(include_aliases=True)
    if code in known:
        return code
    near = difflib.get_close_matches(code.upper(), known, 1, 0.6) if len(code) <= 3 else []
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"{code!r} is no country whose holidays are known (ISO 3166: AT, US){hint}")


class CalendarConfig(BaseModel):
    """Which days are special: they are taken for Sundays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    country: Annotated[str, AfterValidator(_known_country)] | None = Field(
        default=None, description="code of ISO 3166, such as AT: its public holidays"
    )
    subdivision: str | None = Field(
        default=None, description="of the country, such as VIC of AU: its holidays, too"
    )
    days: dict[str, tuple[date, ...]] = Field(
        default={}, description="further special dates, by a name of your own"
    )

    @model_validator(mode="after")
    def _consistent(self) -> CalendarConfig:
        if self.country is None and not self.days:
            raise ValueError("country or days is needed")
        for name, dates in self.days.items():
            if not dates:
                raise ValueError(f"days.{name}: no dates")
            for day in dates:
                if not FIRST_YEAR <= day.year <= LAST_YEAR:
                    raise ValueError(
                        f"days.{name}: {day} is not between {FIRST_YEAR} and {LAST_YEAR}"
                    )
        if self.subdivision is not None:
            if self.country is None:
                raise ValueError("subdivision: it needs a country")
            import holidays

            known = holidays.list_supported_countries(include_aliases=True)[self.country]
            if self.subdivision not in known:
                raise ValueError(
                    f"subdivision: {self.subdivision!r} is none of {self.country} "
                    f"({', '.join(known) or 'it has none'})"
                )
        return self

    def table(self) -> npt.NDArray[np.bool_]:
        """[days from 1970 on] whether a local day is special."""
        found = np.zeros((date(LAST_YEAR, 12, 31) - _EPOCH).days + 1, np.bool_)
        if self.country is not None:
            import holidays

            years = range(FIRST_YEAR, LAST_YEAR + 1)
            dates = holidays.country_holidays(self.country, subdiv=self.subdivision, years=years)
            found[[(day - _EPOCH).days for day in dates if FIRST_YEAR <= day.year <= LAST_YEAR]] = (
                True
            )
        for days in self.days.values():
            found[[(day - _EPOCH).days for day in days]] = True
        return found


NO_SPECIAL_DAYS: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)


def as_sundays(
    seconds: npt.NDArray[np.float64], table: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """[N] local seconds with special days moved to a Sunday, the time of day as it was."""
    if len(table) == 0:
        return seconds
    known = np.isfinite(seconds) & (seconds >= 0.0) & (seconds < _DAY_SECONDS * len(table))
    day = np.where(known, np.floor(np.where(known, seconds, 0.0) / _DAY_SECONDS), 0.0)
    special = known & table[day.astype(np.int64)]
    return np.where(special, seconds + _DAY_SECONDS * (SUNDAY - day % 7.0), seconds)
