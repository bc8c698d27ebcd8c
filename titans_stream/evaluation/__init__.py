"""Benchmarks that a user can run: NAB, labelled telemetry and the alert budget."""
