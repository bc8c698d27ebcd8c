"""Running the service: storage of snapshots."""
