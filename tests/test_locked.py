"""requirements/locked.txt fits pyproject.toml."""

from __future__ import annotations

import importlib.util
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import REPOSITORY


def script(name):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "requirements" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCK, AUDIT = script("lock"), script("audit")
LINES = [line for line in LOCK.LOCKED.read_text().splitlines() if not line.startswith("#")]


def test_every_requirement_is_locked_within_its_range_but_for_the_build_of_torch():
    locked = {requirement.name: requirement.specifier for requirement in map(Requirement, LINES)}
    for requirement in LOCK.direct_requirements():
        name = canonicalize_name(requirement.name)
        if LOCK.left_to_pip(name):
            assert name not in locked
            continue
        (exact,) = locked[name]
        assert exact.operator == "=="
        assert requirement.specifier.contains(exact.version), f"{name}: run python requirements/lock.py"


def test_a_line_is_a_name_and_a_version_and_nothing_else():
    for line in LINES:
        name, _, version = line.partition("==")
        assert name == canonicalize_name(name)
        assert version
        assert not set(line) & set("/@:; ")
    assert sorted(LINES, key=lambda line: line.partition("==")[0]) == LINES
    assert not [line for line in LINES if LOCK.left_to_pip(line.partition("==")[0])]


def test_the_closure_follows_extras_and_leaves_out_what_nothing_needs(monkeypatch):
    class Installed:
        def __init__(self, version, *requires):
            self.version, self.requires = version, requires

    installed = {
        "a": Installed("1.0", "b[fast]>=2", "never; python_version < '3'"),
        "b": Installed("2.1", "c; extra == 'fast'", "d; extra == 'slow'"),
        "c": Installed("3.0", "a"),
        "d": Installed("4.0"),
        "not-needed": Installed("5.0"),
    }
    monkeypatch.setattr(LOCK, "distribution", installed.__getitem__)
    assert LOCK.installed_versions([Requirement("a")]) == {"a": "1.0", "b": "2.1", "c": "3.0"}


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        ([], 0, ["not audited: no advisories are to be had here; 3 versions, locked on 2026-01-02"]),
        ([{"name": "a", "skip_reason": "not found"}], 0, None),
        ([{"name": "a", "version": "1", "vulns": []}], 0, ["1 of 3 versions audited, 0 known vulnerabilities"]),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2", "3"]}]}, {"name": "b"}],
            1,
            ["a 1: X-1, mended in 2, 3", "1 of 3 versions audited, 1 known vulnerabilities"],
        ),
        ([{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": []}]}], 1, None),
    ],
)
def test_a_known_vulnerability_fails_and_no_answer_is_said(found, code, said):
    lines, exit_code = AUDIT.verdict(found, 3, "2026-01-02")
    assert exit_code == code
    assert said is None or lines == said


def test_all_locked_versions_are_audited_with_the_build_of_torch():
    asked = AUDIT.versions()
    assert set(LINES) < set(asked)
    torch_line = next(line for line in asked if line.startswith("torch=="))
    assert "+" not in torch_line
    assert re.search(r"Locked on \d{4}-\d\d-\d\d\.", AUDIT.LOCKED.read_text())
