"""The document of rankings."""

from __future__ import annotations

Ordering = tuple[str, ...]


CURRICULUM, ANTI, MIXED, TIED, SINGLE = "curriculum", "anti-curriculum", "mixed", "tied", "single"
