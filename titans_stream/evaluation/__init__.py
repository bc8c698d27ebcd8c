"""Benchmarks that a user can run: NAB, labelled telemetry, the alert budget and forecasts."""

OURS = "titans-stream"
"""The name of the service's own detector in arguments and tables."""
