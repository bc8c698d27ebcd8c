"""What a recipe says about training: the data, the optimisation and where it is recorded."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from titans_stream.durations import DAY, Duration
from titans_stream.times import ZoneName


class SyntheticData(BaseModel):
    """Series made by `titans_stream.synthetic`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    families: tuple[str, ...] = Field(
        default=(), description="families of synthetic series; none named: all of them"
    )
    series: int = Field(default=256, ge=1, description="how many series are made")
    length: int = Field(default=2_000, ge=64, description="readings per series")
    interval: Duration | None = Field(
        default=None, gt=0, description="time between readings; drawn for each series by default"
    )
    long_series: int = Field(
        default=130, ge=1, description="further series, from which forecasts of many steps learn"
    )
    long_length: int = Field(default=4_000, ge=64, description="readings per long series")
    long_intervals: tuple[Annotated[Duration, Field(gt=0)], ...] = Field(
        default=(DAY // 24,),
        min_length=1,
        description="times between readings; the long series have them by turns",
    )


class CsvData(BaseModel):
    """Series read from CSV files, one per value column (or per name in the column `series`).

    Series are cut into pieces of `length` readings, each learned from an empty memory; forecasts of
    many steps learn from whole series.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[str, ...] = Field(
        min_length=1, description="paths or globs, relative to the working directory"
    )
    timestamp: str | None = Field(default=None, description="column of times, or `date,time`")
    values: tuple[str, ...] = Field(
        default=(), description="columns of values; none named: all that are numeric"
    )
    series: str | None = Field(default=None, description="column of series names (long format)")
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="found out where not given"
    )
    header: bool | None = Field(default=None, description="false: the first line holds data")
    comment: str | None = Field(
        default=None, min_length=1, description="lines that begin so are left out"
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="decimal sign; found out where not given"
    )
    na: tuple[str, ...] = Field(default=(), description="cells that say so have no value")
    missing_values: tuple[float, ...] = Field(
        default=(), description="numbers that stand for no value, such as -999"
    )
    time_format: str | None = Field(
        default=None, description="as `--time-format` of the command score"
    )
    encoding: str | None = Field(default=None, description="such as cp1252; UTF-8 is known")
    length: int = Field(default=2_000, ge=64, description="readings per piece")
    first_readings: int | None = Field(
        default=None, ge=64, description="so many of each series are used; default: all"
    )
    timezone: ZoneName = Field(default="UTC", description="IANA name; for times without offset")


class TopicData(BaseModel):
    """Series read from the history of a connector's topics, as its worker would read them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connector: str = Field(
        min_length=1, description="file of the connector, relative to the working directory"
    )
    since: Duration = Field(
        default=30 * DAY, gt=0, description="how far back, by the Kafka timestamps of the messages"
    )
    length: int = Field(default=2_000, ge=64, description="readings per piece")
    most_messages: int = Field(
        default=5_000_000, ge=1, description="most messages in all; the oldest are left out"
    )


class DataConfig(BaseModel):
    """What is trained on: synthetic series, CSV files, a topic's history, or several of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    synthetic: SyntheticData | None = Field(default=None)
    csv: CsvData | None = Field(default=None)
    topic: TopicData | None = Field(default=None)
    validation_share: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="share kept for validation: of the synthetic series, and the end of each other",
    )

    @model_validator(mode="after")
    def _some(self) -> DataConfig:
        if self.synthetic is None and self.csv is None and self.topic is None:
            raise ValueError("one of synthetic, csv and topic is needed")
        return self


class SelectionConfig(BaseModel):
    """By which synthetic series with labelled anomalies a detector's weights are chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: int = Field(default=5, ge=1, le=1_000, description="untrained candidates, one per seed")
    series: int = Field(default=208, ge=1, description="labelled series")
    length: int = Field(default=3_000, ge=1_400, description="readings per labelled series")
    budget: float = Field(
        default=0.03,
        gt=0,
        le=10,
        description="false episodes per 100 readings at which events must be found",
    )
    calibration_series: int = Field(
        default=2,
        ge=0,
        description="series of each family on which the chosen model's false alarms are counted",
    )


class ResidualConfig(BaseModel):
    """How the MAL residual of forecasts of many steps is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=400, ge=1, le=100_000, description="optimiser steps")
    batch: int = Field(default=32, ge=1, description="series per optimiser step")
    learning_rate: float = Field(default=5e-3, gt=0, le=1)
    weight_decay: float = Field(default=0.05, ge=0, le=1)
    gradient_clip: float = Field(default=0.5, gt=0)
    report_every: int = Field(default=50, ge=1, description="steps between two measurements")


class TrainingConfig(BaseModel):
    """How the slow weights are fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=20, ge=1, le=100_000)
    batch: int = Field(default=64, ge=1, description="series per optimiser step")
    unroll: int = Field(
        default=256, ge=8, description="readings through which the gradient is followed"
    )
    learning_rate: float = Field(
        default=0.01, gt=0, le=1, description="the highest; it rises for a tenth, then falls"
    )
    weight_decay: float = Field(default=1e-3, ge=0, le=1)
    gradient_clip: float = Field(default=1.0, gt=0, description="greatest norm of the gradient")
    patience: int | None = Field(
        default=None, ge=1, description="stop after this many epochs without improvement"
    )
    heads: bool = Field(
        default=True,
        description="fit the heads of forecasts of many steps; off: the base model's",
    )
    residual: ResidualConfig | None = Field(
        default=None,
        description="train the MAL residual on top of the heads; none: the base model's",
    )
    selection: SelectionConfig = Field(
        default=SelectionConfig(), description="how a detector's weights are chosen"
    )

    @model_validator(mode="after")
    def _residual_on_heads(self) -> TrainingConfig:
        if self.residual is not None and not self.heads:
            raise ValueError("residual: it corrects the heads, so heads must be fitted too")
        return self


class TrackingConfig(BaseModel):
    """Where a run is recorded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str = Field(
        default="titans-stream", min_length=1, description="name of the MLflow experiment"
    )
    tracking_uri: str | None = Field(
        default=None, description="default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"
    )
    tags: dict[str, str] = Field(default_factory=dict, description="tags of the run")
