"""`titans-stream ui`: what a mistake is told, and one whole run."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from titans_stream import cli


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--host", "0.0.0.0"], "--token-file or --user-header is needed"),
        (["--since", "yesterday"], "--since: a duration such as"),
        (["--keep", "100", "--keep-all", "50"], "--keep: more than --keep-all"),
        (["--proxy", "192.0.2.1"], "--proxy: needs --user-header"),
        (["--host", "no-such-name.invalid", "--user-header", "X"], "--host no-such-name.invalid: "),
        (["--host", "192.0.2.1", "--user-header", "X"], "--host 192.0.2.1: "),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    connector: str, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ui", connector, *more]) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


def test_a_port_in_use_is_named(connector: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["ui", connector, "--port", str(port)]) == 2
    assert f"--port {port}: Address already in use" in capsys.readouterr().err


def test_it_serves_without_kafka_until_a_signal(connector: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "titans_stream.cli", "ui", connector, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"plant: (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", line)
        assert found is not None, line
        assert "output.scores is not set" in process.stdout.readline()
        with urllib.request.urlopen(found[1] + "v1/status", timeout=60) as answer:
            status = json.load(answer)
        assert (status["connector"], status["caught_up"]) == ("plant", False)
        assert status["topics"]["scores"] is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
