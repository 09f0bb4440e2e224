"""Tasks and data sets of other packages: docs/plugins.md is the package that is installed here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest

import sslcurr.testing
from sslcurr.data.sources import catalog
from sslcurr.data.sources.catalog import CATALOG
from sslcurr.errors import DataError, SpecError
from sslcurr.plugins import Registry
from sslcurr.spec import settings
from sslcurr.tasks import BUILTIN_TASKS, TASKS
from sslcurr.testing import CHECKS, check_task
from tests import REPOSITORY
from tests.conftest import QUICK

PAGE = (REPOSITORY / "docs" / "plugins.md").read_text()
# The files that the page shows, by path.
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.M | re.S))
TASK = "acme-ssl/swap"

# Runs commands in one process, as each would be run in its own, then the page's test; torch is imported once.
SCRIPT = """
import json, sys
from pathlib import Path
import pytest
from typer.testing import CliRunner
from sslcurr.cli.app import app

results, key = [], ""
for arguments in json.loads(sys.argv[1]):
    arguments = [key if each == "KEY" else each for each in arguments]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    results.append([result.exit_code, result.stdout, result.stderr])
    if arguments[0] == "chain" and not result.exit_code:
        key = json.loads(result.stdout)["stages"][0]["key"]
    Path("results.json").write_text(json.dumps(results))
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/test_swap.py"]))
"""


def install(site: Path, distribution: str, code: str, **groups: list[str]) -> None:
    """What pip leaves of a package of one module, by hand."""
    module = distribution.lower().replace("-", "_").replace(".", "_")
    (site / f"{module}.py").write_text(code)
    about = site / f"{module}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    sections = [f"[sslcurr.{group}]\n" + "\n".join(lines) for group, lines in groups.items()]
    (about / "entry_points.txt").write_text("\n\n".join(sections) + "\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


def tasks_here():
    """The table of tasks as a process has it that starts now."""
    return Registry(TASKS.noun, TASKS.group, BUILTIN_TASKS, TASKS.check, TASKS.error)


# ---- the page


@pytest.mark.long
def test_the_page_shows_a_package_that_installs_lists_trains_and_passes_the_suite(tmp_path):
    if not (find_spec("pip") and find_spec("setuptools")):
        pytest.skip("pip and setuptools, which install the package, are not here")
    home, site = tmp_path / "acme", tmp_path / "site"
    for path, content in {**FILES, "acme_ssl/__init__.py": ""}.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(content)
    quiet = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "install", *quiet, "--target", site, home], check=True)
    install(site, "Broken.SSL", "import nothing_of_that_name", tasks=["half = broken_ssl:Half"])
    quick = ("--dataset", "acme-ssl/shapes", *QUICK, "--backbone", "test_resnet", "--set", f"{TASK}.hidden=16")
    commands = {
        "tasks": ["tasks"],
        "settings": ["tasks", "show", TASK, "--set", f"{TASK}.hidden=16", "--json"],
        "views": ["tasks", "show", TASK, "--dataset", "acme-ssl/shapes", "--out", "views.png", "--json"],
        "broken": ["tasks", "show", "broken-ssl/half"],
        "misspelt": ["chain", "acme-ssl/swop", *quick],
        "data": ["data", "list", "--json"],
        "chain": ["chain", TASK, "rotation", *quick, "--json"],
        "again": ["chain", TASK, "rotation", *quick, "--dry-run", "--json"],
        "rank": ["rank", TASK, "rotation", *quick, "--seeds", "1", "--orderings", f"{TASK},rotation", "--plot",
                 "figures", "--json"],
        "report": ["report", "--out", "report.html"],
        "runs": ["runs", "--stages", "--json"],
        "export": ["export", "KEY", "--json"],
    }  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{REPOSITORY}", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(list(commands.values()))],
        cwd=home, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-4000:] + process.stderr[-4000:]
    results = dict(zip(commands, json.loads((home / "results.json").read_text()), strict=True))
    failed = {"broken", "misspelt"}
    assert {name for name, (code, _, _) in results.items() if code} == failed

    _, listed, notes = results["tasks"]
    assert f"{TASK} " in listed
    assert "rotation" in listed
    assert "broken-ssl/half" not in listed
    assert notes.count("\n") == 1
    assert "broken-ssl" in notes
    error, hint = results["broken"][2].splitlines()
    assert "broken-ssl" in error
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in error
    assert "pip uninstall broken-ssl" in hint
    assert f"did you mean {TASK}?" in results["misspelt"][2]

    documents = {
        name: json.loads(out) for name, (_, out, _) in results.items() if name not in {"tasks", "report"} | failed
    }
    assert documents["settings"]["resolved"]["hidden"] == 16
    assert documents["settings"]["imagenet"]["hidden"] == 512
    assert documents["settings"]["meanings"]["hidden"] == "Width of the hidden layer of the head."
    assert documents["views"]["resolved"]["image_size"] == 24
    assert "acme-ssl/shapes" in {each["name"] for each in documents["data"]["datasets"]}
    first, *_ = documents["chain"]["stages"]
    assert first["task"] == TASK
    assert all(stage["reused"] for stage in documents["again"]["stages"])
    assert set(documents["rank"]["curriculum"]) == {TASK, "rotation"}
    trained = documents["runs"]["stages"]
    assert [TASK, "rotation", "classification"] in [stage["tasks"] for stage in trained]
    assert {stage["dataset"] for stage in trained} == {"acme-ssl/shapes"}
    for name in ("views.png", "report.html", "acme-ssl-swap-timm.safetensors", *documents["rank"]["files"]):
        assert (home / name).is_file()
    assert TASK in (home / "report.html").read_text()


def test_the_page_says_what_every_check_is_for():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.M))
    assert rows == {name: " ".join(function.__doc__.split()) for name, function in CHECKS.items()}


# ---- the table


def test_names_follow_the_distribution_and_nothing_of_it_is_imported_before_it_is_asked_for(
    site,
):
    install(site, "Acme.SSL_tasks", "import sys; sys.exit('imported')", tasks=["blocks = acme_ssl_tasks:Blocks"])
    tasks = tasks_here()
    assert list(tasks) == [*BUILTIN_TASKS, "acme-ssl-tasks/blocks"]
    assert len(tasks) == len(BUILTIN_TASKS) + 1
    assert "acme-ssl-tasks/blocks" in tasks
    assert "acme-ssl-tasks/others" not in tasks
    assert "blocks" not in tasks
    assert 3 not in tasks
    with pytest.raises(KeyError):
        tasks["acme-ssl-tasks/others"]


def test_while_only_our_names_are_used_nobody_looks_for_packages(monkeypatch):
    monkeypatch.setattr(Registry, "_others", None)
    assert tasks_here()["rotation"].name == "rotation"
    assert "rotten" not in TASKS
    assert catalog.find_source("fashion").name == "fashion"


BROKEN = {
    "an import that fails": ("raise ValueError('two\\nlines')", "broken:Task", "ValueError: two lines"),
    "no such attribute": ("", "broken:Task", "AttributeError"),
    "no attribute": ("", "broken", "is no subclass of"),
    "nonsense": ("", "broken task", "importing broken task fails"),
    "not a task": ("Task = 3", "broken:Task", "3 is no subclass of sslcurr.tasks.base.Task"),
    "another name": (
        "from sslcurr.tasks.rotation import Rotation as Task",
        "broken:Task",
        "calls itself 'rotation', and is installed as broken/one",
    ),
    "two of one name": ("Task = Other = 3", "broken:Task\none = broken:Other", "two entry points"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_package_is_one_error_when_it_is_asked_for_and_hides_no_other(case, site):
    code, target, message = BROKEN[case]
    install(site, "broken", code, tasks=[f"one = {target}"])
    tasks = tasks_here()
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        tasks.find("broken/one")
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    usable, notes = tasks.listing()
    assert list(usable) == list(BUILTIN_TASKS)
    assert len(notes) == 1
    assert message in notes[0]
    assert "broken" in notes[0]


def test_an_entry_point_needs_a_name_that_commands_can_take(site):
    install(site, "broken", "", tasks=["One.Two = broken:Task"])
    with pytest.raises(SpecError, match="has a name that commands cannot take"):
        tasks_here().find("broken/One.Two")


def test_an_unknown_name_says_which_package_is_missing_or_what_is_near(site):
    install(site, "acme", "", tasks=["blocks = acme:Blocks"])
    with pytest.raises(SpecError, match="unknown task 'other/blocks'") as missing:
        tasks_here().find("other/blocks")
    assert missing.value.hint == "no installed package other brings one; did you mean acme/blocks?"
    with pytest.raises(SpecError, match="unknown task 'acme/block'") as near:
        tasks_here().find("acme/block")
    assert near.value.hint == "did you mean acme/blocks?"
    for folder in ("/data/acme", "acme/"):
        assert "no installed package" not in tasks_here().unknown(folder).hint


def test_something_put_into_the_table_is_there_for_this_process():
    tasks = tasks_here()
    kind = type("Mine", (tasks["rotation"],), {"name": "notebook/mine"})
    tasks["notebook/mine"] = kind
    assert tasks.find("notebook/mine") is kind
    assert "notebook/mine" in list(tasks)
    del tasks["notebook/mine"]
    assert "notebook/mine" not in tasks
    with pytest.raises(SpecError, match=r"cannot be called 'my\.task'"):
        tasks["my.task"] = kind
    with pytest.raises(SpecError, match="calls itself 'notebook/mine', and is installed as notebook/yours"):
        tasks["notebook/yours"] = kind


def test_settings_of_a_plugin_have_its_whole_name():
    parsed = settings.parse(["acme-ssl-tasks/two_blocks.lr=0.1", "data.val=0.2"], ["acme-ssl-tasks/two_blocks", "data"])
    assert parsed == {"acme-ssl-tasks/two_blocks": {"lr": "0.1"}, "data": {"val": "0.2"}}


# ---- data sets


def test_a_data_set_of_another_package(site, tmp_path, monkeypatch):
    install(site, "acme-ssl", FILES["acme_ssl/shapes.py"], datasets=["shapes = acme_ssl:SHAPES", "no = acme_ssl:SIZE"])
    monkeypatch.setattr(CATALOG, "_entries", None)
    monkeypatch.setattr(CATALOG, "_loaded", {})
    source = catalog.find_source("acme-ssl/shapes")
    assert source.name == "acme-ssl/shapes"
    assert len(source.names) == len(source.arrays) == 120
    with pytest.raises(DataError, match="acme-ssl/no is no data set: 24 is no Entry"):
        catalog.find_source("acme-ssl/no")
    with pytest.raises(DataError, match="unknown data set 'acme-ssl/shape'") as near:
        catalog.find_source("acme-ssl/shape")
    assert near.value.hint == "did you mean acme-ssl/shapes?"
    usable, notes = CATALOG.listing()
    assert list(usable) == [*catalog.BUILTIN_DATASETS, "acme-ssl/shapes"]
    assert len(notes) == 1
    # The name of a data set wins over a folder, whose path then begins with a dot.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme-ssl" / "shapes").mkdir(parents=True)
    assert catalog.find_source("acme-ssl/shapes").root is None
    with pytest.raises(DataError, match="no images"):
        catalog.find_source("./acme-ssl/shapes")


# ---- the suite


def test_the_suite_is_imported_when_it_is_used():
    code = "import sys, sslcurr.testing; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=REPOSITORY).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'chek_task'"):
        sslcurr.testing.chek_task  # noqa: B018


@pytest.fixture(scope="module")
def swap():
    """The task of the page, as a class that is not installed."""
    scope = {"__name__": "swap"}
    module = type(sys)("swap")
    sys.modules["swap"] = module
    exec(compile(FILES["acme_ssl/swap.py"], "swap.py", "exec"), module.__dict__, None)
    yield module.Swap
    del sys.modules["swap"], scope


def faults(swap):
    """Ways to break a task: what is changed of its class, which check sees it, and what that says."""
    import torch

    from sslcurr.tasks.base import Loss

    def counting(self, batch, tick):
        self.calls = getattr(self, "calls", 0) + 1
        out = swap.loss(self, batch, tick)
        return replace(out, value=out.value * self.calls)

    def builds(register):
        def build(self, *arguments):
            swap.__init__(self, *arguments)
            register(self)

        return build

    def remembering(self, batch, tick):
        self.memory += 1
        return swap.loss(self, batch, tick)

    def forgetful(self, batch, out, tick):
        self.seen = getattr(self, "seen", 0) + 1

    def weary(self, batch, tick):
        out = swap.loss(self, batch, tick)
        return replace(out, value=out.value / (1 + getattr(self, "seen", 0)))

    def doubled_in_bf16(self, batch, tick):
        out = swap.loss(self, batch, tick)
        return replace(out, value=out.value * (1 + torch.is_autocast_enabled("cpu")))

    def weighted(self, batch, tick):
        # A weighted mean that does not say so: images count by their places.
        logits = self.head(self.backbone(batch.views[0]))
        weights = 1.0 + batch.index
        return Loss((logits.square().mean(dim=1) * weights).sum() / weights.sum())

    def detached(self, batch, tick):
        out = swap.loss(self, batch, tick)
        return replace(out, value=out.value.detach() + sum(p.sum() for p in self.head.parameters()))

    def batches_of_512(facts):
        recipe = swap.recipe(facts)
        return replace(recipe, training=replace(recipe.training, batch_size=512))

    def misshapen(self, batch):
        return {"views": batch.views[0][:2]}

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Unwritable(swap.Config):
        quarters: frozenset = frozenset(range(4))

    memory = builds(lambda self: self.register_buffer("memory", torch.zeros(1)))
    return {
        "summary": ({"summary": ""}, "it_says_what_it_is", "the summary has 0 characters"),
        "paper": ({"paper": "http://acme"}, "it_says_what_it_is", "no address that begins with https://"),
        "config": ({"Config": Unwritable}, "its_settings_survive_the_store", "Config has values that JSON cannot hold"),
        "recipe": ({"recipe": staticmethod(batches_of_512)}, "recipes_fit_any_size_of_data", "more images than"),
        "pictures": ({"pictures": misshapen}, "its_pictures_are_of_every_image", r"is \(2, 1, 16, 16\)"),
        "memory": ({"__init__": memory, "loss": remembering}, "loss_changes_no_state", r"loss\(\) changed memory"),
        "plain": (
            {"__init__": builds(lambda self: setattr(self, "memory", torch.zeros(1)))},
            "all_state_is_in_the_state_dict",
            r"plain tensors \(memory\)",
        ),
        "unsaved": (
            {"__init__": builds(lambda self: self.register_buffer("memory", torch.zeros(1), persistent=False))},
            "all_state_is_in_the_state_dict",
            "buffers that are not saved: memory",
        ),
        "resume": (
            {"after_step": forgetful, "loss": weary},
            "killed_anywhere_and_run_again_equals_uninterrupted",
            "metrics.csv differs after a resume",
        ),
        "gradients": (
            {"loss": detached},
            "every_size_of_batch_gives_a_finite_loss_and_gradients",
            "has no gradient from 2 images",
        ),
        "golden": ({}, "loss_curve_is_that_of_its_version", "there is no .*swap-v1.json: run it once with"),
        "clock": ({"loss": counting}, "killed_anywhere_and_run_again_equals_uninterrupted", "differs after a resume"),
        "bf16": ({"loss": doubled_in_bf16}, "bf16_trains_in_the_same_loop", "compute it in full_precision"),
        "parts": ({"loss": weighted}, "a_step_in_parts_is_the_step_in_one", r"give Loss\(weight=...\) where the loss"),
        "coupling": ({"coupling": "others"}, "a_step_in_parts_is_the_step_in_one", "loss depends on 'others'"),
    }  # fmt: skip


FAULTS = [
    *("summary", "paper", "config", "recipe", "pictures", "memory", "plain", "unsaved"),
    *("resume", "gradients", "golden", "clock", "bf16", "parts", "coupling"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_suite_sees_what_is_wrong_with_a_task(fault, swap, tmp_path):
    every = faults(swap)
    assert list(every) == FAULTS
    changes, check, message = every[fault]
    kind = type("Faulty", (swap,), {"name": "acme-ssl/faulty", "__doc__": "Faulty.", **changes})
    with pytest.raises(AssertionError, match=message) as caught:
        check_task(kind, settings=["hidden=16"], checks=[check], golden=tmp_path / "swap-v1.json")
    assert caught.value.__notes__[0] == f"check of acme-ssl/faulty: {check.replace('_', ' ')}"
    assert "acme-ssl/faulty" not in TASKS


def test_a_golden_curve_is_written_and_compared(swap, tmp_path, monkeypatch):
    ask = {"settings": ["hidden=16"], "checks": ["loss_curve_is_that_of_its_version"], "golden": tmp_path / "swap.json"}
    with monkeypatch.context() as patch:
        patch.setenv("SSLCURR_WRITE_GOLDEN", "1")
        check_task(swap, **ask)
    check_task(swap, **ask)
    losses = json.loads(ask["golden"].read_text())
    ask["golden"].write_text(json.dumps([losses[0] + 0.1, *losses[1:]]))
    with pytest.raises(AssertionError, match="Mismatched elements: 1"):
        check_task(swap, **ask)
