"""Training, experiment tracking and the model registry (docs/training.md)."""
