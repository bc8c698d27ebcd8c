"""Exactly once under faults, on a cluster of three; and a checker that can fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.cluster import Cluster, can_run
from tests.chaos.drill import Drill, Plan
from tests.chaos.faults import damage_snapshots, full_disk, kill_two, kill_worker
from tests.chaos.outputs import Output, compare


def of(*texts: str) -> dict[Output, Counter[str]]:
    return {("score", text[0], int(text[1])): Counter(text[2:].split("|")) for text in texts}


def test_the_checker_finds_what_is_missing_doubled_and_different() -> None:
    wanted = of("a1x", "a2x", "b1x", "b2x|y")
    assert compare(wanted, wanted).counts == {
        "outputs": 5,
        "missing": 0,
        "doubled": 0,
        "different": 0,
    }
    found = of("a1x|x", "b1z", "b2x|y|y|q", "c1x")
    difference = compare(wanted, found)
    assert difference.missing == [("score", "a", 2)]
    assert difference.different == [("score", "b", 1)]
    assert difference.doubled == [
        ("score", "a", 1), ("score", "b", 2), ("score", "b", 2), ("score", "c", 1)
    ]  # fmt: skip
    assert difference.total == 5


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if not can_run():
        pytest.skip("needs Java 17 and Maven")
    made = Cluster(tmp_path / "kafka")
    yield made
    made.stop()


@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_a_short_drill_leaves_no_trace(kafka_bootstrap: str, tmp_path: Path) -> None:
    """Two workers on the Kafka of the tests; the long drill has more, and brokers that die."""
    plan = Plan(
        seed=6, series=12, readings=320, partitions=4, workers=2, faults=4, pause=(2.0, 4.0),
        step_seconds=0.15, kinds=(full_disk, damage_snapshots), changes=({},),
        forecasts=False,
    )  # fmt: skip
    report = Drill(plan, kafka_bootstrap, tmp_path / "run", None).run().summary()
    print(report)
    assert report["count"] == 4
    assert report["outputs"] > plan.series * plan.readings
    assert (report["missing"], report["doubled"], report["different"]) == (0, 0, 0), report
    assert report["ended"] == {}


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_forty_faults_leave_no_trace(cluster: Cluster, tmp_path: Path) -> None:
    plan = Plan(seed=16, faults=42)
    report = Drill(plan, cluster.bootstrap, tmp_path / "run", cluster).run().summary()
    print(report)
    assert report["count"] == 42
    assert report["outputs"] > plan.series * plan.readings
    assert (report["missing"], report["doubled"], report["different"]) == (0, 0, 0), report
    assert report["ended"] == {}


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_without_transactions_the_drill_finds_doubles(cluster: Cluster, tmp_path: Path) -> None:
    plan = Plan(
        seed=2, series=24, readings=90, faults=6, mode="at_least_once", forecasts=False,
        kinds=(kill_worker, kill_two, damage_snapshots), changes=({},),
    )  # fmt: skip
    report = Drill(plan, cluster.bootstrap, tmp_path / "run", cluster).run().summary()
    assert report["doubled"] > 0, report
    assert report["missing"] == 0, report
