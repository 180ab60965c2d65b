"""The contract of storage drivers (`zaqar_notify/storage/base/`), promise by promise."""
