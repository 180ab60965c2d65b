"""The delivery engine and the processes that run it."""
