"""What a stage is, what a command becomes, the store of finished stages, and the only training loop."""
