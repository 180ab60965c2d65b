"""Push: Zaqar's WebSocket API."""
