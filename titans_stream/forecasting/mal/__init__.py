"""The neural residual on top of the forecasts: memory, then attention (MAL)."""
