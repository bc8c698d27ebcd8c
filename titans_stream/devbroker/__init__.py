"""A development broker: enough of Kafka, in one process, for demos and tests."""
