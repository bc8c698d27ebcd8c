"""What a connector says about jobs: what is done when, beside the stream."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from titans_stream.durations import DAY, SECOND, Duration, format_duration
from titans_stream.times import ZoneName

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As crontab(5) numbers them, Sunday twice: 0 and 7."""
_NUMBERED = re.compile(r"(?P<first>\*|[0-7])(?:-(?P<last>[0-7]))?(?:/(?P<step>[1-9][0-9]?))?")
_NAMED = re.compile("|".join(_WEEKDAYS[:7]))


def named_weekdays(line: str) -> str:
    """A crontab line whose days of the week are names: APScheduler's numbers begin with Monday."""
    fields = line.split()
    if len(fields) == 5 and fields[4] != "*":
        fields[4] = ",".join(_names(part) for part in fields[4].split(","))
    return " ".join(fields)


def crontab_lines(line: str) -> list[str]:
    """Lines for APScheduler, which takes all fields together: as crontab(5) has it, a day of the
    month and one of the week, where both are given, are due each."""
    minute, hour, day, month, weekday = named_weekdays(line).split()
    if day.startswith("*") or line.split()[4].startswith("*"):
        return [f"{minute} {hour} {day} {month} {weekday}"]
    return [f"{minute} {hour} {day} {month} *", f"{minute} {hour} * {month} {weekday}"]


def _names(part: str) -> str:
    """`1-5`, or `mon-fri`, as `mon,tue,wed,thu,fri`; what is neither stays as it is."""
    text = part.lower()
    if not text.startswith("sun"):
        text = re.sub(r"-sun\b", "-7", text)
    found = _NUMBERED.fullmatch(_NAMED.sub(lambda name: str(_WEEKDAYS.index(name[0])), text))
    if found is None or (found["first"] == "*" and found["last"]):
        return part
    step = int(found["step"] or 1)
    if found["first"] == "*":
        days = range(0, 7, step)
    else:
        first = int(found["first"])
        last = int(found["last"] or (6 if found["step"] else first))
        days = range(first, last + 1, step)
    return ",".join(dict.fromkeys(_WEEKDAYS[day] for day in days)) or part


def _cron(value: str) -> str:
    from apscheduler.triggers.cron import CronTrigger  # only where a job has one

    try:
        CronTrigger.from_crontab(named_weekdays(value))
    except ValueError as error:
        raise ValueError(f"{value!r} is no crontab line of five fields: {error}") from error
    return value


POLL_JOB = "registry-poll"
"""The worker's own look at the registry, every `swap.poll`."""


class JobConfig(BaseModel):
    """One job and when it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["retrain", "drift", "snapshot", "poll"] = Field(
        description="retrain: train on recent history, register a challenger, compare; drift: "
        "report how well alerts and bands hold; snapshot: the worker saves the state of all its "
        "partitions; poll: the worker looks at the registry, beside swap.poll"
    )
    cron: Annotated[str, AfterValidator(_cron)] | None = Field(
        default=None, description="minute, hour, day, month, day of the week (0 and 7: Sunday)"
    )
    interval: Duration | None = Field(default=None, ge=SECOND, description="time between two runs")
    timezone: ZoneName | None = Field(
        default=None, description="IANA name, of cron; default input.timezone"
    )
    misfire_grace: Duration = Field(
        default=3_600 * SECOND, ge=SECOND, description="a run that is later than this is missed"
    )
    timeout: Duration = Field(
        default=12 * 3_600 * SECOND, ge=SECOND, description="a run that takes longer is ended"
    )
    since: Duration | None = Field(
        default=None, gt=0, description="history that is read; retrain 30d, drift 1d"
    )
    recipe: str | None = Field(default=None, min_length=1, description="retrain: the recipe's file")
    register_as: str | None = Field(
        default=None, alias="register", description="retrain: the model that gets the version"
    )
    promote: bool = Field(
        default=False, description="retrain: make it champion where the gates of promotion hold"
    )

    @model_validator(mode="after")
    def _whole(self) -> JobConfig:
        if (self.cron is None) == (self.interval is None):
            raise ValueError("exactly one of cron and interval is needed")
        if self.kind == "retrain" and (self.recipe is None or self.register_as is None):
            raise ValueError("recipe and register: retrain needs both")
        if self.kind != "retrain" and (self.recipe or self.register_as or self.promote):
            raise ValueError("recipe, register and promote belong to retrain")
        if self.in_worker and self.since is not None:
            raise ValueError(f"since: a {self.kind} reads no history")
        return self

    @property
    def in_worker(self) -> bool:
        """Whether the worker itself does it, not `titans-stream jobs`."""
        return self.kind in ("snapshot", "poll")

    @property
    def history(self) -> int:
        """The history that is read, in nanoseconds."""
        return self.since or (30 * DAY if self.kind == "retrain" else DAY)


def poll_job(interval: int) -> JobConfig:
    """The look at the registry as a job, every `interval` nanoseconds."""
    return JobConfig.model_validate({"kind": "poll", "interval": format_duration(interval)})
