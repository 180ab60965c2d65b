"""Copying from a Zaqar's databases. The architecture page has the modules; `copying.py` is the whole import."""
