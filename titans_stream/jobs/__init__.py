"""Jobs beside the stream: when they run, what they do, and what became of them."""
