"""The contract of storage drivers (`zaqar_notify/storage/base.py`), promise by promise."""
