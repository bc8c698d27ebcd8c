#!/usr/bin/env python3
"""Run an Apache Kafka (KRaft) on loopback, for tests. Python standard library only.

    scripts/kafka.py start [--nodes N] [--secure] [--dir .kafka] [--via maven|docker]
    scripts/kafka.py stop | status | clean [--dir .kafka]
    scripts/kafka.py kill | freeze | thaw | revive --node N [--dir .kafka]

`start` waits until every broker serves and prints one line on stdout,
`KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:PORT[,...]`; progress goes to stderr. A second `start` prints
the same line. The broker comes from Maven artefacts (kafka/pom.xml) where Java 17+ and Maven are
installed, else from the Docker image apache/kafka. Everything lies under the folder; `stop` keeps
a Maven cluster's records, which `start` goes on with, and drops a Docker cluster's. `kill` (SIGKILL),
`freeze` (SIGSTOP), `thaw` and `revive` (on its own port and records) are for drills on one node of a
Maven cluster.

With --secure (Maven, one node; needs openssl) there is a second listener that takes SASL_SSL with
SCRAM-SHA-512 alone, whose user may do what ACLs allow; DIR/secure.json tells its address, user,
password and authority. The first listener's users may do everything.

Exit codes: 0 done (status: running), 1 failed (status: not running), 3 something to install.
"""

# ruff: noqa: S603, S607, T201 - a script: it prints, and runs programs found on PATH

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

POM = Path(__file__).resolve().parent / "kafka" / "pom.xml"
HEAP = "-Xmx512m"
READY_SECONDS = 180.0
NODE_SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "thaw": signal.SIGCONT}
INSTALL = (
    "Apache Kafka needs one of:\n"
    "  - Java 17 or newer and Maven  (apt-get install openjdk-17-jre-headless maven,\n"
    "    or brew install openjdk maven)\n"
    "  - Docker with a running daemon (the image apache/kafka is pulled)"
)


class StartError(Exception):
    """What went wrong, for the user, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def say(message: str) -> None:
    """Progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def run(command: list[str]) -> str:
    """Run a command with no stdin; its stdout, or StartError with what it said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise StartError(f"{' '.join(command[:4])} ... failed with {done.returncode}:\n{said}")
    return done.stdout


# --- what the machine has


def java() -> str | None:
    """The java of JAVA_HOME or PATH, if it is 17 or newer."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if not found:
        return None
    done = subprocess.run([found, "-version"], capture_output=True, text=True)
    version = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return found if version and int(version.group(1)) >= 17 else None


def docker_runs() -> bool:
    """Whether a Docker daemon answers."""
    docker = shutil.which("docker")
    if not docker:
        return False
    command = [docker, "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(command, capture_output=True).returncode == 0


def choose_source(wanted: str | None) -> str:
    """`maven` or `docker`, whichever is wanted or there."""
    if wanted in (None, "maven") and java() and shutil.which("mvn"):
        return "maven"
    if wanted in (None, "docker") and docker_runs():
        return "docker"
    raise StartError(INSTALL, code=3)


def kafka_version() -> str:
    """The version that the pom names; the Docker image has the same."""
    found = re.search(r"<artifactId>kafka_[^<]*</artifactId>\s*<version>([^<]+)<", POM.read_text())
    if not found:
        raise StartError(f"no Kafka version in {POM}")
    return found.group(1)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


# --- the cluster's description, kept in cluster.json


def read_cluster(folder: Path) -> dict[str, Any] | None:
    """The cluster that was started last, running or not."""
    try:
        described: dict[str, Any] = json.loads((folder / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    return described


def write_cluster(folder: Path, cluster: dict[str, Any]) -> None:
    """Replace cluster.json as a whole."""
    part = folder / "cluster.json.part"
    part.write_text(json.dumps(cluster, indent=1))
    part.replace(folder / "cluster.json")


def new_cluster(nodes: int, source: str) -> dict[str, Any]:
    """Describe a cluster: its id and the client port and controller port of each node."""
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    while cluster_id.startswith("-"):  # would read as an option on a command line
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    ports = free_ports(2 * nodes)
    return {
        "id": cluster_id,
        "source": source,
        "version": kafka_version(),
        "nodes": [
            {"id": i + 1, "port": ports[2 * i], "controller_port": ports[2 * i + 1]}
            for i in range(nodes)
        ],
    }


def bootstrap(cluster: dict[str, Any]) -> str:
    """The addresses that clients use."""
    return ",".join(f"127.0.0.1:{node['port']}" for node in cluster["nodes"])


def shared_settings(nodes: int) -> dict[str, str]:
    """Broker settings that every node has, however it is started."""
    copies = min(nodes, 3)
    in_sync = 2 if copies == 3 else 1
    return {
        "process.roles": "broker,controller",
        "controller.listener.names": "CONTROLLER",
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(copies),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": "4194304",
        "num.network.threads": "2",
        "num.io.threads": "4",
    }


# --- nodes from Maven artefacts


def fetch_jars(folder: Path, version: str) -> Path:
    """The broker's jars, copied once per version."""
    jars = folder / f"jars-{version}"
    if not jars.is_dir():
        say(f"fetching Apache Kafka {version} with Maven ...")
        part = folder / "jars.part"
        shutil.rmtree(part, ignore_errors=True)
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={part}"]
        run(["mvn", "-q", "-B", "-f", str(POM), *goal])
        part.rename(jars)
    return jars


def make_certificate(folder: Path) -> None:
    """An authority of our own, and a certificate of 127.0.0.1, as PEM files."""
    if not shutil.which("openssl"):
        raise StartError("--secure needs openssl", code=3)
    ca, key, request, pem = (folder / name for name in ("ca.pem", "ca.key", "node.csr", "node.pem"))
    days = ["-days", "3650"]
    new_key = ["-newkey", "rsa:2048", "-nodes"]
    run(
        ["openssl", "req", "-x509", *new_key, *days, "-subj", "/CN=titans-stream test authority",
         "-keyout", str(key), "-out", str(ca)]
    )  # fmt: skip
    run(
        ["openssl", "req", *new_key, "-subj", "/CN=127.0.0.1", "-keyout", str(folder / "node.key"),
         "-out", str(request)]
    )  # fmt: skip
    names = folder / "names.ext"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    run(
        ["openssl", "x509", "-req", *days, "-in", str(request), "-CA", str(ca), "-CAkey", str(key),
         "-CAcreateserial", "-extfile", str(names), "-out", str(folder / "node.crt")]
    )  # fmt: skip
    pem.write_text((folder / "node.key").read_text() + (folder / "node.crt").read_text())


def secure_listener(folder: Path) -> dict[str, Any]:
    """What clients need of the secured listener; kept in secure.json, for its owner alone."""
    (port,) = free_ports(1)
    make_certificate(folder)
    secure = {
        "bootstrap_servers": f"127.0.0.1:{port}",
        "user": "worker",
        "password": secrets.token_urlsafe(18),
        "cafile": str(folder / "ca.pem"),
    }
    with open(folder / "secure.json", "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        json.dump(secure, file)
    return secure


def secure_settings(folder: Path) -> dict[str, str]:
    """Broker settings of the secured listener, without those of all listeners."""
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.secure.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.secure.ssl.keystore.type": "PEM",
        "listener.name.secure.ssl.keystore.location": str(folder / "node.pem"),
    }


def write_properties(folder: Path, cluster: dict[str, Any], node: dict[str, Any]) -> Path:
    """A node's server.properties."""
    home = folder / f"node-{node['id']}"
    home.mkdir(parents=True, exist_ok=True)
    client = f"PLAINTEXT://127.0.0.1:{node['port']}"
    settings = shared_settings(len(cluster["nodes"])) | {
        "node.id": str(node["id"]),
        "controller.quorum.voters": ",".join(
            f"{n['id']}@127.0.0.1:{n['controller_port']}" for n in cluster["nodes"]
        ),
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL"
        ),
        "log.dirs": str(home / "data"),
    }
    secure = cluster.get("secure")
    if secure:
        client += f",SECURE://{secure['bootstrap_servers']}"
        settings |= secure_settings(folder)
    settings["listeners"] = f"{client},CONTROLLER://127.0.0.1:{node['controller_port']}"
    settings["advertised.listeners"] = client
    path = home / "server.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return path


def start_maven(
    folder: Path, cluster: dict[str, Any], nodes: list[dict[str, Any]] | None = None
) -> None:
    """Start nodes (all) as processes of sessions of their own; put pids into the description."""
    nodes = cluster["nodes"] if nodes is None else nodes
    found = java()
    if not found:
        raise StartError(INSTALL, code=3)
    jars = fetch_jars(folder, cluster["version"])
    log_options = ["-Dorg.slf4j.simpleLogger.showDateTime=true"]
    base = [found, HEAP, "-cp", f"{jars}/*", *log_options]
    for node in nodes:
        config = write_properties(folder, cluster, node)
        if not (config.parent / "data" / "meta.properties").exists():
            tool = ["kafka.tools.StorageTool", "format", "-t", cluster["id"], "-c", str(config)]
            secure = cluster.get("secure")
            if secure:
                user = f"name={secure['user']},password={secure['password']}"
                tool += ["--add-scram", f"SCRAM-SHA-512=[{user}]"]
            run([*base, *tool])
        with (config.parent / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [*base, "kafka.Kafka", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=config.parent,
                start_new_session=True,
            )
        node["pid"] = process.pid
        (config.parent / "pid").write_text(f"{process.pid}\n")


def is_our_process(folder: Path, node: dict[str, Any]) -> bool:
    """Whether the node's pid still belongs to a broker with this folder's config."""
    command = ["ps", "-ww", "-p", str(node.get("pid", 0)), "-o", "command="]
    seen = subprocess.run(command, capture_output=True, text=True).stdout
    return "kafka.Kafka" in seen and str(folder / f"node-{node['id']}" / "server") in seen


def stop_processes(folder: Path, cluster: dict[str, Any]) -> None:
    """Ask the nodes to end; kill those that have not after 20 s."""
    alive = [node for node in cluster["nodes"] if is_our_process(folder, node)]
    for node in alive:
        os.kill(node["pid"], signal.SIGTERM)
    deadline = time.monotonic() + 20
    while alive and time.monotonic() < deadline:
        time.sleep(0.2)
        alive = [node for node in alive if is_our_process(folder, node)]
    for node in alive:
        os.kill(node["pid"], signal.SIGKILL)


# --- nodes from Docker


def docker_names(folder: Path, cluster: dict[str, Any]) -> list[str]:
    """The containers' names: they tell checkouts apart."""
    mark = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    return [f"titans-stream-kafka-{mark}-{node['id']}" for node in cluster["nodes"]]


def start_docker(folder: Path, cluster: dict[str, Any]) -> None:
    """Start every node as a container; clients come in through published loopback ports."""
    names = docker_names(folder, cluster)
    network = names[0].rsplit("-", 1)[0]
    existing = run(["docker", "network", "ls", "--format", "{{.Name}}"]).split()
    if network not in existing:
        run(["docker", "network", "create", network])
    say(f"starting apache/kafka:{cluster['version']} in Docker ...")
    for node, name in zip(cluster["nodes"], names, strict=True):
        settings = shared_settings(len(names)) | {
            "node.id": str(node["id"]),
            "controller.quorum.voters": ",".join(
                f"{i}@{each}:9093" for i, each in enumerate(names, start=1)
            ),
            "listeners": f"CLIENT://:{node['port']},INTERNAL://:9094,CONTROLLER://:9093",
            "advertised.listeners": f"CLIENT://127.0.0.1:{node['port']},INTERNAL://{name}:9094",
            "inter.broker.listener.name": "INTERNAL",
            "listener.security.protocol.map": (
                "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            ),
        }
        port = f"127.0.0.1:{node['port']}:{node['port']}"
        command = ["docker", "run", "-d", "--name", name, "--hostname", name]
        command += ["--network", network, "-p", port]
        command += ["-e", f"KAFKA_HEAP_OPTS={HEAP}", "-e", f"CLUSTER_ID={cluster['id']}"]
        for key, value in settings.items():
            command += ["-e", f"KAFKA_{key.replace('.', '_').upper()}={value}"]
        run([*command, f"apache/kafka:{cluster['version']}"])


def stop_docker(folder: Path, cluster: dict[str, Any]) -> None:
    """Remove the containers and their network."""
    names = docker_names(folder, cluster)
    network = names[0].rsplit("-", 1)[0]
    subprocess.run(["docker", "rm", "-f", "-v", *names], capture_output=True)
    subprocess.run(["docker", "network", "rm", network], capture_output=True)


# --- is it there?


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """That many bytes, or ConnectionError."""
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def count_brokers(port: int) -> int:
    """Brokers that the one at this port knows (a Metadata request, version 1); 0 if none answers.

    KRaft lists a broker once it is unfenced, that is, ready for clients.
    """
    client_id = b"kafka.py"
    body = struct.pack(">hhih", 3, 1, 1, len(client_id)) + client_id + struct.pack(">i", 0)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            sock.settimeout(2)
            sock.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", read_exactly(sock, 4))
            answer = read_exactly(sock, size)
    except OSError:
        return 0
    return int(struct.unpack(">i", answer[4:8])[0])


def is_running(folder: Path, cluster: dict[str, Any]) -> bool:
    """Whether every node's process or container is alive."""
    if cluster["source"] == "docker":
        names = set(docker_names(folder, cluster))
        if not docker_runs():
            return False
        return names <= set(run(["docker", "ps", "--format", "{{.Names}}"]).split())
    return all(is_our_process(folder, node) for node in cluster["nodes"])


def wait_until_ready(folder: Path, cluster: dict[str, Any]) -> None:
    """Wait until every node knows all nodes; StartError if one ends or time runs out."""
    wanted = len(cluster["nodes"])
    deadline = time.monotonic() + READY_SECONDS
    while True:
        if all(count_brokers(node["port"]) == wanted for node in cluster["nodes"]):
            return
        if not is_running(folder, cluster):
            raise StartError(f"a Kafka node ended; its log:\n{tail_of_logs(folder, cluster)}")
        if time.monotonic() > deadline:
            raise StartError(f"Kafka is not ready after {READY_SECONDS:.0f} s")
        time.sleep(0.2)


def tail_of_logs(folder: Path, cluster: dict[str, Any]) -> str:
    """The last lines of each node's log."""
    if cluster["source"] == "docker":
        logs_of = (["docker", "logs", "--tail", "20", n] for n in docker_names(folder, cluster))
        done = (subprocess.run(command, capture_output=True, text=True) for command in logs_of)
        return "\n".join(each.stdout + each.stderr for each in done)
    logs = [folder / f"node-{node['id']}" / "server.log" for node in cluster["nodes"]]
    return "\n".join(log.read_text(errors="replace")[-1500:] for log in logs if log.exists())


# --- commands


def start(folder: Path, nodes: int, wanted_source: str | None, secure: bool = False) -> None:
    """Start the cluster, or find it running."""
    cluster = read_cluster(folder)
    if cluster and is_running(folder, cluster):
        if len(cluster["nodes"]) != nodes:
            raise StartError(f"{len(cluster['nodes'])} node(s) already run; stop them first")
        wait_until_ready(folder, cluster)
    else:
        source = choose_source(wanted_source)
        if cluster:
            end(folder, cluster)
        if secure and (source != "maven" or nodes != 1):
            raise StartError("--secure: one node from Maven artefacts is needed")
        old = None if secure or (cluster or {}).get("secure") else cluster
        cluster = revive(old, source, nodes) or new_cluster(nodes, source)
        if secure:
            cluster["secure"] = secure_listener(folder)
        remove_data_of_others(folder, cluster)
        starter = {"maven": start_maven, "docker": start_docker}[source]
        began = time.monotonic()
        try:
            starter(folder, cluster)
            write_cluster(folder, cluster)
            wait_until_ready(folder, cluster)
        except StartError:
            end(folder, cluster)
            raise
        say(
            f"Apache Kafka {cluster['version']}, {nodes} node(s), up after "
            f"{time.monotonic() - began:.0f} s; logs in {folder}"
        )
    print(f"KAFKA_BOOTSTRAP_SERVERS={bootstrap(cluster)}", flush=True)


def revive(cluster: dict[str, Any] | None, source: str, nodes: int) -> dict[str, Any] | None:
    """The stopped cluster with its data, on new ports, if it can go on as it was."""
    if not cluster or source == "docker":
        return None
    described = (cluster["source"], cluster["version"], len(cluster["nodes"]))
    if described != (source, kafka_version(), nodes):
        return None
    fresh = new_cluster(nodes, source)
    return fresh | {"id": cluster["id"]}


def remove_data_of_others(folder: Path, cluster: dict[str, Any]) -> None:
    """Remove the data of a cluster with another id: a node refuses to start on it."""
    for home in folder.glob("node-*"):
        meta = home / "data" / "meta.properties"
        if not meta.exists() or f"cluster.id={cluster['id']}" not in meta.read_text():
            shutil.rmtree(home)


def end(folder: Path, cluster: dict[str, Any]) -> None:
    """Stop the cluster's processes or containers."""
    stopper = {"maven": stop_processes, "docker": stop_docker}[cluster["source"]]
    stopper(folder, cluster)


def stop(folder: Path) -> None:
    """Stop the cluster; its data stays."""
    cluster = read_cluster(folder)
    if cluster:
        end(folder, cluster)
    say("Apache Kafka is stopped")


def status(folder: Path) -> None:
    """Print the address if the cluster runs."""
    cluster = read_cluster(folder)
    if not cluster or not is_running(folder, cluster):
        raise StartError("Apache Kafka is not running")
    print(f"KAFKA_BOOTSTRAP_SERVERS={bootstrap(cluster)}")


def signal_node(folder: Path, number: int, what: signal.Signals) -> None:
    """Send a signal to one node's process."""
    cluster, node = find_node(folder, number)
    del cluster
    if not is_our_process(folder, node):
        raise StartError(f"node {number} does not run")
    os.kill(node["pid"], what)


def revive_node(folder: Path, number: int) -> None:
    """Start a node that was killed, with its records and on its port; the others stay as they are.

    Returns at once: the node is ready once `count_brokers` of any node tells it.
    """
    cluster, node = find_node(folder, number)
    if is_our_process(folder, node):
        return
    start_maven(folder, cluster, [node])
    write_cluster(folder, cluster)


def find_node(folder: Path, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cluster and one of its nodes."""
    cluster = read_cluster(folder)
    found = [node for node in (cluster or {"nodes": []})["nodes"] if node["id"] == number]
    if cluster is None or not found:
        raise StartError(f"there is no node {number}")
    if cluster["source"] != "maven":
        raise StartError("one node alone is handled in a Maven cluster only")
    return cluster, found[0]


def clean(folder: Path) -> None:
    """Stop the cluster and remove its jars, data and logs."""
    stop(folder)
    for each in [*folder.glob("node-*"), *folder.glob("jars*")]:
        shutil.rmtree(each)
    for name in ("cluster.json", "lock"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def main(arguments: list[str]) -> int:
    """Parse the command line and do one command; the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    everything = ["start", "stop", "status", "clean"]
    parser.add_argument("command", choices=[*everything, *NODE_SIGNALS, "revive"])
    parser.add_argument("--nodes", type=int, default=1, help="brokers, 1 to 9 (default: 1)")
    parser.add_argument("--dir", type=Path, default=Path(".kafka"), help="default: .kafka")
    parser.add_argument("--node", type=int, help="the node that is killed, frozen, ...")
    parser.add_argument("--secure", action="store_true", help="a listener with TLS and SASL, too")
    parser.add_argument("--via", choices=["maven", "docker"], help="default: what is there")
    options = parser.parse_args(arguments)
    if not 1 <= options.nodes <= 9:
        parser.error("--nodes: from 1 to 9")
    if options.command not in everything and options.node is None:
        parser.error(f"{options.command}: --node is needed")
    folder = options.dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if options.command == "start":
                start(folder, options.nodes, options.via, options.secure)
            elif options.command in NODE_SIGNALS:
                signal_node(folder, options.node, NODE_SIGNALS[options.command])
            elif options.command == "revive":
                revive_node(folder, options.node)
            else:
                {"stop": stop, "status": status, "clean": clean}[options.command](folder)
    except StartError as failure:
        say(str(failure))
        return failure.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
