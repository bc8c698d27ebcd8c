"""The command line as a new user meets it: help, errors of one line, exit codes, signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition, codec
from kafka.structs import OffsetAndMetadata

from titans_stream import __version__, cli
from titans_stream.commands.memories import connector_engine, connector_snapshots
from titans_stream.config import load_connector
from titans_stream.devbroker.broker import DevBroker
from titans_stream.lifecycle.loading import load_model
from titans_stream.stream.recovery import StoredSnapshot

CONNECTOR = """\
name: press
kafka: {{bootstrap_servers: "{servers}"}}
input: {{topic: sensors, series: "{{sensor}}", value: value, timestamp: ts, start: earliest}}
output: {{alerts: alerts}}
state: {{path: "{folder}"}}
"""
TOPICS = {"sensors": 2, "alerts": 1, "sensors.dead-letter": 1}


@pytest.fixture(scope="module")
def broker() -> Iterator[DevBroker]:
    with DevBroker(auto_create=False, topics=TOPICS) as running:
        yield running


def connector(folder: Path, servers: str, *changes: tuple[str, str]) -> Path:
    text = CONNECTOR.format(servers=servers, folder=folder / "state")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "press.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "titans_stream.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(cli.__file__).parents[1],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def finish(process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def run(*arguments: object) -> tuple[int, str, str]:
    return finish(start(*arguments))


def unused_port() -> str:
    """An address where nothing listens."""
    broker = DevBroker().start()
    broker.stop()
    return broker.bootstrap


# --- help


def test_help_lists_every_command() -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name in cli.COMMANDS:
        assert re.search(rf"^    {name} +\w", out, re.MULTILINE), name


def test_help_imports_nothing_heavy() -> None:
    """This is what keeps `--help` below 0.3 s."""
    heavy = ["torch", "mlflow", "numpy", "pandas", "numba", "kafka", "pydantic", "rich", "yaml"]
    code = (
        "import sys, titans_stream.cli as c; c.build_parser(); "
        f"print([n for n in {heavy!r} if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main([command, "--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: titans-stream {command} ")
    assert "\nshow this help message" not in out.partition("options:")[0]
    assert max(map(len, out.splitlines())) <= 100


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"titans-stream {__version__}\n"


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().out.startswith("usage: titans-stream ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["scor"], "argument COMMAND: invalid choice: 'scor'"),
        (["score", "x.csv"], "the following arguments are required: --out"),
        (["demo", "--seconds", "soon"], "argument --seconds: a number of seconds is needed, not"),
        (["replay", "a.csv", "b.yaml", "--rate", "0"], "argument --rate: a number above 0"),
        (["replay", "a", "b", "--set", "x"], "argument --set: FIELD=TEXT is needed, not 'x'"),
        (["broker", "--port", "99999"], "argument --port: a port is needed, not '99999'"),
        (["broker", "--topic", "a:0"], "argument --topic: NAME or NAME:PARTITIONS is needed"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(arguments)
    assert done.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f": error: {line}" in err


# --- connectors that cannot work


@pytest.mark.parametrize("command", ["run", "check", "replay", "alerts"])
def test_misspelt_key(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = connector(tmp_path, "localhost:1", ("value:", "vaule:"))
    files = [tmp_path / "none.csv"] if command == "replay" else []
    assert cli.main([command, *map(str, files), str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert (
        f"titans-stream {command}: {path}:3: input.vaule: unknown key; did you mean 'value'?"
        in lines
    )
    assert all(line.startswith(f"titans-stream {command}: {path}:3: input") for line in lines)


def test_connector_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.yaml"
    assert cli.main(["check", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"titans-stream check: {path}: cannot be read: No such file or directory\n"
    )


@pytest.mark.parametrize("command", ["check", "alerts", "replay"])
def test_wrong_broker_address(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(f"titans_stream.commands.{command}.PATIENCE", 0.5)
    servers = unused_port()
    path = connector(tmp_path, servers)
    data = tmp_path / "d.csv"
    data.write_text("ts,value,sensor\n2026-03-01,1,a\n", encoding="utf-8")
    files = [str(data)] if command == "replay" else []
    assert cli.main([command, *files, str(path)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1] == (
        f"titans-stream {command}: cannot reach Kafka at {servers}: connection refused"
    )


def test_the_worker_waits_for_a_broker_that_is_not_there_yet(tmp_path: Path) -> None:
    servers = unused_port()
    process = start("run", connector(tmp_path, servers))
    assert process.stderr is not None
    seen = ""
    while "trying again" not in seen:
        line = process.stderr.readline()
        assert line, seen
        seen += line
    assert f"cannot reach Kafka at {servers}: connection refused; trying again in 1 s" in seen
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            "{horizon: 1d, every: 96}",
            "forecasts  to ahead: the next 1d, at most 5,000 readings of a series, after every 96 "
            "of them, the first after 96; median and quantiles 0.025, 0.1, 0.9, 0.975\n",
        ),
        (
            "{steps: 12, quantiles: []}",
            "forecasts  to ahead: the next 12 readings of a series, after every 24 of them, "
            "the first after 50; median\n",
        ),
    ],
)
def test_check_says_what_is_forecast(
    tmp_path: Path, settings: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change = ("{alerts: alerts}", "{alerts: alerts, forecasts: ahead}\nforecast: " + settings)
    with DevBroker(auto_create=False, topics={**TOPICS, "ahead": 1}) as broker:
        assert cli.main(["check", str(connector(tmp_path, broker.bootstrap, change))]) == 0
    out = capsys.readouterr().out
    assert out.endswith(text)
    assert "topic      ahead (output.forecasts) is there" in out


def send(servers: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=servers)
    for value in values:
        producer.send("sensors", value)
    producer.close()


def test_check_ends_with_2_where_no_message_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DevBroker(auto_create=False, topics=TOPICS) as broker:
        path = connector(tmp_path, broker.bootstrap)
        send(broker.bootstrap, [b'{"sensor": "a", "ts": 1772323200}'] * 6 + [b"{"])
        assert cli.main(["check", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out.count("cannot be used: ") == 5
        assert "model      base" in out, "the other checks are made all the same"
        assert err == (
            "titans-stream check: none of the last 5 messages can be used, most often for "
            "missing-field: value: not there\n"
        )
        send(broker.bootstrap, [b'{"sensor": "a", "ts": 1772323200, "value": 1}'])
        assert cli.main(["check", str(path)]) == 0
        assert cli.main(["check", str(path), "--messages", "0"]) == 0


def test_a_group_of_another_topic_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with DevBroker(auto_create=False, topics={**TOPICS, "others": 1}) as broker:
        path = connector(tmp_path, broker.bootstrap)
        group = load_connector(path).input.group_id
        consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=group)
        other = TopicPartition("others", 0)
        consumer.assign([other])
        consumer.commit({other: OffsetAndMetadata(0, "", -1)})
        consumer.close()
        line = f"input.group_id: group {group} has read topic others: another connector has this"
        for command in ("check", "run"):
            assert cli.main([command, str(path)]) == 2
            assert f"titans-stream {command}: {line}" in capsys.readouterr().err


def test_a_missing_codec_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with DevBroker(auto_create=False, topics=TOPICS) as broker:
        path = connector(tmp_path, broker.bootstrap)
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap, compression_type="zstd")
        for at in range(200):
            text = f'{{"sensor": "a", "ts": {1772323200 + at}, "value": {at % 7}}}'
            producer.send("sensors", text.encode())
        producer.close()
        monkeypatch.setattr(codec, "has_zstd", lambda: False)
        for command in ("check", "run"):
            assert cli.main([command, str(path)]) == 2
            assert "pip install zstandard" in capsys.readouterr().err.splitlines()[-1]


def test_check_names_a_rule_that_is_for_no_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = "\nalerts: {rules: [{series: 'vienna/*', enabled: false}, {series: 'viena/*'}]}"
    with DevBroker(auto_create=False, topics=TOPICS) as broker:
        path = connector(
            tmp_path, broker.bootstrap, ("{alerts: alerts}", "{alerts: alerts}" + rules)
        )
        assert cli.main(["check", str(path)]) == 0
        assert capsys.readouterr().err == "", "nothing is known of an empty topic"
        names = ["vienna/1"] + ["graz/1"] * 20  # the first is not among the messages shown
        texts = [
            f'{{"sensor": "{name}", "ts": {1772323200 + 60 * i}, "value": 1}}'
            for i, name in enumerate(names)
        ]
        send(broker.bootstrap, [text.encode() for text in texts])
        assert cli.main(["check", str(path)]) == 0
    assert capsys.readouterr().err == (
        "warning: alerts.rules[1].series: 'viena/*' matches none of the 2 series in the last 21 "
        "messages, such as 'graz/1'\n"
    )


def test_check_names_a_state_that_cannot_be_saved(
    broker: DevBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = connector(tmp_path, broker.bootstrap)
    (tmp_path / "state").write_text("a file")
    assert cli.main(["check", str(path)]) == 0
    assert capsys.readouterr().err == (
        f"warning: state.path: {tmp_path / 'state'} is no folder: nothing can be saved in "
        f"{tmp_path / 'state'}\n"
    )


def test_check_names_a_folder_of_others(
    broker: DevBroker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = connector(tmp_path, broker.bootstrap)
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != tmp_path)
    assert cli.main(["check", str(path)]) == 0
    assert capsys.readouterr().err == (
        f"warning: state.path: {tmp_path} cannot be written by this user\n"
    )


def test_changed_settings_that_drop_memories_are_told(
    broker: DevBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = connector(tmp_path, broker.bootstrap)
    before = load_connector(path)
    model = load_model(before.model)
    snapshot = connector_engine(before, model).snapshot(1)
    connector_snapshots(before, model).save("sensors", 1, StoredSnapshot(7, snapshot, {}))
    assert cli.main(["check", str(path)]) == 0
    assert capsys.readouterr().err == "", "the memories fit"

    engine = "\nengine: {timezone: Europe/Vienna, max_out_of_orderness: 5s}"
    path = connector(tmp_path, broker.bootstrap, ("{alerts: alerts}", "{alerts: alerts}" + engine))
    assert cli.main(["check", str(path)]) == 0
    line = (
        f"the memories in {tmp_path / 'state'} start anew in 1 of 1 partitions, for their meaning "
        "has changed (engine.max_out_of_orderness 0ns -> 5s; engine.timezone UTC -> "
        "Europe/Vienna); start: earliest replays the topic to learn them"
    )
    assert capsys.readouterr().err == f"warning: {line}\n"
    process = start("run", path)
    assert process.stderr is not None
    seen = ""
    while "reading sensors" not in seen:
        text = process.stderr.readline()
        assert text, seen
        seen += text
    assert line in seen
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0


def test_missing_topics_are_named(
    broker: DevBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = connector(tmp_path, broker.bootstrap, ("alerts: alerts", "alerts: allerts"))
    assert cli.main(["check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert "topic      sensors (input.topic) is there" in out
    assert "topic      allerts (output.alerts) is missing" in out
    assert err == (
        "titans-stream check: create the missing topics first: allerts (output.alerts)\n"
    )
    assert cli.main(["alerts", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"titans-stream alerts: output.alerts: topic allerts does not exist on {broker.bootstrap}\n"
    )
    code, _, err = run("run", path)
    assert code == 2
    assert err.splitlines()[-1] == (
        f"titans-stream run: output.alerts: topic allerts does not exist on {broker.bootstrap}; "
        "create it first"
    )


def test_replay_to_a_missing_topic(
    broker: DevBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = connector(tmp_path, broker.bootstrap, ("topic: sensors", "topic: sensor"))
    data = tmp_path / "d.csv"
    data.write_text("ts,value,sensor\n2026-03-01,1,a\n", encoding="utf-8")
    assert cli.main(["replay", str(data), str(path)]) == 2
    assert capsys.readouterr().err == (
        f"titans-stream replay: input.topic: topic sensor does not exist on {broker.bootstrap}; "
        "create it first\n"
    )


# --- files that cannot be published

FILES = {
    "text": (
        "ts,value,sensor\n2026-03-01,1,a\n2026-03-02,x,a\n",
        [],
        'd.csv: row 2, column value: "x" is not a number; --na takes such a text as a missing '
        "value",
    ),
    "empty": ("", [], "d.csv: the file is empty"),
    "no time": (
        "at,temperature\n2026-03-01,1\n",
        [],
        "d.csv: which column holds the times? name it with --timestamp",
    ),
    "too old": (
        "ts,value,sensor\n1980-03-01,1,a\n",
        [],
        "message 1 would be refused by the connector: timestamp-out-of-range: ts: earlier than "
        "min_timestamp",
    ),
    "unknown field": (
        "ts,value,sensor\n2026-03-01,1,a\n",
        ["--set", "site=x"],
        "--set site: not a field of the series id '{sensor}'",
    ),
    "pace": (
        "ts,value\n2026-03-01,1\n",
        ["--value", "vlaue"],
        "d.csv: there is no column 'vlaue'; did you mean 'value'?",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_replay_refuses_a_file_before_anything_is_sent(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, arguments, line = FILES[case]
    data = tmp_path / "d.csv"
    data.write_text(text, encoding="utf-8")
    path = connector(tmp_path, "localhost:1")  # nobody is there: it must not come so far
    assert cli.main(["replay", str(data), str(path), *arguments]) == 2
    assert capsys.readouterr().err == f"titans-stream replay: {line}\n"


# --- ends


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    data = tmp_path / "d.csv"
    data.write_text("v\n" + "1.5\n2.5\n" * 40_000, encoding="utf-8")
    process = start("score", data, "--out", "-", "--quiet")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("timestamp,series_id,")
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(60) == 1


def test_ctrl_c_ends_a_follower_quietly(tmp_path: Path) -> None:
    with DevBroker(auto_create=False, topics=TOPICS) as broker:
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        producer.send("alerts", b"{").get(10)
        producer.close()
        process = start("alerts", connector(tmp_path, broker.bootstrap), "--follow")
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("status ")
        assert "alerts partition 0 offset 0 is no alert" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert finish(process) == (0, "", "")


def test_alerts_end_where_nothing_is_to_be_read(
    broker: DevBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = connector(tmp_path, broker.bootstrap)
    assert cli.main(["alerts", str(path), "--json"]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main(["alerts", str(path), "--since", "yesterday"]) == 2
    assert capsys.readouterr().err == (
        "titans-stream alerts: --since: earliest, latest, a time or a duration such as 2h is "
        "needed, not 'yesterday'\n"
    )


def test_broker_makes_a_connectors_topics_and_ends_at_a_signal(tmp_path: Path) -> None:
    path = connector(tmp_path, "localhost:1")
    process = start("broker", "--port", "0", "--topic", "sensors:3", "--connector", path)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"development only: bootstrap_servers (\S+:\d+) \(Ctrl-C .*\n", line)
    assert found is not None, line
    code, out, _ = run("check", connector(tmp_path, found[1]))
    assert code == 0
    assert "input      0 messages in 3 partitions\n" in out
    assert "topic      sensors.dead-letter (output.dead_letter) is there\n" in out
    assert "group      titans-stream.press is new: it starts at earliest\n" in out
    assert "messages   none to look at\n" in out
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0


def test_broker_says_which_port_is_taken(broker: DevBroker) -> None:
    code, out, err = run("broker", "--port", broker.port)
    assert (code, out) == (2, "")
    assert err.startswith(f"titans-stream broker: --port {broker.port}: ")
    assert err.count("\n") == 1


def test_broker_refuses_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["broker", "--host", "0.0.0.0"]) == 2
    assert "listens on loopback addresses only" in capsys.readouterr().err


def test_unexpected_errors_are_one_line_unless_debugged(tmp_path: Path) -> None:
    code = (
        "import sys, titans_stream.cli as c, titans_stream.commands.score as s\n"
        "def broken(args): raise TypeError('inside')\n"
        "s.run = broken\n"
        "sys.exit(c.main(['score', 'x', '--out', 'y', *sys.argv[1:]]))"
    )
    quiet = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert quiet.returncode == 1
    assert quiet.stderr == "titans-stream: TypeError: inside (--debug shows the traceback)\n"
    loud = subprocess.run([sys.executable, "-c", code, "--debug"], capture_output=True, text=True)
    assert loud.returncode == 1
    assert "Traceback" in loud.stderr


def test_health_follows_the_age_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "health"
    environment = {**os.environ, "TITANS_HEALTH_FILE": str(file)}

    def health(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "titans_stream.cli", "health", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    missing = health()
    assert (missing.returncode, "does not exist" in missing.stdout) == (1, True)
    file.touch()
    assert health().returncode == 0
    os.utime(file, (time.time() - 100, time.time() - 100))
    assert health().returncode == 1
    assert health("--max-age", "200").returncode == 0
