"""What planning has asked of tasks and networks before, remembered in the store: looking it up takes no torch.

A plan needs of torch only what the code says, such as the recipe of a task: a function of the code and of a few plain
values. A question that was answered once, by the same code, Python, torch and timm, is not asked again. Nothing of the
data, of the store or of a training is remembered here, and nothing of the tasks of other packages or of this process.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sslcurr.engine.hardware import may_have_gpus
from sslcurr.errors import StoreError
from sslcurr.files import read_as, write_record
from sslcurr.integrity import digest_of_program
from sslcurr.spec.facts import Facts
from sslcurr.spec.stage import BackboneSpec, Json, Training, part_from_dict, to_dict
from sslcurr.tasks import TASKS

FOLDER = "answers"
# Of the surroundings, all that decides how many threads torch takes.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A task's settings for given data: its own as a stage has them, and those of its training; its version and what
    was corrected since."""

    config: Json
    training: Training
    version: int
    corrections: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a training would run on: the device's name, CPU threads, the version of torch, the computer."""

    description: str
    threads: int
    torch: str
    host: str


class Kept(msgspec.Struct):
    """An answer, as in a file: what was asked, and what the code said."""

    question: str
    answer: Any


class Answers:
    """Asks the code, and keeps what it says.

    In a process that has torch already nothing is looked up and nothing kept: there is nothing to gain, and its tasks
    may be others.

    Args:
        root: the folder of a store; None keeps nothing.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._remembers = root is not None and "torch" not in sys.modules
        self._known: dict[str, Any] = {}

    def is_labelled(self, task: str) -> bool:
        """Whether a task trains on labels."""
        return self._ask("is_labelled", task, by=task)

    def check_settings(self, task: str, values: Mapping[str, str]) -> None:
        """Raises SpecError for settings that a task has not, or that make no views."""
        self._ask("check_settings", task, values, by=task)

    def resolved(self, task: str, facts: Facts, values: Mapping[str, str], changes: Mapping[str, Any]) -> Resolved:
        """A task's settings for given data: see `sslcurr.engine.recipes.resolved`."""
        return self._ask("resolved", task, facts, values, changes, by=task, read=_resolved)

    def config(self, task: str, facts: Facts, values: Mapping[str, str]) -> Json:
        """The settings of a task alone."""
        return self._ask("config", task, facts, values, by=task, read=_tuples)

    def idle(self, task: str, values: Json) -> list[str]:
        """Names of the settings of a stage that do nothing because what they are about is off."""
        return self._ask("idle", task, values, by=task)

    def input_sizes(self, task: str, values: Json) -> list[int]:
        """Sides, in pixels, of all that the backbone of a stage will see."""
        return self._ask("input_sizes", task, values, by=task)

    def can_have_stem(self, name: str, stem: str) -> bool:
        """Whether timm has a network `name` that can have the stem."""
        # A network that timm has not may be one that a package adds: only yes is remembered.
        return self._ask("can_have_stem", name, stem, keep=bool)

    def check_backbone(self, spec: BackboneSpec, sizes: Iterable[int]) -> None:
        """Raises SpecError for a network that timm has not, or that cannot process images of these sizes."""
        self._ask("check_backbone", spec, sorted(set(sizes)))

    def check_parts(self, spec: BackboneSpec, freeze: str) -> None:
        """Raises SpecError for a part that a network has not."""
        self._ask("check_parts", spec, freeze)

    def weights_bytes(self, spec: BackboneSpec) -> int:
        """Bytes of the weights of a network."""
        return self._ask("weights_bytes", spec)

    def machine(self, device: str, precision: str) -> Machine:
        """What a training would run on here; where there may be GPUs, torch is asked each time.

        Raises:
            SpecError: there is no such device.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        here = [platform.node(), may_have_gpus(), cores, {name: os.environ.get(name) for name in THREADS}]
        read, keep = (lambda plain: Machine(**plain)), (lambda _: not may_have_gpus())
        return self._ask("machine", device, precision, here=here, read=read, keep=keep)

    def _ask(
        self,
        function: str,
        *arguments: Any,
        by: str | None = None,
        here: Any = None,
        read: Callable[[Any], Any] = lambda plain: plain,
        keep: Callable[[Any], bool] = lambda answer: True,
    ) -> Any:
        """What a function of `sslcurr.engine.recipes` says.

        Args:
            function: its name.
            arguments: for it.
            by: the task that is asked; those of other packages are not remembered.
            here: what else the answer depends on.
            read: makes an answer of plain values.
            keep: whether an answer is remembered.
        """
        if not self._remembers or (by is not None and not TASKS.is_ours(by)):
            return self._said(function, arguments)
        question = msgspec.json.encode([function, to_dict(arguments), here], order="sorted").decode()
        if question not in self._known:
            self._known[question] = self._kept(question, function, arguments, read, keep)
        return self._known[question]

    def _kept(
        self,
        question: str,
        function: str,
        arguments: tuple[Any, ...],
        read: Callable[[Any], Any],
        keep: Callable[[Any], bool],
    ) -> Any:
        """The answer of the store, or else that of the code, which is then in the store."""
        assert self._root is not None
        name = f"{function}-{hashlib.sha256(question.encode()).hexdigest()[:16]}.json"
        path = self._root / FOLDER / digest_of_code() / name
        with suppress(StoreError):
            kept = read_as(path, Kept)
            if kept.question == question:
                return read(kept.answer)
        answer = self._said(function, arguments)
        if keep(answer):
            with suppress(OSError):  # a store that cannot be written is heard of elsewhere
                _folder_of_this_code(path.parent)
                write_record(path, {"question": question, "answer": to_dict(answer)})
        return answer

    @staticmethod
    def _said(function: str, arguments: tuple[Any, ...]) -> Any:
        return getattr(importlib.import_module("sslcurr.engine.recipes"), function)(*arguments)


def _resolved(plain: Json) -> Resolved:
    training = part_from_dict(Training, plain["training"])
    corrections = tuple(plain["corrections"])
    return Resolved(**{**plain, "config": _tuples(plain["config"]), "training": training, "corrections": corrections})


def _tuples(plain: Json) -> Json:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}


def _folder_of_this_code(folder: Path) -> None:
    """Make the folder for answers of this code, and remove those of other code."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for other in folder.parent.iterdir():
            if other.name != folder.name:
                for path in other.iterdir():
                    path.unlink()
                other.rmdir()


@functools.cache
def digest_of_code() -> str:
    """Of all that answers depend on beside what is asked: this package, Python, torch, timm."""
    return digest_of_program(("torch", "timm")).hex()[:16]
