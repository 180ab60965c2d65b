"""What every storage driver must do: `zaqar_notify/storage/base.py`, promise by promise."""
