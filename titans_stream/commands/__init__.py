"""The commands of `titans-stream`, one module each; heavy imports happen when a command runs."""
