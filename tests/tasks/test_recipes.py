"""Every value of every recipe against that of its authors, in `tests/recipes/`; docs/tasks.md says why it differs."""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict

import pytest

from sslcurr.spec.stage import Training
from sslcurr.tasks import BUILTIN_TASKS, task_class
from tests import REPOSITORY
from tests.recipe import COMPUTED, IMAGENET, OFF, SMALL, changed_by_small_data, template, values_of

every_task = pytest.mark.parametrize("task", sorted(BUILTIN_TASKS))


def table_of(task):
    return tomllib.loads((REPOSITORY / "tests" / "recipes" / f"{task}.toml").read_text())


def near(one, two):
    """Equal, or numbers that differ by rounding."""
    pairs = list(zip(one, two, strict=False)) if isinstance(one, tuple) and isinstance(two, list) else [(one, two)]
    whole = not isinstance(one, tuple) or (isinstance(two, list) and len(one) == len(two))
    return whole and all(a == (pytest.approx(b) if isinstance(b, float) else b) for a, b in pairs)


def text(value):
    """A value as the page has it."""
    if isinstance(value, list | tuple):
        return " to ".join(text(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value


def sections():
    """Heading -> text of the page, with single spaces; a list's items begin with ' - '."""
    page = (REPOSITORY / "docs" / "tasks.md").read_text()
    parts = re.split(r"^## ", page, flags=re.MULTILINE)
    named = {part.partition("\n")[0]: " ".join(part.partition("\n")[2].split()) for part in parts[1:]}
    return {"": " ".join(parts[0].split()), **named}


@every_task
def test_every_value_of_a_recipe_is_its_authors_or_has_a_reason(task):
    table, values = table_of(task), values_of(task_class(task).recipe(IMAGENET))
    if "own" in table:
        assert "A recipe of our own" in sections()[task]
    for part in ("config", "training"):
        assert table[part].keys() == values[part].keys()
        for name, row in table[part].items():
            ours = values[part][name]
            assert near(ours, row["ours"] if "ours" in row else row["authors"]), name
            if "own" in table:
                assert row.keys() == {"ours"}, name
                continue
            assert row.keys() in ({"authors", "source"}, {"authors", "source", "ours", "reason"}), name
            assert "ours" not in row or not near(ours, row["authors"]), f"{name} needs no reason"
            assert table["sources"][row["source"]].startswith("https://"), name


@every_task
def test_the_page_states_every_deviation_with_its_reason(task):
    table, page = table_of(task), sections()
    items = [item for name in (task, "Recipes and their sources") for item in page[name].split(" - ")]
    for row_name, row in {**table["config"], **table["training"]}.items():
        if "reason" in row:
            expected = (f"`{row_name}`", text(row["ours"]), text(row["authors"]), row["reason"])
            stating = [item for item in items if all(part in item for part in expected)]
            assert stating, (
                f"docs/tasks.md, {task}: - {expected[0]}: {expected[1]} (theirs {expected[2]}): {expected[3]}"
            )


@every_task
def test_the_page_states_what_small_data_changes(task):
    table, page, changed = table_of(task)["small"], sections(), changed_by_small_data(task)
    assert table.keys() == changed.keys()
    for name, row in table.items():
        assert near(changed[name], row["value"]), name
        assert row["stated"] in page[task] or row["stated"] in page[""], f"{name}: {row['stated']}"


@every_task
def test_the_page_says_what_a_step_in_parts_changes(task):
    coupling = task_class(task).coupling
    assert coupling in sections()["Recipes and their sources"]


@every_task
def test_the_template_of_a_table_has_its_rows(task):
    table, new = table_of(task), tomllib.loads(template(task))
    assert {part: new[part].keys() for part in ("config", "training", "small")} == {
        part: table[part].keys() for part in ("config", "training", "small")
    }


def test_there_is_a_table_for_each_task_and_no_other():
    files = {path.stem for path in (REPOSITORY / "tests" / "recipes").iterdir()}
    assert files == BUILTIN_TASKS.keys()


def test_a_setting_of_another_value_or_without_a_row_would_be_seen():
    values = values_of(task_class("simclr").recipe(IMAGENET))
    table = table_of("simclr")
    assert not near(values["config"]["temperature"] + 0.01, table["config"]["temperature"]["authors"])
    assert not near((0.08, 0.9), table["config"]["scale"]["authors"])
    assert not near("sgd", table["training"]["optimizer"]["authors"])
    assert {item for item in Training.__dataclass_fields__ if item not in table["training"]} == {
        *COMPUTED, *(OFF.keys() - {"mixup"}), "milestones", "step_factor",
    }  # fmt: skip


@pytest.mark.parametrize(("task", "momentum"), [("mocov2", 0.999), ("dino", 0.996), ("rotation", 0.9)])
def test_of_two_settings_with_one_name_that_is_shown_which_can_be_set(sslcurr, task, momentum):
    assert sslcurr.json("tasks", "show", task)["imagenet"]["momentum"] == momentum
    changed = sslcurr.json("tasks", "show", task, "--num-images", "900", "--set", f"{task}.momentum=0.5")
    assert changed["resolved"]["momentum"] == 0.5


@every_task
def test_what_is_for_fine_tuning_is_off(task):
    for facts in (IMAGENET, SMALL):
        recipe = task_class(task).recipe(facts)
        values = asdict(recipe.config) | asdict(recipe.training)
        assert all(values.get(name, off) == off for name, off in OFF.items())
