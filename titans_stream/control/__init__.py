"""What operators tell a running worker: the messages of the control topic."""
