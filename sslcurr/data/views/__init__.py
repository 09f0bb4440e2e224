"""What the network is shown: views drawn and rendered in batches."""
