"""Delivery adapters, one per kind of subscriber URI, and the address guard."""
