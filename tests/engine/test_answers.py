"""What planning remembers of the code: the same answers, asked once, and no others."""

from __future__ import annotations

import sys

import pytest

from sslcurr.engine import answers as module
from sslcurr.engine import recipes
from sslcurr.engine.answers import FOLDER, Answers
from sslcurr.engine.plan import Planner
from sslcurr.engine.store import Store
from sslcurr.errors import SpecError
from sslcurr.spec.request import Request
from sslcurr.spec.stage import BackboneSpec, key_of
from sslcurr.tasks import BUILTIN_TASKS, TASKS
from sslcurr.tasks.rotation import Rotation
from sslcurr.testing.subject import dataset_for
from tests.conftest import QUICK, SMALL
from tests.test_architecture import imported_by


@pytest.fixture
def remembering(monkeypatch):
    """`remembering(root)`: answers as in a process that has no torch yet."""

    def make(root):
        with monkeypatch.context() as context:
            context.delitem(sys.modules, "torch")
            return Answers(root)

    return make


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The names of the questions that the code was asked."""
    heard: list[str] = []

    def noted(name, real):
        def call(*arguments):
            heard.append(name)
            return real(*arguments)

        return call

    for name in recipes.__all__:
        monkeypatch.setattr(recipes, name, noted(name, getattr(recipes, name)))
    return heard


@pytest.mark.parametrize("task", sorted(BUILTIN_TASKS))
def test_a_stage_that_is_remembered_is_the_stage(task, folder, tmp_path, remembering, asked):
    store = Store(tmp_path)
    request = Request(
        **dataset_for(task, folder),
        backbone="test_resnet",
        image_size=16,
        lr="search",
        settings=(*SMALL[task], f"{task}.epochs=4"),
    )
    stages, questions = [], []
    for _ in range(3):
        planner = Planner(request, store, [task])
        planner.answers = remembering(tmp_path) if stages else Answers()
        asked.clear()
        (spec,) = planner.chain([task])
        stages.append((spec, key_of(spec), planner.answers.idle(task, spec.config)))
        questions.append(len(asked))
    assert stages[0] == stages[1] == stages[2]
    assert {type(value) for value in stages[2][0].config.values()} == {type(v) for v in stages[0][0].config.values()}
    assert questions[0] >= questions[1] > questions[2] == 0


def test_other_arguments_and_other_code_are_other_questions(tmp_path, remembering, asked, monkeypatch):
    def ask(size: int = 28) -> list[int]:
        return remembering(tmp_path).input_sizes("rotation", {"image_size": size})

    assert [ask(), ask(), ask(32)] == [[28], [28], [32]]
    assert asked == ["input_sizes"] * 2
    monkeypatch.setattr(module, "digest_of_code", lambda: "0" * 16)
    assert ask() == [28]
    assert len(asked) == 3
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["0" * 16]  # nothing is left of other code


def test_a_damaged_answer_is_none(tmp_path, remembering, asked):
    assert not remembering(tmp_path).is_labelled("rotation")
    (path,) = (tmp_path / FOLDER).rglob("*.json")
    path.write_text(path.read_text().replace("false", "true"))
    assert not remembering(tmp_path).is_labelled("rotation")
    assert len(asked) == 2
    assert not remembering(tmp_path).is_labelled("rotation")
    assert len(asked) == 2  # it was mended


def test_mistakes_are_told_each_time(tmp_path, remembering, asked):
    for _ in range(2):
        with pytest.raises(SpecError, match="no setting"):
            remembering(tmp_path).check_settings("rotation", {"angle": "3"})
        with pytest.raises(SpecError, match="no backbone"):
            remembering(tmp_path).check_backbone(BackboneSpec(name="resnet0"), [32])
        assert not remembering(tmp_path).can_have_stem("resnet0", "small")  # a package may add it
    assert len(asked) == 6
    assert not list(tmp_path.rglob("*.json"))


def test_tasks_of_others_and_of_this_process_are_not_remembered(tmp_path, remembering, asked, monkeypatch):
    class Other(Rotation):
        labelled = True

    monkeypatch.setitem(TASKS._loaded, "rotation", Other)
    assert remembering(tmp_path).is_labelled("rotation")
    assert not (tmp_path / FOLDER).exists()
    monkeypatch.undo()
    assert not remembering(tmp_path).is_labelled("rotation")


def test_a_process_with_torch_keeps_nothing(tmp_path, asked):
    answers = Store(tmp_path).answers
    assert not answers.is_labelled("rotation")
    assert not answers.is_labelled("rotation")
    assert len(asked) == 2
    assert not (tmp_path / FOLDER).exists()


def test_where_there_may_be_gpus_the_machine_is_asked_each_time(tmp_path, remembering, asked, monkeypatch):
    for may, questions in ((False, 1), (True, 4)):
        monkeypatch.setattr(module, "may_have_gpus", lambda may=may: may)
        for precision in ("auto", "32") if may else ("32",):
            machines = [remembering(tmp_path).machine("cpu", precision) for _ in range(2)]
            assert machines[0] == machines[1]
        assert len(asked) == questions
        asked.clear()


def test_a_plan_and_a_finished_chain_need_no_torch(sslcurr, folder, tmp_path):
    words = ("chain", "rotation", "--dataset", str(folder), *QUICK, "--runs", str(tmp_path / "runs"))
    assert sslcurr(*words).exit_code == 0
    assert "torch" in imported_by(*words, "--dry-run")
    heavy = {"torch", "timm", "torchvision", "pandas", "sklearn", "matplotlib"}
    assert not imported_by(*words, "--dry-run") & heavy
    assert not imported_by(*words) & heavy
