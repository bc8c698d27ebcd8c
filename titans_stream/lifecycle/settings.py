"""What a recipe says about training: the data, the optimisation and where it is recorded."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from titans_stream.durations import Duration
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


class CsvData(BaseModel):
    """Series read from CSV files, one per value column (or per name in the column `series`).

    Series are cut into pieces of `length` readings, each learned from an empty memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[str, ...] = Field(
        min_length=1, description="paths or globs, relative to the working directory"
    )
    timestamp: str | None = Field(default=None, description="column of times")
    values: tuple[str, ...] = Field(
        default=(), description="columns of values; none named: all that are numeric"
    )
    series: str | None = Field(default=None, description="column of series names (long format)")
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    length: int = Field(default=2_000, ge=64, description="readings per piece")
    timezone: ZoneName = Field(default="UTC", description="IANA name; for times without offset")


class DataConfig(BaseModel):
    """What is trained on: synthetic series, CSV files, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    synthetic: SyntheticData | None = Field(default=None)
    csv: CsvData | None = Field(default=None)
    validation_share: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="share kept for validation: of the synthetic series, and of each file's end",
    )

    @model_validator(mode="after")
    def _some(self) -> DataConfig:
        if self.synthetic is None and self.csv is None:
            raise ValueError("one of synthetic and csv is needed")
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
    selection: SelectionConfig = Field(
        default=SelectionConfig(), description="how a detector's weights are chosen"
    )


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
