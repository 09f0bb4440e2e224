"""Strategies of the search on tables whose truth is known: nothing is trained."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sslcurr.analysis.experiments.knowledge_gradient import KnowledgeGradient
from sslcurr.analysis.experiments.orderings import orderings_of
from sslcurr.analysis.experiments.strategies import (
    Beam,
    Curriculum,
    Halving,
    Prices,
    Random,
    Run,
    State,
    Strategy,
    num_orderings,
)

TASKS = ("a", "b", "c", "d")
PRICES = Prices(dict.fromkeys(TASKS, 1.0), dict.fromkeys(TASKS, 1.0), 0.5)
ALL = orderings_of(TASKS, range(1, 4))
STRATEGIES: list[Strategy] = [KnowledgeGradient(confidence=1.0), Random(), Halving(), Curriculum(), Beam()]


def state(budget: float = 0.25, **more) -> State:
    every = {"tasks": TASKS, "length": 3, "seeds": (0, 1, 2), **more}
    prices = Prices(dict.fromkeys(every["tasks"], 1.0), dict.fromkeys(every["tasks"], 1.0), 0.5)
    every["prices"], exhaustive = prices, prices.exhaustive(every["length"], len(every["seeds"]))
    return State(budget=budget * exhaustive, **every)


def truth(seed: int = 0) -> dict[tuple[str, ...], float]:
    """Tasks matter by their distance from the end."""
    worth = dict(zip(TASKS, np.random.default_rng(seed).normal(size=4), strict=True))
    return {name: 60 + 3 * sum(worth[t] * 0.6 ** (len(name) - 1 - i) for i, t in enumerate(name)) for name in ALL}


def search(strategy: Strategy, at: State, values, failing=()) -> list[Run]:
    done = []
    while runs := strategy.runs(at):
        for run in runs:
            assert run not in done
            at.tell(run, None if run[0] in failing else values[run[0]] + 0.01 * run[1])
            done.append(run)
    return done


def test_the_price_of_everything_is_that_of_all_runs():
    for length in (1, 2, 3, 4):
        prices = Prices({t: 2.0 + i for i, t in enumerate(TASKS)}, {t: 1.0 + i for i, t in enumerate(TASKS)}, 0.5)
        at = State(TASKS, length, (0, 1), prices, budget=1e9)
        listed = orderings_of(TASKS, range(1, length + 1))
        assert num_orderings(4, length) == len(listed)
        assert prices.exhaustive(length, 2) == pytest.approx(at.cost_of([(o, s) for s in (0, 1) for o in listed]))


def test_costs_by_hand():
    at = state()
    assert at.cost((("a", "b"), 0)) == 2.5
    at.tell((("a",), 0), 60.0)
    assert (at.spent, at.cost((("a", "b"), 0)), at.cost((("a", "b"), 1))) == (1.5, 1.5, 2.5)
    assert at.cost_of([(("a", "b"), 0), (("a", "b", "c"), 0)]) == 3.0
    assert at.fork().spent == 1.5
    held = state(held=frozenset({(("b",), 0), (("b", "c"), 0)}), free=frozenset({(("b",), 0)}))
    assert held.cost((("b",), 0)) == 0
    assert held.cost((("b", "c", "d"), 0)) == 1.5
    assert held.cost((("b", "c"), 1)) == 2.5


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("budget", [0.01, 0.05, 0.25])
def test_no_strategy_spends_more_than_its_budget_and_all_choose(strategy, budget):
    at = state(budget)
    done = search(strategy, at, truth())
    assert at.spent <= at.budget * (1 + 1e-9)
    assert len(set(done)) == len(done)
    assert strategy.choice(at) in ALL


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: type(each).__name__)
def test_a_search_that_was_stopped_goes_on_as_it_would_have(strategy):
    values, whole = truth(1), state()
    done = search(strategy, whole, values)
    for stop in (1, 5, len(done) - 1):
        again, left = state(), list(done)
        for run in done[:stop]:
            again.tell(run, values[run[0]] + 0.01 * run[1])
        fresh = type(strategy)(confidence=1.0) if isinstance(strategy, KnowledgeGradient) else type(strategy)()
        assert done[:stop] + search(fresh, again, values) == left
        assert fresh.choice(again) == strategy.choice(whole)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: type(each).__name__)
def test_a_chain_that_failed_is_neither_chosen_nor_built_upon(strategy):
    failing = {name for name in ALL if name[0] == "d"}
    at = state()
    values = truth() | dict.fromkeys(failing, 99.0)
    done = search(strategy, at, values, failing)
    assert strategy.choice(at)[0] != "d"
    tried = [name for name, _ in done if name[0] == "d"]
    assert len(tried) == len(set(tried))
    if ("d",) in tried:
        assert tried.count(("d",)) == 1
        assert all(name == ("d",) for name in tried[tried.index(("d",)) :])


def test_where_all_fail_nothing_is_chosen_and_it_ends():
    for strategy in STRATEGIES:
        at = state()
        search(strategy, at, truth(), set(ALL))
        assert strategy.choice(at) == ()


def test_the_whole_budget_is_enough_for_everything():
    for strategy in (Random(), KnowledgeGradient(confidence=1.0)):
        tasks, at = TASKS[:3], state(1.0, tasks=TASKS[:3], length=2, seeds=(0, 1))
        done = search(strategy, at, {name: float(len(name)) for name in orderings_of(tasks, (1, 2))})
        assert len(done) == 18
        assert at.spent == pytest.approx(at.budget)


def test_a_budget_for_nothing_runs_nothing():
    for strategy in STRATEGIES:
        assert strategy.runs(state(0.001)) == []


def test_random_orderings_are_always_the_same_and_differ_by_seed():
    orders = [Random(seed).order(state()) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(ALL)


def test_halving_by_hand():
    strategy, at = Halving(), state(0.25)
    rungs = strategy.rungs(at)
    assert rungs == [rungs[0], -(-rungs[0] // 2), -(-rungs[0] // 4)]
    values = truth()
    search(strategy, at, values)
    first = strategy.order(at)[: rungs[0]]
    by_truth = sorted(first, key=lambda name: -values[name])
    at_second = [name for name, seed in at.values if seed == 1]
    assert set(at_second) == set(by_truth[: rungs[1]])
    assert strategy.choice(at) == by_truth[0]


def test_the_studys_curriculum_by_hand():
    at, strategy = state(0.25), Curriculum()
    values = dict.fromkeys(ALL, 50.0) | {("a",): 63.0, ("b",): 61.0, ("c",): 60.0, ("d",): 62.0}
    done = search(strategy, at, values)
    assert strategy.choice(at) == ("b", "d", "a")
    assert done[:12] == [((task,), seed) for seed in (0, 1, 2) for task in TASKS]
    assert done[12:] == [(("b", "d", "a"), seed) for seed in (0, 1, 2)]


def test_the_beam_grows_the_best_prefixes():
    at, strategy = state(1.0), Beam(2)
    values = truth()
    done = search(strategy, at, values)
    best = sorted(TASKS, key=lambda task: -values[task,])[:2]
    pairs = [name for name, seed in done if len(name) == 2 and seed == 0]
    assert {name[0] for name in pairs} == set(best)
    assert sum(seed > 0 for _, seed in done) == 4


def test_the_knowledge_gradient_finds_what_structure_foretells():
    found = []
    for seed in range(6):
        at, strategy, values = state(0.1), KnowledgeGradient(confidence=1.0), truth(seed)
        search(strategy, at, values)
        found.append(max(values.values()) - values[strategy.choice(at)])
    assert np.mean(found) < 0.35  # random orderings: 2 points and more
    assert len(at.values) <= 12


def test_a_batch_is_a_plan_that_does_not_wait_for_its_values():
    single, batched = KnowledgeGradient(confidence=1.0), KnowledgeGradient(confidence=1.0)
    a, b = state(), state(batch=3)
    for run in single.runs(a):
        a.tell(run, truth()[run[0]])
        b.tell(run, truth()[run[0]])
    assert len(singles := [run for run in a.values if len(run[0]) == 1]) == len(singles) == 4
    planned = batched.runs(b)
    assert len(planned) == len(set(planned)) == 3
    assert planned[0] == single.runs(a)[0]
    assert planned == KnowledgeGradient(confidence=1.0).runs(b)


def test_it_ends_when_it_is_sure_and_says_so():
    strategy, at = KnowledgeGradient(tolerance=1.0, confidence=0.9), state(1.0)
    values = truth(2)
    search(strategy, at, values)
    assert strategy.is_sure(at)
    assert at.spent < 0.5 * at.budget
    verdict = strategy.verdict(at)
    assert verdict.probability >= 0.88
    assert max(values.values()) - values[verdict.chosen] <= 1.0
    assert verdict.best.sum() == pytest.approx(1, abs=0.01)
    assert 0 <= verdict.most_missed <= verdict.most_apart
    place = verdict.orderings.index(verdict.chosen)
    assert verdict.behind[:, place].tolist() == [0, 0, 0]
    assert verdict.within[place] == pytest.approx(verdict.probability, abs=1e-12)


def test_where_order_does_not_matter_it_says_that_any_will_do():
    strategy, at = KnowledgeGradient(), state(1.0)
    generator = np.random.default_rng(0)
    while runs := strategy.runs(at):
        for run in runs:
            at.tell(run, 60 + 0.1 * generator.normal())
    verdict = strategy.verdict(at)
    assert strategy.is_sure(at)
    assert verdict.most_apart < 2.5
    assert (verdict.within >= 0.5).sum() >= 30


def test_ties_are_broken_by_order_and_never_stop_it():
    strategy, at = KnowledgeGradient(confidence=1.0), state(0.25)
    search(strategy, at, dict.fromkeys(ALL, 60.0))
    assert at.left < 3.5
    assert strategy.further_gain(at, 0.1 * at.budget) >= 0


def test_what_the_store_held_is_told_first_and_costs_nothing():
    values = truth()
    free = frozenset({(("a",), 0), (("a", "b"), 0)})
    at = state(0.1, held=free, free=free)
    first = KnowledgeGradient(confidence=1.0).runs(at)
    assert first == [(("a",), 0), (("a", "b"), 0)]
    for run in first:
        at.tell(run, values[run[0]])
    assert at.spent == 0
    assert [name for name, _ in KnowledgeGradient(confidence=1.0).runs(at)] == [("b",), ("c",), ("d",)]


def test_more_budget_is_expected_to_gain_less_the_more_was_spent():
    gains = []
    for budget in (0.06, 0.5):
        strategy, at = KnowledgeGradient(confidence=1.0), state(budget)
        generator = np.random.default_rng(5)
        noise = {(name, seed): generator.normal() for name, seed in itertools.product(ALL, range(3))}
        values = truth(3)
        while runs := strategy.runs(at):
            for run in runs:
                at.tell(run, values[run[0]] + noise[run])
        gains.append(strategy.further_gain(at, 0.1 * PRICES.exhaustive(3, 3)))
    assert gains[0] > gains[1] >= 0


def test_thirteen_tasks_are_looked_at_without_listing_what_is_too_long():
    tasks = tuple(f"task-{number}" for number in range(13))
    prices = Prices(dict.fromkeys(tasks, 1.0), dict.fromkeys(tasks, 1.0), 0.5)
    at = State(tasks, 13, (0,), prices, budget=26.0)
    assert at.everything is None
    strategy = KnowledgeGradient(confidence=1.0)
    values = np.random.default_rng(0)
    while runs := strategy.runs(at):
        for run in runs:
            at.tell(run, 60 + values.normal())
    assert len(at.values) >= 14
    assert 1885 <= len(at.candidates()) <= 2500
    assert strategy.choice(at)
    assert Random().runs(at.empty())
