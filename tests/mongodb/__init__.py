"""Promises of the MongoDB driver alone: its plans, its fences, its start."""
