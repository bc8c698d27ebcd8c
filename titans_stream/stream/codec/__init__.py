"""Messages to readings: fields, time stamps, series ids."""
