"""What operators meet: starting, watching and examining processes."""
