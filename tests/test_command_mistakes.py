"""What people get wrong on the command line: each is one line that names the option, at once."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from kafka.errors import TopicAuthorizationFailedError

from tests.test_cli import connector
from titans_stream import cli
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.publisher import Row, publish
from titans_stream.stream.settings import InputConfig
from titans_stream.times import format_timestamp


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "data.csv"
    path.write_text("ts,value\n" + "".join(f"2026-03-01T{h:02d}:00:00Z,{h}\n" for h in range(24)))
    return str(path)


@pytest.fixture
def not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titans_stream.web.server.serve", lambda *arguments: None)


@pytest.mark.parametrize("command", [["score"], ["forecast", "--horizon", "3"]])
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--out", "{folder}"], "--out {folder}: is a folder"),
        (["--out", "{folder}/o.csv", "--plot", "{folder}"], "--plot {folder}: is a folder"),
        (
            ["--out", "{folder}/o.csv", "--plot", "{folder}/no/p.png"],
            "--plot {folder}/no/p.png: there is no folder {folder}/no",
        ),
    ],
)
def test_a_place_that_cannot_be_written_is_named_before_the_work(
    command: list[str],
    options: list[str],
    line: str,
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [one.format(folder=tmp_path) for one in options]
    assert cli.main([command[0], data, *command[1:], "--timestamp", "ts", *given]) == 2
    assert f"titans-stream {command[0]}: {line.format(folder=tmp_path)}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    "command", [["models", "compare", "base", "base"], ["evaluate", "calibration"]]
)
def test_numbers_that_cannot_be_written_are_named_before_the_work(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no" / "numbers.json"
    assert cli.main([*command, "--json", str(path)]) == 2
    assert f"--json {path}: there is no folder {path.parent}" in capsys.readouterr().err


def test_a_budget_names_its_option(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["score", data, "--out", str(tmp_path / "o.csv"), "--budget", "-1"]) == 2
    assert "titans-stream score: --budget -1: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["alerts", "c.yaml", "--sevrity", "critical"],
            "titans-stream alerts: error: unrecognized arguments: --sevrity critical; did you mean "
            "--severity? (see titans-stream alerts --help)",
        ),
        (
            ["alerts", "c.yaml", "d.yaml"],
            "titans-stream alerts: error: unrecognized arguments: d.yaml (see titans-stream alerts "
            "--help)",
        ),
        (
            ["control", "c.yaml", "silence", "a", "--untill=2h"],
            "did you mean --until? (see titans-stream control CONNECTOR.yaml silence --help)",
        ),
        (
            ["models", "list", "--json", "x.json"],
            "titans-stream models list: error: unrecognized arguments: --json x.json (see",
        ),
        (
            ["models", "list", "--forse"],
            "titans-stream models list: error: unrecognized arguments: --forse (see",
        ),
    ],
)
def test_options_that_there_are_not(
    argv: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.usefixtures("not_served")
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "No such file or directory"),
        (b"", "it holds no token"),
        (b" \n", "it holds no token"),
        (b"\xff\xfe", "not text in UTF-8"),
    ],
)
def test_a_token_file_without_token_leaves_nothing_open(
    content: bytes | None, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    yaml = connector(tmp_path, "localhost:1")
    assert cli.main(["ui", str(yaml), "--port", "0", "--token-file", str(path)]) == 2
    assert f"titans-stream ui: --token-file {path}: {line}" in capsys.readouterr().err


@pytest.mark.parametrize("limits", [("nan", "5"), ("-", "nan")])
def test_what_is_no_number_is_no_limit(
    limits: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = connector(tmp_path, "localhost:1", ("output:", "control: orders\noutput:"))
    assert cli.main(["control", str(yaml), "rule", "a", "--valid-range", *limits]) == 2
    assert "rule: valid_range: numbers are needed, or null" in capsys.readouterr().err


def test_alerts_since_a_while_ago() -> None:
    from titans_stream.commands.alerts import _filter
    from titans_stream.records import Alert

    args = cli.build_parser().parse_args(["alerts", "c.yaml", "--since", "2h", "--until", "1h"])
    wanted = _filter(args)

    def alert(hours: float) -> Alert:
        at = format_timestamp(time.time_ns() - round(hours * 3.6e12))
        return SimpleNamespace(timestamp=at, severity="warning", status="opened")  # type: ignore[return-value]

    assert [wanted(alert(hours)) for hours in (2.1, 1.9, 1.1, 0.9)] == [False, True, True, False]


def test_a_backtest_says_nothing_of_the_file_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.csv"
    rows = "".join(f"2026-03-{d:02d}T{h:02d}:00:00Z,{h}\n" for d in range(1, 9) for h in range(24))
    path.write_text("ts,value\n" + rows)
    out = str(tmp_path / "o.csv")
    assert cli.main(["forecast", str(path), "--horizon", "3", "--backtest", "--out", out]) == 0
    told = capsys.readouterr().err
    assert told.count("note: rows are counted") == 1
    assert "backtest: " in told


def test_publishing_ends_with_the_first_message_that_is_refused() -> None:
    """Not at the end of the file, which may be hours later."""
    sent = []

    class Refusing:
        def send(self, *message: object) -> SimpleNamespace:
            sent.append(message)
            error = TopicAuthorizationFailedError({"in"})
            return SimpleNamespace(add_errback=lambda take: take(error))

        def flush(self, seconds: float) -> None: ...

        def close(self, *arguments: object) -> None: ...

    clients = SimpleNamespace(topics=lambda names: dict.fromkeys(names, 1), producer=Refusing)
    rows = (Row(i * 10**9, {"v": 1.0}, {"s": "a"}) for i in range(1_000))
    config = InputConfig(topic="in", series="{s}", value="v")
    with pytest.raises(ConnectError, match="no permission for topic in"):
        publish(clients, config, rows)  # type: ignore[arg-type]
    assert len(sent) == 1


def test_a_field_that_only_the_column_names_is_told(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where the connector's field is misspelt: every message would hold the same text."""
    yaml = connector(tmp_path, "localhost:1")
    out = str(tmp_path / "o.csv")
    assert cli.main(["score", data, "--connector", str(yaml), "--out", out]) == 0
    assert (
        "note: the file has no column sensor: it is 'value' everywhere, the name of the value "
        "column; --set sensor=... says otherwise"
    ) in capsys.readouterr().err
    cli.main(["score", data, "--connector", str(yaml), "--out", out, "--set", "sensor=a"])
    assert "no column sensor" not in capsys.readouterr().err
