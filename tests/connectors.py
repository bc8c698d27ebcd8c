"""Connectors of the tests that need no Kafka."""

from __future__ import annotations

SETTINGS = """
name: plant
kafka: {bootstrap_servers: "127.0.0.1:1"}
input: {topic: in, series: "{s}", value: v}
output: {alerts: alerts}
"""
