"""What foretells chains: models against scikit-learn, tests in worlds without an effect, what is known of tasks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sslcurr.analysis.experiments import foretell
from sslcurr.analysis.experiments.foretell import (
    Predictor,
    Scored,
    Triple,
    gain_weights,
    left_out,
    most_of,
    numbers_like,
    predictors_of,
    r_squared_of,
    share_beyond,
    slope_weights,
    task_of,
    triples_of,
)
from sslcurr.analysis.experiments.hypothesis import Judged, renamed
from sslcurr.analysis.experiments.orderings import orderings_of

TASKS = ("a", "b", "c", "d")
NAMES = orderings_of(TASKS, (2, 3))
SIMILAR = {
    frozenset(pair): value
    for pair, value in zip(itertools.combinations(TASKS, 2), (0.9, 0.8, 0.3, 0.7, 0.4, 0.2), strict=True)
}


def test_what_is_left_out_is_foretold_as_scikit_learn_does():
    """Ridge regression does not shrink its intercept; levels of lengths are taken off both sides."""
    rng = np.random.default_rng(0)
    scored = Scored.of(NAMES)
    assert len(scored.places) == len(NAMES) == 36
    assert scored.num_sets == 10
    columns, y = rng.normal(size=(36, 3)), rng.normal(size=36)
    columns = np.concatenate([columns, np.ones((36, 1))], axis=1)  # a constant predicts nothing
    found = left_out(columns, scored.lengths, scored.sets) @ y
    scaled = (columns[:, :3] - columns[:, :3].mean(axis=0)) / columns[:, :3].std(axis=0)
    for each in np.unique(scored.sets):
        out = scored.sets == each
        length = scored.lengths[out][0]
        x, target = scaled[~out].copy(), y[~out].copy()
        levels = {}
        for of_length in (2, 3):
            rows = scored.lengths[~out] == of_length
            levels[of_length] = x[rows].mean(axis=0), target[rows].mean()
            x[rows] -= levels[of_length][0]
            target[rows] -= levels[of_length][1]
        model = Ridge(alpha=foretell.RIDGE, fit_intercept=False).fit(x, target)
        mean, level = levels[length]
        np.testing.assert_allclose(found[out], level + model.predict(scaled[out] - mean))


def test_r_squared_by_hand():
    """Pairs of three tasks, without a predictor: each set is foretold by the mean of the other two."""
    names = orderings_of(("a", "b", "c"), (2, 3))
    scored = Scored.of(names)
    assert [names[place] for place in scored.places] == [name for name in names if len(name) == 2]
    accuracies = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, *[0.0] * 6])[:, None]
    places = np.arange(12)[None]
    # The length alone says what the mean of the others says, since there is one length.
    assert r_squared_of([], accuracies, scored, places) == pytest.approx([0.0])
    perfect = Predictor("accuracy", "oracle", accuracies.T * 1000)
    assert r_squared_of([perfect], accuracies, scored, places)[0] > 0.7  # it is shrunk
    assert np.isnan(r_squared_of([perfect], np.full((12, 1), 0.5), scored, places)[0])


def test_predictors_are_of_the_other_seeds():
    singles = {"a": [0.1, 0.9], "b": [0.2, 0.3], "c": [0.3, 0.2], "d": [0.4, 0.1]}
    judged = Judged.of(NAMES, np.zeros((36, 2)), singles)
    distances = dict(zip(TASKS, (4.0, 3.0, 2.0, 1.0), strict=True))
    found = {(each.group, each.name): each.values for each in predictors_of(judged, SIMILAR, distances)}
    place = NAMES.index(("a", "c", "d"))
    assert found["accuracy", "best"][:, place].tolist() == [0.9, 0.4]
    assert found["accuracy", "last"][:, place].tolist() == [0.1, 0.4]
    assert found["accuracy", "order"][:, place].tolist() == [-1.0, 1.0]
    assert found["similarity", "neighbours"][:, place] == pytest.approx([0.5, 0.5])
    assert found["similarity", "least"][:, place].tolist() == [0.2, 0.2]
    assert found["distance", "mean"][0, place] == pytest.approx(7 / 3)
    assert found["distance", "last"][0, place] == 1.0


def test_most_is_the_intraclass_correlation():
    """Shrout and Fleiss 1979, table 2: six targets, four judges, ICC(3, 1) is 0.71."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert most_of(np.array(ratings, dtype=float)) == pytest.approx(0.71, abs=0.005)
    assert most_of(np.ones((3, 2))) is None
    assert most_of(np.ones((3, 1))) is None


def test_p_values_by_hand():
    generic = np.arange(4.0)
    assert share_beyond(np.array([3.0, 3.0, 1.0, 2.0]), generic) == (0.5, 0.25)
    assert share_beyond(np.array([3.0, 3.0, 1.0, 2.0]), generic, larger=False) == (1.0, 0.25)
    assert share_beyond(np.array([3.0]), generic[:1]) == (None, None)
    assert share_beyond(np.array([np.nan, 1.0]), generic[:2]) == (None, None)
    assert share_beyond(np.ones(4), np.ones(4)) == (None, None)  # renaming changes nothing


def test_without_an_effect_nothing_foretells():
    """Names mean nothing, and half of the luck of a stage is inherited: p is small as seldom as it says."""
    places, _ = renamed(NAMES)
    scored = Scored.of(NAMES)
    generic_p = []
    for world in range(60):
        rng = np.random.default_rng(world)
        stages = {task: rng.normal(size=3) for task in TASKS}
        accuracies = np.stack([stages[name[0]] + rng.normal(size=3) for name in NAMES])
        singles = {task: (stages[task] + rng.normal(size=3)).tolist() for task in TASKS}
        judged = Judged.of(NAMES, accuracies, singles)
        predictors = predictors_of(judged)
        values = r_squared_of(predictors, judged.accuracies, scored, places)
        p_value, smallest = share_beyond(values, r_squared_of(predictors, numbers_like(accuracies), scored, places))
        assert smallest == 1 / 24
        generic_p.append(p_value)
    assert np.mean(np.array(generic_p) <= 0.05) <= 0.12  # 4.2 % are expected of 60
    assert 0.35 <= np.mean(generic_p) <= 0.7


def test_a_world_with_an_effect_is_foretold():
    rng = np.random.default_rng(0)
    worth = dict(zip(TASKS, (0.0, 1.0, 2.5, 6.0), strict=True))
    singles = {task: (value + 0.1 * rng.normal(size=3)).tolist() for task, value in worth.items()}
    accuracies = np.array([[worth[name[-1]] + 0.3 * rng.normal() for _ in range(3)] for name in NAMES])
    judged = Judged.of(NAMES, accuracies, singles)
    places, _ = renamed(NAMES)
    scored = Scored.of(NAMES)
    alone = r_squared_of([], accuracies, scored, places)
    values = r_squared_of(predictors_of(judged), accuracies, scored, places)
    assert alone[0] < 0.1
    assert np.allclose(alone, alone[0])  # renaming leaves the length
    assert 0.9 < values[0] <= most_of(accuracies)
    assert np.mean(values >= values[0]) == 1 / 24


# ---- inserting a task


def test_triples_and_their_weights_by_hand():
    triples = triples_of([("a", "b"), ("a", "d", "b"), ("a", "c", "b"), ("b", "c", "a")], SIMILAR)
    # a-d 0.3, d-b 0.4: unlike both by 0.6; a-c 0.8, c-b 0.7: by 0.2; the pair of the last is not there
    assert triples == [
        Triple(("a", "d", "b"), pytest.approx(0.6)),
        Triple(("a", "c", "b"), pytest.approx(0.2)),
    ]
    weights = slope_weights(triples)
    assert weights == pytest.approx([2.5, -2.5])  # one over the difference of 0.4
    assert gain_weights(triples, weights) == {
        ("a", "d", "b"): pytest.approx(2.5),
        ("a", "c", "b"): pytest.approx(-2.5),
        ("a", "b"): pytest.approx(0.0),
    }
    assert slope_weights(triples[:1]) is None
    assert slope_weights([Triple(("a", "b", "c"), 0.27), Triple(("c", "b", "a"), 0.28)]) is None


@pytest.mark.parametrize(
    ("title", "task"),
    [
        ("rotation", "rotation"),
        ("rotation (seed 12)", "rotation"),
        ("rotation (0ab3f9)", "rotation"),
        ("rotation (2)", "rotation"),
        ("rotation -> swav (seed 1)", "rotation -> swav"),
        ("acme/tile (big)", "acme/tile (big)"),
    ],
)
def test_the_task_of_a_model(title, task):
    assert task_of(title) == task
    assert task_of(f"birds -> {title}", started=True) == task.rpartition(" -> ")[2]
