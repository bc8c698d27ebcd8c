"""`titans-stream run --ui`: the page beside the worker, in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from titans_stream import cli
from titans_stream.commands import page_beside


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address + "v1/status", timeout=10) as found:
            return json.load(found)["connector"] == "plant"
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_page_ends_with_the_worker(connector: str, end: signal.Signals) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "titans_stream.cli", "run", connector, "--ui", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert worker.stdout is not None
        line = worker.stdout.readline()
        found = re.fullmatch(r"plant: (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", line)
        assert found is not None, line
        assert answers(found[1])
        pages = [p for p in psutil.Process(worker.pid).children() if p.nice() > 0]
        assert len(pages) == 1, "the page is a process of its own, less urgent than the worker"
        worker.send_signal(end)
        worker.wait(60)
        deadline = time.monotonic() + 60
        while answers(found[1]):
            assert time.monotonic() < deadline, "the page outlived the worker"
            time.sleep(0.1)
        pages[0].wait(60)
    finally:
        worker.kill()
        worker.communicate()


def test_a_port_in_use_is_named_before_anything_starts(
    connector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["run", connector, "--ui", str(port)]) == 2
    assert f"--ui {port}: Address already in use" in capsys.readouterr().err


def test_missing_packages_are_named(
    connector: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page_beside, "PACKAGES", ("no_such_package",))
    assert cli.main(["run", connector, "--ui"]) == 2
    assert "pip install 'titans-stream[ui]' (there is no no_such_package)" in (
        capsys.readouterr().err
    )


def test_the_page_logs_as_the_worker_does() -> None:
    more = ["--ui", "--log-format", "json", "--log-level", "error", "--log-level", "web=debug"]
    args = cli.build_parser().parse_args(["run", "plant.yaml", "-v", *more])
    command = page_beside.page_command(args)
    page = cli.build_parser().parse_args(command)
    assert (page.command, str(page.connector), page.port) == ("ui", "plant.yaml", 8765)
    assert (page.verbose, page.log_format, page.log_level) == (1, "json", args.log_level)
