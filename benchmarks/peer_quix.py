"""The peer of end_to_end.py: Quix Streams and River half-space trees, exactly-once.

    python peer_quix.py BOOTSTRAP TOPIC ALERTS_TOPIC READINGS

Prints its figures as one line of JSON. Runs in an environment of its own.
"""

from __future__ import annotations

import json
import sys
import time
import uuid

from quixstreams import Application
from river import anomaly

THRESHOLD = 0.95


def main() -> None:
    servers, topic_name, alerts_name, readings = sys.argv[1:5]
    total = int(readings)
    app = Application(
        broker_address=servers,
        consumer_group=f"peer-{uuid.uuid4().hex[:8]}",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=0.5,
        loglevel="ERROR",
        auto_create_topics=False,
        use_changelog_topics=False,
    )
    topic = app.topic(topic_name, value_deserializer="json")
    alerts = app.topic(alerts_name, value_serializer="json")
    models: dict[str, tuple[anomaly.HalfSpaceTrees, list[float]]] = {}
    progress = {"seen": 0, "begun": 0.0, "ended": 0.0, "cpu": 0.0, "busy": 0.0, "alerts": 0}

    def score(value: dict) -> dict | None:
        if progress["seen"] == 0:
            progress["begun"], progress["cpu"] = time.perf_counter(), time.process_time()
        progress["seen"] += 1
        if progress["seen"] == total:
            # the last commit, at most its interval later, is left out
            progress["ended"] = time.perf_counter()
            progress["busy"] = time.process_time() - progress["cpu"]
        name = f"{value['site']}/{value['machine']}"
        held = models.get(name)
        if held is None:
            held = models[name] = (
                anomaly.HalfSpaceTrees(n_trees=10, height=6, window_size=250, seed=0),
                [float("inf"), float("-inf")],
            )
        trees, limits = held
        x = value["value"]
        limits[0], limits[1] = min(limits[0], x), max(limits[1], x)
        scaled = {"x": (x - limits[0]) / ((limits[1] - limits[0]) or 1.0)}
        strange = trees.score_one(scaled)
        trees.learn_one(scaled)
        if strange <= THRESHOLD:
            return None
        progress["alerts"] += 1
        return {"series_id": name, "ts": value["ts"], "score": strange}

    frame = app.dataframe(topic).apply(score)
    frame.filter(lambda alert: alert is not None).to_topic(alerts)
    app.run(count=total, timeout=5)
    seconds = progress["ended"] - progress["begun"]
    busy = progress["busy"]
    print(
        json.dumps(
            {
                "readings_per_s": progress["seen"] / seconds,
                "cpu_us_per_reading": busy / progress["seen"] * 1e6,
                "readings_per_cpu_s": progress["seen"] / busy,
                "alert_messages": progress["alerts"],
            }
        )
    )


if __name__ == "__main__":
    main()
