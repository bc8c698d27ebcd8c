"""Anomaly detection: state in, state out, batched over series (docs/method.md)."""
