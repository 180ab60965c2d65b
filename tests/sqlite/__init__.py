"""What is particular to the SQLite driver."""
