"""The library under the commands: docs/library.md runs, imports stay light, mistakes are the commands'."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import sslcurr
from sslcurr.api.lab import Lab
from sslcurr.api.options import option_names
from sslcurr.errors import SpecError
from tests import REPOSITORY

PAGE = REPOSITORY / "docs" / "library.md"


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) >= 7
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    ranking, chain = names["ranking"], names["chain"]
    assert sorted(ranking.curriculum) == ["relative-location", "rotation"]
    assert ranking.failed == []
    assert [stage.reused for stage in chain.stages] == [True, True]
    assert chain.downstream.interval[0] <= chain.downstream.balanced_accuracy <= chain.downstream.interval[1]
    assert names["again"].to_json() == ranking.to_json()
    assert names["header"].tasks[-1] == "classification"
    assert "did you mean rotation?" in names["error"].hint if "error" in names else True


def test_import_loads_neither_torch_nor_numpy():
    code = (
        "import sys; before = len(sys.modules); import sslcurr;"
        "assert not {'torch', 'numpy', 'pandas', 'rich', 'typer', 'msgspec'} & set(sys.modules), sorted(sys.modules);"
        "assert len(sys.modules) - before < 60, len(sys.modules) - before"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_documents_load_neither_torch_nor_numpy():
    code = (
        "import sys; from sslcurr.analysis.results.kinds import KINDS, document_class;"
        "[document_class(kind) for kind in KINDS];"
        "assert not {'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_every_public_name_is_there():
    for name in sslcurr.__all__:
        assert getattr(sslcurr, name) is not None
    assert dir(sslcurr) == sslcurr.__all__
    with pytest.raises(AttributeError, match="has no attribute 'lab'"):
        _ = sslcurr.lab


def test_an_unknown_option_is_a_mistake_with_a_hint(tmp_path):
    with pytest.raises(SpecError, match="there is no option 'epoch'") as caught:
        Lab(tmp_path, epoch=3)
    assert caught.value.hint == "did you mean epochs?"
    with pytest.raises(SpecError, match="there is no option 'orderings'"):
        Lab(tmp_path).grid(["rotation"], orderings="all")
    with pytest.raises(SpecError, match="settings are several"):
        Lab(tmp_path, settings="rotation.lr=0.1")


def test_options_are_those_of_requests_and_runtimes():
    from dataclasses import fields

    from sslcurr.spec.request import Request
    from sslcurr.spec.runtime import Pooling, Runtime

    ours = {item.name for kind in (Request, Runtime, Pooling) for item in fields(kind)}
    # What only a library caller that watches a training sets.
    assert ours - {"save_steps", "log_steps"} == option_names() - {"plot"}


def test_every_call_is_on_the_page():
    calls = {name for name in vars(Lab) if not name.startswith("_")}
    named = set(re.findall(r"`(\w+)`", PAGE.read_text().split("## Calls")[1]))
    assert calls <= named
