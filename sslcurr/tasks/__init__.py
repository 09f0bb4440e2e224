"""Pretext tasks and target tasks: one file a task, one line in the table; other packages add theirs as plug-ins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from sslcurr.errors import SpecError
from sslcurr.plugins import Registry
from sslcurr.spec.stage import is_hashed
from sslcurr.spec.target import TARGET_TASKS

if TYPE_CHECKING:
    from sslcurr.spec.stage import StageSpec
    from sslcurr.tasks.base import Task

BUILTIN_TASKS = {
    "relative-location": "sslcurr.tasks.relative_location:RelativeLocation",
    "jigsaw": "sslcurr.tasks.jigsaw:Jigsaw",
    "rotation": "sslcurr.tasks.rotation:Rotation",
    "npid": "sslcurr.tasks.npid:NPID",
    "deepcluster": "sslcurr.tasks.deepcluster:DeepCluster",
    "odc": "sslcurr.tasks.odc:ODC",
    "simclr": "sslcurr.tasks.simclr:SimCLR",
    "mocov2": "sslcurr.tasks.mocov2:MoCoV2",
    "densecl": "sslcurr.tasks.densecl:DenseCL",
    "swav": "sslcurr.tasks.swav:SwAV",
    "byol": "sslcurr.tasks.byol:BYOL",
    "simsiam": "sslcurr.tasks.simsiam:SimSiam",
    "dino": "sslcurr.tasks.dino:DINO",
    "barlow-twins": "sslcurr.tasks.barlow_twins:BarlowTwins",
    "vicreg": "sslcurr.tasks.vicreg:VICReg",
    "masked-image": "sslcurr.tasks.masked_image:MaskedImage",
    "classification": "sslcurr.tasks.classification:Classification",
    "multilabel": "sslcurr.tasks.multilabel:MultiLabel",
    "regression": "sslcurr.tasks.regression:Regression",
}
PRETEXT = tuple(name for name in BUILTIN_TASKS if name not in TARGET_TASKS)


def _checked_task(name: str, value: object) -> type[Task]:
    """The class of a task, if it is one and has that name: it is the name that stages are found by."""
    from sslcurr.tasks.base import Task

    if not (isinstance(value, type) and issubclass(value, Task)):
        raise SpecError(
            f"{name} is no task: {value!r} is no subclass of sslcurr.tasks.base.Task",
            "docs/plugins.md says what a task is",
        )
    if getattr(value, "name", None) != name:
        raise SpecError(
            f"the class {value.__name__} calls itself {getattr(value, 'name', None)!r}, and is installed as {name}",
            f'its class needs the line name = "{name}"',
        )
    return value


TASKS: Registry[type[Task]] = Registry("task", "sslcurr.tasks", BUILTIN_TASKS, _checked_task, SpecError)


class Described(NamedTuple):
    """What a task says of itself."""

    name: str
    version: int
    summary: str
    paper: str


def described(name: str) -> Described:
    """What one of our tasks says of itself, read from its source: importing it would take seconds, for torch.

    Args:
        name: of `BUILTIN_TASKS`.
    """
    import ast
    from importlib.util import find_spec
    from pathlib import Path

    module, _, attribute = BUILTIN_TASKS[name].partition(":")
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    (kind,) = (each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == attribute)
    said = {
        target.id: statement.value.value
        for statement in kind.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    return Described(name, said["version"], said["summary"], said["paper"])  # type: ignore[arg-type]


def check_pretext(names: Sequence[str]) -> None:
    """Say at once, before anything heavy is imported, which name is no pretext task.

    Raises:
        SpecError: an unknown name, or a target task, which `chain` adds itself.
    """
    for name in names:
        if name in TARGET_TASKS:
            raise SpecError(f"{name} is no pretext task", "chain ends with it by itself; finetune trains it alone")
        if name not in TASKS:
            raise TASKS.unknown(name, without=list(TARGET_TASKS))


def task_class(name: str) -> type[Task]:
    """The class of a task by its name; imports torch.

    Raises:
        SpecError: no task has that name, or the package that brings it is broken.
    """
    return TASKS.find(name)


def config_values(config: Any) -> dict[str, Any]:
    """The settings of a task as a stage has them: those that were added later only where they are not as before."""
    hashed = {item.name for item in fields(config) if is_hashed(item, getattr(config, item.name))}
    return {name: value for name, value in asdict(config).items() if name in hashed}


def config_of(spec: StageSpec) -> Any:
    """The settings of a stage's task, an instance of its class's `Config`; specs that were read have lists for tuples.

    Raises:
        SpecError: as `task_class`.
    """
    return task_class(spec.task).Config(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in spec.config.items()}
    )
