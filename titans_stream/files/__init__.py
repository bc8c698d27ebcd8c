"""Files of readings: CSV in wide and long form."""
