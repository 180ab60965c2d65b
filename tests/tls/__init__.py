"""HTTPS without a proxy."""
