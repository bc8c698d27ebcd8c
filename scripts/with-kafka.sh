#!/usr/bin/env bash
# Run a command with KAFKA_BOOTSTRAP_SERVERS set to a real Apache Kafka: the one already named
# there, one that `make kafka` started, or one that is started for the command and stopped after
# it. Where none can be had, the command runs without, and the tests that need one say so.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
if [ -z "${KAFKA_BOOTSTRAP_SERVERS:-}" ]; then
  if line=$("$python" scripts/kafka.py status 2>/dev/null); then
    export KAFKA_BOOTSTRAP_SERVERS="${line#*=}"
  elif line=$("$python" scripts/kafka.py start); then
    export KAFKA_BOOTSTRAP_SERVERS="${line#*=}"
    trap '"$python" scripts/kafka.py stop >&2' EXIT
  else
    echo "no Apache Kafka could be started: the tests that need one are skipped" >&2
  fi
fi
"$@"
