"""What planning asks of tasks and networks: pure functions of the code, which `sslcurr.engine.answers` remembers.

They import torch.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from sslcurr.backbones import build, parts
from sslcurr.engine.answers import Machine, Resolved
from sslcurr.engine.device import placement
from sslcurr.engine.optim import corrections
from sslcurr.spec import settings
from sslcurr.spec.facts import Facts
from sslcurr.spec.stage import BackboneSpec, Json
from sslcurr.tasks import config_values, task_class

__all__ = [
    "can_have_stem",
    "check_backbone",
    "check_parts",
    "check_settings",
    "config",
    "idle",
    "input_sizes",
    "is_labelled",
    "machine",
    "resolved",
    "weights_bytes",
]


def is_labelled(task: str) -> bool:
    """Whether a task trains on labels."""
    return task_class(task).labelled


def check_settings(task: str, values: Mapping[str, str]) -> None:
    """Raises SpecError for settings that a task has not, or that make no views."""
    kind = task_class(task)
    recipe = kind.recipe(Facts(num_images=1000, class_counts=(500, 500)))
    kind.views(settings.apply(values, recipe.config, recipe.training, section=task)[0])


def resolved(task: str, facts: Facts, values: Mapping[str, str], changes: Mapping[str, Any]) -> Resolved:
    """A task's settings for given data.

    Args:
        task: its name.
        facts: of the data and the request.
        values: settings of the task that are asked for.
        changes: of the recipe's `Training`, before these.

    Raises:
        SpecError: a setting that cannot be.
    """
    kind = task_class(task)
    recipe = kind.recipe(facts)
    config, training = settings.apply(values, recipe.config, replace(recipe.training, **changes), section=task)
    return Resolved(
        config=config_values(config),
        training=training,
        version=kind.version,
        corrections=(*kind.corrections(config, training), *corrections(training)),
    )


def config(task: str, facts: Facts, values: Mapping[str, str]) -> Json:
    """The settings of a task alone, as a stage has them; those of its training among `values` change nothing."""
    recipe = task_class(task).recipe(facts)
    return config_values(settings.apply(values, recipe.config, recipe.training, section=task)[0])


def idle(task: str, values: Json) -> list[str]:
    """Names of the settings of a stage that do nothing because what they are about is off."""
    return sorted(task_class(task).Config(**values).idle())


def input_sizes(task: str, values: Json) -> list[int]:
    """Sides, in pixels, of all that the backbone of a stage with these settings will see."""
    kind = task_class(task)
    return sorted(kind.input_sizes(kind.Config(**values)))


def can_have_stem(name: str, stem: str) -> bool:
    """See `sslcurr.backbones.build.can_have_stem`."""
    return build.can_have_stem(name, stem)


def check_backbone(spec: BackboneSpec, sizes: Iterable[int]) -> None:
    """See `sslcurr.backbones.build.check_backbone`."""
    build.check_backbone(spec, sizes)


def check_parts(spec: BackboneSpec, freeze: str) -> None:
    """See `sslcurr.backbones.parts.check_parts`."""
    parts.check_parts(spec, freeze)


@cache
def weights_bytes(spec: BackboneSpec) -> int:
    """Bytes of the weights of a network, in float32; no memory is taken for them."""
    with torch.device("meta"):
        return 4 * sum(value.numel() for value in build.build(spec).state_dict().values())


def machine(device: str, precision: str) -> Machine:
    """What a training would run on here.

    Raises:
        SpecError: there is no such device.
    """
    return Machine(
        description=placement(device, precision).description,
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        host=platform.node(),
    )
