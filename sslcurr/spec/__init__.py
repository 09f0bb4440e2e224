"""What is requested: stages, settings, requests, and where they run."""
