"""Pure rules: no store, no network, no clock of their own."""
