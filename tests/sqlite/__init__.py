"""Promises of the SQLite driver alone."""
