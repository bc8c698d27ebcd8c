"""Forecasts from memories carried along the stream, batched over series (docs/forecasting.md)."""
