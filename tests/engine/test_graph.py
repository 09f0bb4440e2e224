"""The order of jobs, and what a failure takes with it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslcurr.engine.graph import Graph, Job


def job(name, *needs, cost=1.0):
    return Job(name=name, kind="stage", title=name, needs=needs, cost=cost)


def order(graph):
    """The names of all jobs as one worker does them."""
    names = []
    while (each := graph.begin()) is not None:
        names.append(each.name)
        graph.end(each.name)
    return names


def test_the_longest_rest_comes_first_and_equals_keep_their_order():
    graph = Graph([job("a"), job("b", cost=2), job("c", "a", cost=5), job("d"), job("e", "b")])
    assert graph.rest == {"a": 6, "b": 3, "c": 5, "d": 1, "e": 1}
    assert order(graph) == ["a", "c", "b", "d", "e"]
    assert graph.is_over


def test_nothing_begins_before_what_it_needs():
    graph = Graph([job("a"), job("b"), job("c", "a", "b")])
    assert graph.begin().name == "a"
    graph.end("a")
    assert graph.begin().name == "b"
    assert graph.begin() is None
    graph.end("b")
    assert graph.begin().name == "c"


def test_what_a_graph_does_not_have_is_done():
    assert order(Graph([job("b", "in the store")])) == ["b"]


def test_jobs_that_come_later_make_a_rest_longer():
    graph = Graph([job("a"), job("b", cost=3)])
    graph.add([job("c", "a", cost=9), job("a", cost=100)])  # a is known, and stays as it is
    assert graph.rest["a"] == 10
    assert order(graph) == ["a", "c", "b"]
    graph.add([job("d", "a")])
    assert order(graph) == ["d"]


def test_a_failure_takes_all_over_it_and_nothing_else():
    graph = Graph([job("a"), job("b", "a"), job("c", "b"), job("d"), job("e", "d", "c")])
    assert graph.begin().name == "a"
    assert sorted(graph.fail("a", "not finite", "lower the rate")) == ["a", "b", "c", "e"]
    assert {graph.failures[name].origin for name in "abce"} == {"a"}
    assert graph.failures["e"].hint == "lower the rate"
    assert order(graph) == ["d"]
    assert graph.is_over
    graph.add([job("f", "c")])
    assert graph.failures["f"].origin == "a"
    assert graph.fail("a", "again") == []


def test_a_job_that_is_put_back_is_begun_once_more():
    graph = Graph([job("a", cost=2), job("b")])
    assert graph.begin().name == "a"
    graph.put_back("a")
    assert graph.begin(without={"a"}).name == "b"
    assert graph.begin(without={"a"}) is None
    assert graph.begin().name == "a"
    assert graph.begin() is None
    graph.end("a")
    graph.end("a")
    graph.end("b")
    assert graph.is_over
    assert graph.cost_left() == 0


def test_jobs_that_have_ended_are_done_again_with_those_over_them():
    graph = Graph([job("a"), job("b", "a"), job("c", "b"), job("d", "a")])
    for _ in range(2):
        graph.end(graph.begin().name)  # a, b
    graph.fail("c", "died")
    graph.renew(["a", "c", "d"])
    assert graph.begin().name == "a"
    assert graph.begin().name == "c"  # b is done still
    assert graph.begin() is None
    graph.end("a")
    assert graph.begin().name == "d"
    graph.fail("b", "is done")
    assert not graph.failures
    graph.end("c")
    graph.end("d")
    assert graph.is_over


def test_what_failed_by_another_job_fails_until_that_is_done_again():
    graph = Graph([job("a"), job("b", "a")])
    graph.fail("a", "died")
    graph.renew(["b"])
    assert graph.failures["b"].origin == "a"
    graph.renew(["a", "b"])
    assert order(graph) == ["a", "b"]


def test_what_is_left_costs_so_much():
    graph = Graph([job("a", cost=2), job("b", "a", cost=3), job("c", cost=4)])
    assert graph.cost_left() == 9
    graph.end("a")
    assert graph.cost_left() == 7
    graph.fail("c", "reason")
    assert graph.cost_left() == 3


@given(st.integers(0, 2**32))
def test_any_graph_is_done_by_any_number_of_workers(seed):
    draw = random.Random(seed)
    jobs = []
    for number in range(draw.randint(1, 12)):
        needs = [str(other) for other in range(number) if draw.random() < 0.3]
        jobs.append(job(str(number), *needs, cost=draw.choice([0.0, 1.0, 2.5])))
    cut = draw.randint(0, len(jobs))
    graph = Graph(jobs[:cut])
    running, done, added = [], set(), False
    while not graph.is_over or not added:
        if not added and draw.random() < 0.3:
            graph.add(jobs[cut:])
            added = True
        ready = {each.name for each in graph.jobs.values() if set(each.needs) <= done} - done - set(running)
        assert graph.num_ready == len(ready)
        if ready and draw.random() < 0.5:
            begun = graph.begin()
            assert begun.name in ready
            assert graph.rest[begun.name] == max(graph.rest[name] for name in ready)
            running.append(begun.name)
        elif running:
            name = running.pop(draw.randrange(len(running)))
            graph.end(name)
            done.add(name)
    assert graph.done == {each.name for each in jobs}

    def rest(name):
        return graph.jobs[name].cost + max((rest(each.name) for each in jobs if name in each.needs), default=0.0)

    assert graph.rest == pytest.approx({each.name: rest(each.name) for each in jobs})
