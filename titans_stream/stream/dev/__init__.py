"""The parts of the development broker: an Apache Kafka look-alike in one process, on loopback."""
