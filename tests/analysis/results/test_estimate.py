"""Figures as they are written."""

from __future__ import annotations

from sslcurr.analysis.results.estimate import points, signed


def test_what_rounds_to_zero_has_no_minus():
    assert points(-2.8e-17, -1.0, 1.0) == "+0.0 (-100.0 to +100.0)"
    assert points(-0.0004, -0.0004, 0.0123) == "+0.0 (+0.0 to +1.2)"
    assert signed(-0.004, 2) == "+0.00"
    assert signed(-0.006, 2) == "-0.01"
