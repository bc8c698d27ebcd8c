"""Kafka in and out: codecs, clients, the worker loop, recovery, the development broker. No torch."""
