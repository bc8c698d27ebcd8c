"""The page and its API: what a connector publishes, kept for a while and shown.

A process of its own: it reads the output topics, keeps a bounded history and answers HTTP. It is
no member of the worker's consumer group and writes nothing but control messages.
"""
