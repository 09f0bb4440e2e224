"""Many chains over one store: rankings, orderings, searches, grids."""
