"""A series' period, found from its stream."""
