"""Which series are learned from, which are kept aside, and that their fingerprint knows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from titans_stream.lifecycle.data import load_data, stack
from titans_stream.recipe_settings import DataConfig
from titans_stream.synthetic import FAMILIES, HELD_OUT


def data(**synthetic: object) -> DataConfig:
    return DataConfig.model_validate({"synthetic": {"length": 128, **synthetic}})


def test_synthetic_series_are_split_by_series() -> None:
    loaded = load_data(data(series=65), seed=3)
    assert (len(loaded.training), len(loaded.validation), len(loaded.held_out)) == (52, 13, 13)
    assert {one.family for one in loaded.training} == set(FAMILIES)
    assert {one.family for one in loaded.validation} == set(FAMILIES)
    assert {one.family for one in loaded.held_out} == set(HELD_OUT)
    names = [one.name for one in (*loaded.training, *loaded.validation)]
    assert len(set(names)) == len(names)


def test_missing_readings_are_left_out() -> None:
    loaded = load_data(data(series=10, families=["gappy"], length=1_000), seed=0)
    lengths = [len(one.value) for one in loaded.training]
    assert min(lengths) < 1_000
    assert all(np.isfinite(one.value).all() for one in loaded.training)
    assert all((np.diff(one.timestamp) > 0).all() for one in loaded.training)
    values, calendar = stack(loaded.training)
    assert [int(np.isfinite(row).sum()) for row in values] == lengths
    assert calendar.shape == (8, max(lengths), 10)


def test_the_fingerprint_follows_the_data() -> None:
    first = load_data(data(series=26), seed=0)
    assert load_data(data(series=26), seed=0).fingerprint == first.fingerprint
    assert load_data(data(series=26), seed=1).fingerprint != first.fingerprint
    first.training[3].value[17] += 1e-9
    assert load_data(data(series=26), seed=0).fingerprint != first.fingerprint


def test_an_unknown_family() -> None:
    with pytest.raises(ValueError, match=r"data\.synthetic\.families: 'dayly' is none of daily"):
        load_data(data(families=["dayly"]), seed=0)


def csv_file(folder: Path) -> Path:
    lines = ["when,room,a,b,note"]
    for i in range(1_000):
        lines.append(f"{1_700_000_000 + 60 * i},r{i % 2},{i}.5,{'' if i % 10 == 3 else -i},x")
    path = folder / "rooms.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def from_csv(**csv: object) -> DataConfig:
    return DataConfig.model_validate({"csv": csv})


def test_csv_series_are_cut_and_split_by_time(tmp_path: Path) -> None:
    path = csv_file(tmp_path)
    config = from_csv(files=[str(path)], timestamp="when", series="room", length=150)
    loaded = load_data(config, seed=0)
    assert [one.name for one in loaded.training[:3]] == [
        "rooms.csv/r0/a[0:150]",
        "rooms.csv/r0/a[150:300]",
        "rooms.csv/r0/a[300:400]",
    ]
    first, last = loaded.training[0], loaded.validation[0]
    np.testing.assert_array_equal(first.value[:3], [0.5, 2.5, 4.5])
    np.testing.assert_array_equal(
        first.timestamp[:2], [1_700_000_000 * 10**9, 1_700_000_120 * 10**9]
    )
    assert last.name == "rooms.csv/r0/a[400:500]"
    assert last.timestamp[0] > loaded.training[2].timestamp[-1]
    assert not loaded.held_out
    gaps = [one for one in loaded.training if one.name.startswith("rooms.csv/r1/b")]
    assert [len(one.value) for one in gaps] == [150, 150]


def test_csv_times_are_local_in_the_zone_given(tmp_path: Path) -> None:
    path = csv_file(tmp_path)
    settings = {"files": [str(path)], "timestamp": "when", "values": ["a"]}
    utc = load_data(from_csv(**settings), 0).training[0].calendar[0, 9]
    tokyo = load_data(from_csv(**settings, timezone="Asia/Tokyo"), 0).training[0].calendar[0, 9]
    assert (tokyo - utc) % 1.0 == pytest.approx(9 / 24)
    untimed = load_data(from_csv(files=[str(path)], values=["a"]), 0)
    assert not untimed.training[0].calendar.any()


def test_csv_problems(tmp_path: Path) -> None:
    path = csv_file(tmp_path)
    for settings, message in (
        ({"files": [str(tmp_path / "no*.csv")]}, r"data\.csv\.files: nothing is called"),
        ({"files": [str(path)], "values": ["aa"]}, "rooms.csv: there is no column 'aa'"),
        ({"files": [str(path)], "values": ["note"]}, 'row 1, column note: "x" is not a number'),
    ):
        with pytest.raises(ValueError, match=message):
            load_data(from_csv(**settings), 0)
    short = tmp_path / "short.csv"
    short.write_text("a\n1\n2\n3\n")
    with pytest.raises(ValueError, match="data: no series of 64 readings is left for training"):
        load_data(from_csv(files=[str(short)]), 0)


def test_what_is_not_learned_from_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "d.csv"
    cells = [f"{i},5" if i % 10 else "Ausfall" for i in range(450)]
    lines = [f"{1 + i // 24:02d}.03.26 {i % 24}:00;{cell};x" for i, cell in enumerate(cells)]
    path.write_text("Zeit;Wert;Ort\n" + "\n".join(lines) + "\n")
    settings = {"timestamp": "Zeit", "time_format": "%d.%m.%y %H:%M", "na": ["Ausfall"]}
    loaded = load_data(from_csv(files=[str(path)], length=200, **settings), 0)
    assert loaded.training[0].value[:2].tolist() == [1.5, 2.5]
    assert [record.getMessage() for record in caplog.records] == [
        'd.csv: left out: Ort: "x" in row 1 is not a number',
        "d.csv: the comma is the decimal sign of Wert (--decimal tells)",
        'd.csv: taken as missing in Wert: 45 "Ausfall"',
        "d.csv/Wert: 45 of 450 values are missing",
    ]
    caplog.clear()
    load_data(from_csv(files=[str(path)], length=150, **settings), 0)
    assert caplog.records[-1].getMessage() == (
        "d.csv/Wert: 24 of 405 values are left out: what pieces of data.csv.length "
        "(150) leave over is shorter than 64"
    )


def test_repeated_readings_are_learned_from_once(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = [f"{1_700_000_000 + 60 * i},{i % 7}" for i in range(400)]
    again = [*rows[100:130], "1700000000,55", ",".join((rows[0].split(",")[0], ""))]
    path.write_text("t,v\n" + "\n".join(rows + again) + "\n")
    loaded = load_data(from_csv(files=[str(path)], timestamp="t", length=150), 0)
    account = loaded.accounts[0]
    assert (account.values, account.missing, account.duplicate) == (432, 1, 30)
    learned = sum(len(one.value) for one in (*loaded.training, *loaded.validation))
    assert learned + account.short + account.missing + account.duplicate == account.values
    assert loaded.training[0].value[:3].tolist() == [0.0, 55.0, 1.0]
