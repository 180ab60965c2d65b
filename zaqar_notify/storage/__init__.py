"""Storage: the contract every driver keeps, and the drivers."""
