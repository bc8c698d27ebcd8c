"""The finder of a series' period."""
