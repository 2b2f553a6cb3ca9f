"""The backends that run a network."""
