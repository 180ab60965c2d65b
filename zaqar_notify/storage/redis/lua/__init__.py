"""The scripts. Each has the keys that it touches at its head."""
