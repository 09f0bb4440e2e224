"""What the search for an ordering promises, on simulated worlds; `benchmarks/search.py` has all of it."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest

from tests import REPOSITORY


@pytest.fixture(scope="module")
def benchmark():
    folder = REPOSITORY / "benchmarks"
    sys.path.insert(0, str(folder))  # for `records`
    spec = importlib.util.spec_from_file_location("search_benchmark", folder / "search.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(folder))
    del sys.modules[spec.name]


def outcomes(benchmark, name, worlds, budget):
    return [benchmark.replay(benchmark.STRATEGIES[name](seed), world, budget) for seed, world in enumerate(worlds)]


def test_luck_of_the_simulation_has_the_variance_that_it_says(benchmark):
    worlds = [benchmark.simulated(repeat, 2.0, 2.0, (1.0, 0.7, 0.3), 4) for repeat in range(60)]
    truths = np.array([list(world.truth.values()) for world in worlds])
    assert truths.std(axis=1) == pytest.approx(2.0)
    values = np.array([[[w.values[name, s] for s in w.seeds] for name in w.truth] for w in worlds])  # [60, 40, 3]
    luck = values - truths[:, :, None]
    assert (luck - luck.mean(axis=1, keepdims=True)).std() == pytest.approx(2.0, abs=0.15)
    assert luck.mean(axis=1).std() == pytest.approx(1.0, abs=0.45)  # of seeds, and of shared stages
    # A chain and what it begins with share luck, two that begin otherwise share none.
    names = list(worlds[0].truth)
    residual = (luck - luck.mean(axis=1, keepdims=True)).transpose(1, 0, 2).reshape(40, -1)
    common = np.corrcoef(residual)
    pairs = [(names.index(name[:1]), row) for row, name in enumerate(names) if len(name) == 2]
    others = [(names.index(name[1:]), row) for row, name in enumerate(names) if len(name) == 2]
    above, beside = (np.mean([common[pair] for pair in each]) for each in (pairs, others))
    assert above > 0.15
    assert beside < 0.05


def test_a_table_is_judged_by_the_seeds_that_the_search_does_not_see(benchmark, tmp_path):
    def runs(base: float) -> list[dict]:
        return [{"seed": s, "balanced_accuracy": base + s / 100, "validation": base - s / 100} for s in (0, 1, 2, 3)]

    document = {"seeds": [0, 1, 2, 3], "tasks": [{"task": "a", "runs": runs(0.5)}, {"task": "b", "runs": runs(0.6)}]}
    document["orderings"] = [{"ordering": ["a", "b"], "runs": runs(0.7)}, {"ordering": ["b", "a"], "runs": runs(0.4)}]
    path = tmp_path / "table.json"
    path.write_text(json.dumps(document))
    table = benchmark.Table.read(path, "test")
    assert table.noise == pytest.approx(np.std([0, 1, 2, 3], ddof=1))
    shown, divided = set(), {}
    for repeat in range(24):
        world = table.world(repeat, 2, 0.5)
        first, second = (round(50 - world.values[("a",), seed]) for seed in (0, 1))
        shown.add((first, second))
        others = {0, 1, 2, 3} - {first, second}
        assert world.truth[("a",)] == pytest.approx(50 + np.mean(list(others)))
        assert world.seeds == (0, 1)
        divided.setdefault(world.group, set()).add(frozenset((first, second)))
    assert len(shown) == 12  # every way to show two of four seeds in order
    assert len(divided) == 6
    assert all(len(pairs) == 1 for pairs in divided.values())
    # Two replays of each of two divisions: the interval is over the divisions.
    mean, _, high = benchmark.mean_and_ends([1.0, 3.0, 4.0, 4.0], [0, 0, 1, 1])
    assert (mean, high - mean) == pytest.approx((3.0, 12.706 * np.sqrt(2) / np.sqrt(2)), abs=0.001)
    ended = benchmark.replay(benchmark.STRATEGIES["knowledge-gradient"](0), table.world(0, 2, 0.5), 1.0)
    assert (ended.regret, ended.place) == (0, 1)


def test_the_knowledge_gradient_beats_a_draw_where_orderings_have_structure(benchmark):
    worlds = [benchmark.simulated(repeat, 2.0, 1.0, benchmark.STRUCTURES["structured"], 4) for repeat in range(12)]
    ours, drawn = (outcomes(benchmark, name, worlds, 0.1) for name in ("knowledge-gradient", "random"))
    assert np.mean([outcome.regret for outcome in ours]) < 0.75 * np.mean([outcome.regret for outcome in drawn])
    assert all(outcome.share <= 0.1 + 1e-9 for outcome in (*ours, *drawn))


@pytest.mark.long
def test_what_it_states_is_right_about_as_often(benchmark):
    stated, right = [], []
    for spread, noise, structure in benchmark.SETTINGS[:4]:
        for repeat in range(25):
            world = benchmark.simulated(repeat, spread, noise, benchmark.STRUCTURES[structure], 4)
            ended = benchmark.replay(benchmark.KnowledgeGradient(confidence=0.9), world, 1.0)
            if ended.stated >= 0.9:
                stated.append(ended.stated)
                right.append(ended.right)
    assert len(right) > 60
    assert 0.8 <= np.mean(right) <= 1.0
