"""What only the MongoDB driver promises: its plans, its fences, its start."""
