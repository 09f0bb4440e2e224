"""The plan of a command: what it would train, with every value resolved."""
