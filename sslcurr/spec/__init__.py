"""What is asked for: stages, settings, requests, and where they run."""
