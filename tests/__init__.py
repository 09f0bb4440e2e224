"""Tests, in the folders of the package that they test."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
# Real images, where they lie beside a checkout; tests of them are skipped elsewhere.
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
