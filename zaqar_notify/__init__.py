"""zaqar-notify: messaging and notification with the Zaqar API. This package is the domain."""

__version__ = "0.1.0"
