"""Quantiles of the steps ahead, learned from matured errors."""
