"""Some hundred cases of all kinds; `python -m tests.fuzz --cases 100000` for more."""

from __future__ import annotations

from tests.fuzz.kinds import KINDS
from tests.fuzz.run import run_cases


def test_whatever_comes_in_ends_in_a_result_or_an_error():
    outcome = run_cases(250, processes=1)  # the start of each costs as much as a hundred cases
    assert outcome.failures == []
    assert {kind for kind, _ in outcome.counts} == {kind.__name__ for kind in KINDS}
    assert {said for _, said in outcome.counts} == {"right", "refused"}
