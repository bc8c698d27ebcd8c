"""The forecast of the next reading: `expected`, `lower` and `upper` of every score."""
