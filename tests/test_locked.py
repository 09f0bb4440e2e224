"""requirements/locked.txt fits pyproject.toml."""

from __future__ import annotations

import importlib.util

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import REPOSITORY


def lock_script():
    spec = importlib.util.spec_from_file_location("lock", REPOSITORY / "requirements" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCK = lock_script()
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
