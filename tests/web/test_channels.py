"""What a series' surprise is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.streams import MODEL as ENGINE_MODEL
from tests.web.samples import MINUTE, MODEL, START, alert, connector, scores, service
from tests.web.served import served
from titans_stream.detection.explain import CAUSES
from titans_stream.records import Channel, Status
from titans_stream.web.channels import NAMES, ChannelScores, channel_scores
from titans_stream.web.models import SurpriseChannels
from titans_stream.web.trial import Course, run_courses

N = 900


def course(name: str = "a", stuck: int = N) -> Course:
    """Noise around a wave, which stands still from `stuck` on."""
    values = 20 + np.sin(np.arange(N) / 40) + np.random.default_rng(5).normal(0, 0.3, N)
    values[stuck:] = values[stuck - 1]
    return Course(name, START + np.arange(N, dtype=np.int64) * MINUTE, values)


def test_the_channels_are_those_of_the_surprise_that_is_published(tmp_path: Path) -> None:
    one = connector(tmp_path)
    found = channel_scores(one, ENGINE_MODEL, course())
    plain = run_courses(one, ENGINE_MODEL, [course()]).scores
    kept = np.isin(plain.status, (Status.SCORED, Status.WARMING_UP))
    assert found.time.tolist() == plain.timestamp[kept].tolist()
    scored = plain.status[kept] == Status.SCORED
    assert scored.sum() > 600
    np.testing.assert_array_equal(found.surprise[scored], plain.surprise[kept][scored])
    assert found.channels.shape == (len(found.time), 12)
    assert np.isfinite(found.channels[scored]).all()


def test_a_value_that_stands_still_is_a_matter_of_the_channel_of_quiet(tmp_path: Path) -> None:
    found = channel_scores(connector(tmp_path), ENGINE_MODEL, course(stuck=860))
    noisy, still = found.channels[700:860], found.channels[895:]
    assert {NAMES[i] for i in still.argmax(axis=1)} == {"quiet"}
    assert CAUSES[NAMES.index("quiet")] == (
        "its changes from one reading to the next are unusually small"
    )
    assert "quiet" not in {NAMES[i] for i in noisy.argmax(axis=1) if noisy[:, i].max() > 3}


def test_thinning_keeps_the_highest_of_every_channel() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(1_000, 12))
    scores[:100] = np.nan
    whole = ChannelScores(np.arange(1_000, dtype=np.int64), rng.normal(size=1_000), scores)
    thin = whole.thinned(30)
    assert len(thin.time) == 30
    assert np.isnan(thin.channels[0]).all()
    np.testing.assert_array_equal(np.nanmax(thin.channels, axis=0), np.nanmax(scores, axis=0))
    assert whole.thinned(1_000) is whole
    part = whole.between(10, 20)
    assert part.time.tolist() == list(range(10, 21))
    np.testing.assert_array_equal(part.channels, scores[10:21])


def test_the_api_tells_them(tmp_path: Path) -> None:
    grouped = {"topic": "in", "series": "{site}/{machine}", "value": "v", "group": "{site}"}
    one = service(connector(tmp_path, input=grouped), ENGINE_MODEL)
    given = course()
    one.store.take_scores(scores(["a"] * N, range(N), given.value), MODEL)
    members = [Channel("a", 1.0, 1.0, 0.0, 0.0, 2.0)]
    one.store.take_alert(alert("g", "group", 3, channels=members))
    begin, end = given.time[700] / 1e9, given.time[720] / 1e9
    with served(one) as site:
        answer = site.get("/v1/channels", series="a", begin=begin, end=end)
        told = SurpriseChannels.model_validate(answer.json)
        assert told.time == (given.time[700:721] / 1e9).tolist()
        expected = channel_scores(one.store.connector, ENGINE_MODEL, given)
        assert told.scores == expected.channels[700:721].T.tolist()
        assert told.surprise == expected.surprise[700:721].tolist()
        assert (told.readings, [each.name for each in told.channels]) == (N, list(NAMES))
        whole = site.get("/v1/channels", series="a", most=100).json
        assert len(whole["time"]) == 100 and whole["scores"][0][0] is None
        assert site.get("/v1/channels", series="b").code == 404
        assert site.get("/v1/channels", series="group").code == 422
        for wrong in ("nan", "inf", "-1", "1e30", "x"):
            assert site.get("/v1/channels", series="a", begin=wrong).code == 422


@pytest.mark.parametrize("begin", [None, 0.0])
def test_without_times_all_is_told(tmp_path: Path, begin: float | None) -> None:
    one = service(connector(tmp_path), ENGINE_MODEL)
    one.store.take_scores(scores(["a"] * N, range(N), course().value), MODEL)
    assert len(one.trials.channels("a", begin, None, 10_000)["time"]) == N
