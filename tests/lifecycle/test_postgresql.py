"""A model's life on an MLflow server whose database is PostgreSQL, as compose.yaml has it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.lifecycle.conftest import free_port, quick_recipe, serving
from titans_stream.cli import main
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.mlflow_library import MlflowClient

psycopg2 = pytest.importorskip("psycopg2", reason="psycopg2-binary is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


ROOT = Path(__file__).resolve().parents[2]


def program(name: str) -> str:
    """A program of PostgreSQL, which Debian keeps off the path."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(places[-1]) if places else None)
    if found is None:
        pytest.skip(f"{name} of PostgreSQL is not installed: apt-get install postgresql")
    return found


@dataclass
class Database:
    """A cluster of its own, with a password, on loopback."""

    folder: Path
    port: int
    password: str

    @property
    def uri(self) -> str:
        # the driver is named as in mlflow/compose.yaml: newer SQLAlchemy would take another one
        return f"postgresql+psycopg2://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"

    def command(self, *words: str) -> None:
        """Run a program of PostgreSQL, which refuses to be root."""
        done = subprocess.run(
            [program(words[0]), *words[1:]], cwd=self.folder, check=False,
            user="postgres" if os.geteuid() == 0 else None, stdin=subprocess.DEVNULL,
            stdout=(self.folder / "output").open("ab"), stderr=subprocess.STDOUT,
            env={**os.environ, "PGPASSWORD": self.password},
        )  # fmt: skip
        assert done.returncode == 0, (self.folder / "output").read_text()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with (
            psycopg2.connect(
                host="127.0.0.1", port=self.port, user="mlflow", password=self.password,
                dbname="mlflow",
            ) as connection,
            connection.cursor() as cursor,
        ):  # fmt: skip
            cursor.execute(query)
            return cursor.fetchall()


@pytest.fixture
def database() -> Iterator[Database]:
    folder = Path(tempfile.mkdtemp(prefix="titans-postgresql-"))  # pytest's own is root's alone
    made = Database(folder, free_port(), secrets.token_hex(16))
    (folder / "password").write_text(made.password)
    if os.geteuid() == 0:
        for each in (folder, folder / "password"):
            shutil.chown(each, "postgres")
    data, log = str(folder / "data"), str(folder / "server.log")
    settings = f"-p {made.port} -c listen_addresses=127.0.0.1 -k {folder}"
    try:
        made.command("initdb", "-D", data, "-U", "mlflow", "-A", "scram-sha-256",
                     "--pwfile", str(folder / "password"))  # fmt: skip
        made.command("pg_ctl", "-D", data, "-l", log, "-w", "-t", "120", "-o", settings, "start")
        made.command("createdb", "-h", "127.0.0.1", "-p", str(made.port), "-U", "mlflow", "mlflow")
        yield made
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            made.command("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def recipe(folder: Path, seed: int) -> str:
    path = folder / f"seed-{seed}.yaml"
    path.write_text(json.dumps(quick_recipe(name="pumps", seed=seed).model_dump(mode="json")))
    return str(path)


def test_train_register_compare_promote_load_and_go_back(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "server").mkdir()
    monkeypatch.chdir(tmp_path)
    values = 20 + np.sin(np.arange(600) / 20) + 0.05 * np.random.default_rng(0).normal(size=600)
    (tmp_path / "rows.csv").write_text("v\n" + "\n".join(f"{v:.4f}" for v in values) + "\n")
    with serving(tmp_path / "server", database.uri) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        assert main(["train", recipe(tmp_path, 1), "--register", "pumps"]) == 0
        assert "registered: models:/pumps/1, alias challenger" in capsys.readouterr().out

        outcome = tmp_path / "outcome.json"
        compare = ["models", "compare", "base", "models:/pumps@challenger"]
        assert main([*compare, "--data", "rows.csv", "--json", str(outcome)]) == 0
        measures = json.loads(outcome.read_text())["measures"]
        assert measures["quantile_loss"]["a"] != measures["quantile_loss"]["b"]

        promote = ["models", "promote", "pumps", "--data", "rows.csv"]
        assert main([*promote, "1", "--force", "first"]) == 0
        assert main(["train", recipe(tmp_path, 2), "--register", "pumps"]) == 0
        assert main([*promote, "2", "--force", "second"]) == 0
        second = load_model("models:/pumps@champion")
        assert (second.ref.name, second.ref.version) == ("pumps", "2")

        server.stop()  # killed: what was committed is in PostgreSQL
        server.start()
        assert main(["models", "rollback", "pumps", "--reason", "test"]) == 0
        first = load_model("models:/pumps@champion")
        assert first.ref.version == "1"
        name = "forecast.key_weight"
        assert not np.array_equal(first.weights[name], second.weights[name])
        assert not np.array_equal(first.weights[name], base_model().weights[name])
        tags = MlflowClient(server.uri).get_model_version("pumps", "2").tags
        assert tags["promotion.decision"] == "forced"
        assert tags["promotion.rolled_back_to"] == "1"

    assert database.rows("select version from model_versions where name = 'pumps' order by 1") == [
        (1,), (2,)
    ]  # fmt: skip
    assert database.rows(
        "select version from registered_model_aliases where name = 'pumps' and alias = 'champion'"
    ) == [(1,)]


def test_the_server_of_compose_starts_on_the_database_that_it_names(
    database: Database, tmp_path: Path
) -> None:
    """Command, environment and health check of mlflow/compose.yaml, outside of containers."""
    compose = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())["services"]
    postgres, server = compose["database"]["environment"], compose["server"]
    assert (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]) == ("mlflow", "mlflow")
    port = free_port()
    places = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "--artifacts-destination=/artifacts": f"--artifacts-destination={tmp_path}/artifacts",
    }
    assert places.keys() <= set(server["command"])
    command = [places.get(word, word) for word in server["command"]]
    stated = server["environment"]["MLFLOW_BACKEND_STORE_URI"]
    uri = stated.replace("${POSTGRES_PASSWORD}", database.password).replace(
        "@database:5432/", f"@127.0.0.1:{database.port}/"
    )
    assert uri == database.uri
    environment = {**os.environ, **server["environment"], "MLFLOW_BACKEND_STORE_URI": uri}
    test = server["healthcheck"]["test"]
    assert test[:3] == ["CMD", "python", "-c"]
    check = [sys.executable, "-c", test[3].replace(":5000/", f":{port}/")]
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 300
        while subprocess.run(check, check=False, stderr=subprocess.DEVNULL).returncode != 0:
            assert running.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(1)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        client.create_experiment("compose")
        assert ("compose",) in database.rows("SELECT name FROM experiments")
    finally:
        running.terminate()
        running.wait(60)
