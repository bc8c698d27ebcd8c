"""Kafka in and out: codecs, clients, worker, recovery, development broker. No torch."""
