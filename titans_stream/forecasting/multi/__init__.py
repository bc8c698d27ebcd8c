"""Forecasts of many steps: slot memory, heads, own weights, fallback."""
