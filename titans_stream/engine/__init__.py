"""The streaming engine: many series on one device, no I/O."""
