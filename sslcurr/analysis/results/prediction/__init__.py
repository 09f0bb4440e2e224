"""What a finished model says of images."""
