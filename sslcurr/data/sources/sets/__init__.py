"""The named data sets: one file for each family of them, and what they share in `entry` and `listing`."""
