"""What can run a network."""
