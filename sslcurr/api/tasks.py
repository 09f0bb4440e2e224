"""Tasks: what can be trained, and with which settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_type_hints

from msgspec import UNSET

from sslcurr.analysis.results.document import Json
from sslcurr.analysis.results.tasks.document import ListedTask, TaskDocument, TasksDocument
from sslcurr.api.session import Session
from sslcurr.errors import SpecError
from sslcurr.files import check_picture

if TYPE_CHECKING:
    from sslcurr.tasks.base import Recipe

# What a recipe is resolved for where nothing is said.
NUM_IMAGES, NUM_CLASSES, IMAGE_SIZE = 1000, 2, 224


def tasks(session: Session) -> TasksDocument:
    """The tasks that can be trained."""
    from sslcurr.tasks import BUILTIN_TASKS, TASKS, Described, described

    others, notes = TASKS.others()
    for note in notes:
        session.reporter.note(note)
    listed = [described(name) for name in BUILTIN_TASKS]
    listed += [Described(kind.name, kind.version, kind.summary, kind.paper) for kind in others.values()]
    rows = [ListedTask(task=each.name, version=each.version, summary=each.summary, paper=each.paper) for each in listed]
    return session.finished(TasksDocument(tasks=rows))


def check_names(names: Sequence[str]) -> None:
    """Raises SpecError for a task that there is not."""
    from sslcurr.tasks import task_class

    for name in names:
        task_class(name)


def task(
    session: Session,
    name: str,
    *,
    num_images: int | None = None,
    num_classes: int | None = None,
    out: Path | None = None,
) -> TaskDocument:
    """A task's settings: the paper's (for ImageNet), and those its recipe gives here.

    They are resolved for the data set of the request (also where views are drawn), or else for so many images.

    Args:
        name: the task.
        num_images, num_classes: what the recipe is resolved for without a data set.
        out: a PNG file for the views of a few images.

    Raises:
        SpecError: numbers that cannot be, or beside a data set that says them.
    """
    from sslcurr.tasks import config_of, task_class
    from sslcurr.tasks.base import Facts

    kind, request = task_class(name), session.request
    if request.dataset is None and out is None:
        images = NUM_IMAGES if num_images is None else num_images
        resolved = _resolved_for(session, name, images, NUM_CLASSES if num_classes is None else num_classes)
        resolved_for = f"{images} images"
    else:
        if num_images is not None or num_classes is not None:
            raise SpecError(
                "the data set says how many images and classes it has", "leave out --num-images and --num-classes"
            )
        if out is not None:
            check_picture(out)
        spec = session.planner([name]).chain([name])[0]
        resolved = _merged(asdict(config_of(spec)), asdict(spec.training))
        resolved_for = spec.data.name
        if out is not None:
            from sslcurr.analysis.sheets.views import draw_views

            draw_views(spec, out)
    imagenet = kind.recipe(Facts(num_images=1_281_167, class_counts=(1281,) * 1000, image_size=224))
    document = TaskDocument(
        task=name,
        imagenet=_values(imagenet),
        resolved=resolved,
        summary=kind.summary,
        paper=kind.paper,
        resolved_for=resolved_for,
        out=UNSET if out is None else str(out),
        **_explained(imagenet),
    )
    return session.finished(document)


class Explained(TypedDict):
    """What there is to say of each setting, as fields of a `TaskDocument`."""

    ranges: dict[str, str]
    meanings: dict[str, str]
    groups: dict[str, list[str]]


def _explained(recipe: Recipe) -> Explained:
    """What each setting of a task can be, what it means, and what it is about."""
    from sslcurr.data.views.view import RANGES, View
    from sslcurr.spec.meanings import meanings
    from sslcurr.spec.ranges import described

    found = Explained(ranges={}, meanings={}, groups={"views": [], "task": [], "training": []})
    for part, sources in ((recipe.config, (View, type(recipe.config))), (recipe.training, (type(recipe.training),))):
        kinds, said = get_type_hints(type(part)), meanings(*sources)
        for item in fields(part):
            name, is_own = item.name, part is recipe.config
            if name in found["meanings"]:
                continue  # of two settings with one name, that which is set is the task's own
            of_views = is_own and (name in RANGES or item.metadata.get("of_views", False))
            found["groups"]["views" if of_views else "task" if is_own else "training"].append(name)
            found["meanings"][name] = said.get(name, "")
            range_of_view = RANGES.get(name) if is_own else None
            found["ranges"][name] = range_of_view or described(item, kinds[name], getattr(part, name))
    found["ranges"]["freeze"] = "none | stem | a number | all"
    return found


def _resolved_for(session: Session, name: str, num_images: int, num_classes: int) -> Json:
    """The settings that a recipe gives for so many images, with those that are set by hand."""
    from sslcurr.spec.settings import apply, parse
    from sslcurr.tasks import task_class
    from sslcurr.tasks.base import Facts, Recipe

    size = IMAGE_SIZE if session.request.image_size is None else session.request.image_size
    if num_images < 4 or num_classes < 2 or size < 8:
        raise SpecError("a recipe needs 4 images, 2 classes and 8 pixels at least", "give larger numbers")
    counts = (num_images // num_classes,) * num_classes
    recipe = task_class(name).recipe(Facts(num_images=num_images, class_counts=counts, image_size=size))
    changes = parse(session.request.settings, [name]).get(name, {})
    return _values(Recipe(*apply(changes, recipe.config, recipe.training, section=name)))


def _values(recipe: Recipe) -> Json:
    return _merged(asdict(recipe.config), asdict(recipe.training))


def _merged(config: Json, training: Json) -> Json:
    """Settings of a task and of its training; of two with one name (`momentum`) the task's, which `--set` changes."""
    return {**config, **training, **config}
