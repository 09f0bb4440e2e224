"""A table for a new task, to be filled in: `python -m tests.recipe TASK > tests/recipes/TASK.toml`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from sslcurr.tasks import task_class
from sslcurr.tasks.base import Facts

IMAGENET = Facts(num_images=1_281_167, class_counts=(1281,) * 1000, image_size=224)
SMALL = Facts(num_images=900, class_counts=(300,) * 3, image_size=224)
# How a stage is computed, not what: these are no part of any recipe.
COMPUTED = {"accumulate", "precision"}
# Settings of fine-tuning, which are off in every recipe.
OFF = {"freeze": "none", "layer_decay": 1.0, "head_warmup": 0.0, "mixup": 0.0}
# Settings that are themselves the switch of something; what depends on them may do nothing.
SWITCHES = {"vertical_flip", "rotation", "jitter", "gray", "blur", "solarize"}

HEAD = """\
# What the recipe of {task} takes from whom, for ImageNet: 1,281,167 images of 1,000 classes at 224 px.
# A row is {{ authors = VALUE, source = NAME }}; where ours differs it has ours = VALUE, reason = TEXT, too, and
# docs/tasks.md has "- `NAME` OURS (theirs AUTHORS): REASON".
# A recipe of our own has the line own = true, no sources, and rows of ours = VALUE.

[sources]
code = ""
"""
SMALL_HEAD = """
# Where the recipe for 900 images of three classes differs from that, and what docs/tasks.md says of it.
[small]
"""


def template(task: str) -> str:
    """The table of a task with our values as the authors', and a row for each value that small data changes."""
    kind = task_class(task)
    values = values_of(kind.recipe(IMAGENET))
    text = HEAD.format(task=task)
    for part, settings in values.items():
        rows = [f'{name} = {{ authors = {json.dumps(value)}, source = "code" }}' for name, value in settings.items()]
        text += f"\n[{part}]\n" + "\n".join(rows) + "\n"
    rows = [
        f'{name} = {{ value = {json.dumps(value)}, stated = "SAY IT" }}'
        for name, value in changed_by_small_data(task).items()
    ]
    return text + SMALL_HEAD + "\n".join(rows) + "\n"


def changed_by_small_data(task: str) -> dict[str, Any]:
    """Setting -> its value for small data, where that differs from the one for ImageNet."""
    large, small = (task_class(task).recipe(facts) for facts in (IMAGENET, SMALL))
    pairs = [(asdict(getattr(large, part)), asdict(getattr(small, part))) for part in ("config", "training")]
    return {name: value for before, after in pairs for name, value in after.items() if value != before[name]}


def idle(config, training):
    """Settings that do nothing in this recipe."""
    names = set(config.idle()) - SWITCHES
    names |= {"milestones", "step_factor"} if training.schedule != "step" else set()
    names |= {"final_lr"} if training.schedule != "cosine" else set()
    names |= {"warmup_start"} if not training.warmup else set()
    return names | ({"momentum", "nesterov"} if training.optimizer == "adamw" else set())


def values_of(recipe):
    """Section -> setting -> value, of what the recipe decides."""
    silent = COMPUTED | OFF.keys() | idle(recipe.config, recipe.training)
    return {
        part: {name: value for name, value in asdict(getattr(recipe, part)).items() if name not in silent}
        for part in ("config", "training")
    }


if __name__ == "__main__":
    print(template(sys.argv[1]), end="")
