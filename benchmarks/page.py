"""What the page costs: the table of many series, and the worker beside it.

    python -m benchmarks.page --bootstrap 127.0.0.1:9092 [--series 100000] [--pairs 5]
        [--rate 10000] [--json FILE]

**table**: topics with `--series` series, 8 readings each, are read by `titans-stream ui`; the time
until all is read, the page's resident memory and CPU, and how long the table takes: the API's
answer, and in Chromium (where Playwright and a browser are there) until its rows are drawn.

**worker**: one worker takes `--rate` readings/s of 1,000 series and publishes their scores. Five
pairs of 20 seconds, without and with the page (each pair in the other order), in which somebody
looks at it: a stream of events is open, and table, inbox and one series are asked for every two
seconds. Its CPU seconds (/proc) over the readings that it counted; the page is as urgent as
`run --ui` makes it. `median` is of the pairs' quotients.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from titans_stream.commands.page_beside import NICE
from titans_stream.records import ModelRef, Scores, Status
from titans_stream.stream.encoding import encode_scores

PARTITIONS = 4
READINGS_OF_SERIES = 8
SERIES = 1_000
WARM_UP, WINDOW, LOOK = 45.0, 20.0, 2.0
"""Seconds: before the first pair, of each half of a pair, between two looks."""
PATIENCE = 300.0


class Topics:
    """Topics of a run and the connector that names them."""

    def __init__(self, servers: str, folder: Path) -> None:
        self.servers, self.tag = servers, f"page-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": servers})
        made = admin.create_topics(
            [NewTopic(f"{self.tag}-{name}", PARTITIONS, 1) for name in ("in", "scores", "alerts")]
            + [NewTopic(f"{self.tag}-dead", 1, 1)]
        )
        for future in made.values():
            future.result(30)
        self.connector = folder / f"{self.tag}.yaml"
        self.connector.write_text(
            f"name: {self.tag}\nkafka: {{bootstrap_servers: '{servers}'}}\n"
            f"input: {{topic: {self.tag}-in, value: v, timestamp: {{field: t, unit: ms}}, "
            f"series: '{{s}}', start: earliest}}\n"
            f"output: {{alerts: {self.tag}-alerts, scores: {self.tag}-scores, "
            f"dead_letter: {self.tag}-dead}}\nstate: {{path: {folder}/state}}\n",
            encoding="utf-8",
        )

    def producer(self) -> Producer:
        return Producer({"bootstrap.servers": self.servers, "linger.ms": 20, "acks": "1"})


def write_series(topics: Topics, series: int) -> None:
    """Frames of scores, as a worker publishes them."""
    rng, producer = np.random.default_rng(0), topics.producer()
    names = [f"site-{i // 1000}/line-{i // 50 % 20}/sensor-{i}" for i in range(series)]
    model, now = ModelRef("base", "7"), time.time_ns()
    zero, one = np.zeros(series, np.int8), np.ones(series)
    for k in range(READINGS_OF_SERIES):
        value = 20 + rng.normal(size=series)
        scores = Scores(
            names,
            np.full(series, now - (READINGS_OF_SERIES - k) * 60_000_000_000),
            value,
            np.full(series, Status.SCORED, np.int8),
            one, one / 2, one / 2, rng.normal(size=series), 20 * one, 18 * one, 22 * one,
            zero, zero, zero,
            (np.arange(series) % PARTITIONS).astype(np.int32),
            np.arange(series, dtype=np.int64),
        )  # fmt: skip
        for record in encode_scores(scores, model, f"{topics.tag}-in"):
            producer.produce(
                f"{topics.tag}-scores", record.value, record.key, int(record.key) % PARTITIONS
            )
            producer.poll(0)
    producer.flush()


@contextmanager
def page(topics: Topics) -> Iterator[tuple[str, psutil.Process]]:
    """The page's address and process; it has read all that was there."""
    command = ["nice", "-n", str(NICE), sys.executable, "-m", "titans_stream.cli"]
    process = subprocess.Popen(
        [*command, "ui", str(topics.connector), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+/", process.stdout.readline())
        assert found is not None
        deadline = time.monotonic() + PATIENCE
        while not ask(found[0] + "v1/status")["caught_up"]:
            if time.monotonic() > deadline:
                raise TimeoutError("the page has not read its topics")
            time.sleep(0.2)
        yield found[0], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def ask(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.load(answer)


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def table(servers: str, series: int, folder: Path) -> dict[str, float]:
    """The table of many series."""
    topics = Topics(servers, folder)
    write_series(topics, series)
    begun = time.monotonic()
    with page(topics) as (address, process):
        found = {"read_s": time.monotonic() - begun}
        assert ask(address + "v1/status")["series"] == series
        answers = []
        for _ in range(6):
            begun = time.monotonic()
            told = ask(address + "v1/series?limit=50")
            answers.append(time.monotonic() - begun)
            assert told["total"] == series
        found |= {"answer_s": statistics.median(answers), **drawn(address)}
        found |= {"page_mb": process.memory_info().rss / 1e6, "page_cpu_s": cpu(process)}
    return found


def drawn(address: str) -> dict[str, float]:
    """Seconds until a browser has drawn the rows; the first load apart."""
    import shutil

    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return {}
    browser = shutil.which("chromium")
    if browser is None:
        return {}
    seconds = []
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(7):
            one = running.new_context().new_page()
            begun = time.monotonic()
            one.goto(address + "series")
            one.wait_for_selector("table.series tbody tr")
            seconds.append(time.monotonic() - begun)
            one.context.close()
        running.close()
    return {"first_drawn_s": seconds[0], "drawn_s": statistics.median(seconds[1:])}


class Flow(threading.Thread):
    """Publishes readings at a steady rate until it is stopped."""

    def __init__(self, topics: Topics, rate: int) -> None:
        super().__init__(daemon=True)
        self._rate = rate
        self._topic, self._producer = f"{topics.tag}-in", topics.producer()
        self._ended = threading.Event()

    def run(self) -> None:
        rng, begun, sent = np.random.default_rng(1), time.monotonic(), 0
        while not self._ended.wait(0.02):
            due = int((time.monotonic() - begun) * self._rate)
            stamp = time.time_ns() // 1_000_000
            for i, noise in zip(range(sent, due), rng.normal(size=due - sent), strict=True):
                name = f"m{i % SERIES}"
                text = f'{{"s":"{name}","t":{stamp + i % 7},"v":{20 + noise:.4f}}}'
                self._producer.produce(self._topic, text, name, i % SERIES % PARTITIONS)
            sent = due
            self._producer.poll(0)

    def stop(self) -> None:
        self._ended.set()
        self.join(PATIENCE)
        self._producer.flush()


class Looker(threading.Thread):
    """Somebody who looks at the page."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address, self._ended = address, threading.Event()
        self.looks = 0

    def run(self) -> None:
        events = urllib.request.urlopen(self._address + "v1/events", timeout=60)
        threading.Thread(target=_read, args=(events,), daemon=True).start()
        while not self._ended.wait(LOOK):
            for path in ("series?limit=50", "incidents?show=open", "readings?series=m1"):
                ask(self._address + "v1/" + path)
            self.looks += 1
        events.close()

    def stop(self) -> None:
        self._ended.set()
        self.join(PATIENCE)


def _read(events: Iterable[bytes]) -> None:
    with suppress(AttributeError, ValueError):  # what closing it in another thread leads to
        for _ in events:
            pass


class Worker:
    """`titans-stream run`, and what it costs."""

    def __init__(self, topics: Topics) -> None:
        command = [sys.executable, "-m", "titans_stream.cli", "run", str(topics.connector)]
        self._process = subprocess.Popen(
            [*command, "--http-port", "0"], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            found = re.search(r"serving (http://\S+/metrics)", line)
            if found is not None:
                self._metrics = found[1]
                break
        threading.Thread(target=self._process.stderr.read, daemon=True).start()
        self._usage = psutil.Process(self._process.pid)

    def figures(self) -> tuple[float, float, float]:
        """CPU seconds, readings, and messages behind."""
        with urllib.request.urlopen(self._metrics, timeout=60) as answer:
            text = answer.read().decode()
        readings, behind = (
            sum(float(x) for x in re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE))
            for name in ("titans_readings_total", "titans_lag_messages")
        )
        return cpu(self._usage), readings, behind

    def window(self) -> tuple[float, float]:
        """Microseconds of CPU a reading, and readings a second, over a window."""
        begun, (cpu_before, before, _) = time.monotonic(), self.figures()
        time.sleep(WINDOW)
        cpu_after, after, _ = self.figures()
        spent, taken = cpu_after - cpu_before, after - before
        return spent / taken * 1e6, taken / (time.monotonic() - begun)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


def pairs(servers: str, count: int, rate: int, folder: Path) -> dict[str, Any]:
    """The worker without and with the page."""
    topics = Topics(servers, folder)
    worker = Worker(topics)
    flow = Flow(topics, rate)
    flow.start()
    time.sleep(WARM_UP)
    rows = []
    for i in range(count):
        row: dict[str, float] = {}
        for beside in (False, True) if i % 2 == 0 else (True, False):
            name = "with" if beside else "without"
            if beside:
                with page(topics) as (address, process):
                    looker = Looker(address)
                    looker.start()
                    time.sleep(3 * LOOK)
                    spent = cpu(process)
                    row[name], row["rate " + name] = worker.window()
                    row["page"] = (cpu(process) - spent) / WINDOW / row["rate " + name] * 1e6
                    looker.stop()
                    assert looker.looks >= 3
            else:
                time.sleep(3 * LOOK)
                row[name], row["rate " + name] = worker.window()
        row["quotient"] = row["with"] / row["without"]
        rows.append(row)
        print(json.dumps({name: round(figure, 3) for name, figure in row.items()}), flush=True)
    behind = worker.figures()[2]
    flow.stop()
    worker.stop()
    return {
        "pairs": rows,
        "median": statistics.median(row["quotient"] for row in rows),
        "behind_at_the_end": behind,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {}
        if args.series:
            found["table"] = table(args.bootstrap, args.series, folder)
            print(json.dumps(found["table"], indent=1), flush=True)
        if args.pairs:
            found["worker"] = pairs(args.bootstrap, args.pairs, args.rate, folder)
            median, behind = (found["worker"][name] for name in ("median", "behind_at_the_end"))
            print(f"median of the quotients {median:.4f}, {behind:.0f} messages behind at the end")
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
