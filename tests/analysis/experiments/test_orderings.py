"""Curricula: against the study's tables, by hand, and against SciPy, brute force and simulations."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sslcurr.analysis.experiments import hypothesis
from sslcurr.analysis.experiments.hypothesis import (
    PREDICTIONS,
    Judged,
    kendall_tau,
    permutation_test,
    predicted,
    strata_of,
    weights_of,
    whole_lengths,
)
from sslcurr.analysis.experiments.orderings import (
    WORDS,
    Kind,
    check_words,
    chosen_orderings,
    classify,
    curriculum_of,
    num_alone,
    orderings_of,
    prefixes,
    tie_groups,
)
from sslcurr.analysis.results.ranking.document import ANTI, CURRICULUM, MIXED, SINGLE, TIED
from sslcurr.errors import SpecError
from tests.study import TABLE_1, TABLE_2, TABLE_3, TABLE_3_BASELINES

SINGLES = {row.tasks[0]: row.accuracy for row in TABLE_3 if len(row.tasks) == 1}
CHAINS = [row for row in TABLE_3 if len(row.tasks) > 1]
OUTLIER = ("rotation", "mocov2")  # 76.08 %, six points below every other row
ABC = {"a": 1.0, "b": 2.0, "c": 3.0}
ABCD = {**ABC, "d": 4.0}


def effect_of(accuracies, strata):
    """[..., K] accuracies -> [...] mean over strata of (mean of the curricula minus mean of the others)."""
    each = [accuracies[..., ours].mean(axis=-1) - accuracies[..., others].mean(axis=-1) for ours, others in strata]
    return np.mean(each, axis=0)


# ---- the study


def test_the_tables_are_whole():
    assert len(TABLE_1) == 10
    assert all(images >= labels for labels, images in TABLE_1)
    assert list(TABLE_2.values()) == [75.44, 73.36]
    assert [len(row.tasks) for row in TABLE_3] == [1] * 4 + [2] * 12 + [3] * 6
    assert len({row.tasks for row in TABLE_3}) == 22
    assert set(TABLE_3_BASELINES) == {"imagenet", "scratch"}


@pytest.mark.parametrize("row", CHAINS, ids=lambda row: "+".join(row.tasks))
def test_classify_sets_the_check_marks_of_the_study(row):
    kind = classify(row.tasks, SINGLES)
    unmarked = ANTI if len(row.tasks) == 2 else MIXED
    assert kind == Kind(CURRICULUM if row.curriculum else unmarked, full=False, uncertain=False)


def test_single_tasks_of_the_study_in_order():
    full = ("relative-location", "mocov2", "swav", "rotation")
    assert curriculum_of(SINGLES) == full
    assert classify(full, SINGLES) == Kind(CURRICULUM, full=True, uncertain=False)
    assert classify(full[::-1], SINGLES) == Kind(ANTI, full=True, uncertain=False)


def test_the_best_ordering_of_the_study_is_a_curriculum_and_its_best_pair_is_not():
    best = max(CHAINS, key=lambda row: row.accuracy)
    assert (best.tasks, best.accuracy) == (("mocov2", "swav", "rotation"), 85.67)
    assert classify(best.tasks, SINGLES).order == CURRICULUM
    pair = max((row for row in CHAINS if len(row.tasks) == 2), key=lambda row: row.accuracy)
    assert (pair.tasks, pair.accuracy) == (("mocov2", "relative-location"), 85.59)
    assert classify(pair.tasks, SINGLES).order == ANTI


def test_curricula_of_the_study_are_better_on_average_by_one_outlier():
    ours = [row.accuracy for row in CHAINS if classify(row.tasks, SINGLES).order == CURRICULUM]
    others = {row.tasks: row.accuracy for row in CHAINS if classify(row.tasks, SINGLES).order != CURRICULUM}
    assert np.mean(ours) == pytest.approx(84.3714, abs=1e-4)
    assert np.mean(list(others.values())) == pytest.approx(83.7818, abs=1e-4)
    assert min(others, key=others.__getitem__) == OUTLIER
    del others[OUTLIER]
    assert np.mean(list(others.values())) == pytest.approx(84.5520, abs=1e-4)


def study_effect(rows, strata="set"):
    """(effect in points, strata) of the study's figures: what it found, of one run of each chain."""
    pairs = strata_of([row.tasks for row in rows], SINGLES, strata)
    return effect_of(np.array([row.accuracy for row in rows]), pairs).item(), len(pairs)


@pytest.mark.parametrize(
    ("strata", "outlier", "num_strata", "effect"),
    [("set", True, 7, 1.1), ("set", False, 6, -0.165), ("length", True, 2, 1.0541667), ("length", False, 2, 0.299)],
)
def test_the_effect_in_the_figures_of_the_study(strata, outlier, num_strata, effect):
    """Curricula are better by one point; without one set of tasks nothing of it is left."""
    rows = [row for row in CHAINS if outlier or set(row.tasks) != set(OUTLIER)]
    assert study_effect(rows, strata) == (pytest.approx(effect, abs=1e-6), num_strata)


def test_one_run_of_each_chain_is_no_test():
    judged = Judged.of(
        [row.tasks for row in CHAINS], [[row.accuracy] for row in CHAINS], {t: [a] for t, a in SINGLES.items()}
    )
    result = permutation_test(judged)
    assert (result.effect, result.p_value, result.num_arrangements) == (None, None, 0)
    assert result.reason == "one seed: ranking and effect have to come from different seeds"


def test_one_set_of_tasks_makes_the_effect_of_the_study():
    sets = {frozenset(row.tasks) for row in CHAINS if len(row.tasks) == 2}
    without = {s: study_effect([row for row in CHAINS if set(row.tasks) != s])[0] for s in sets}
    assert min(without, key=without.__getitem__) == set(OUTLIER)
    del without[frozenset(OUTLIER)]
    assert min(without.values()) == pytest.approx(1.0667, abs=1e-4)


def test_single_accuracies_of_the_study_do_not_predict_its_chains():
    orderings, measured = [row.tasks for row in CHAINS], np.array([row.accuracy for row in CHAINS])
    found = {name: kendall_tau(predicted(orderings, SINGLES, name), measured).item() for name in PREDICTIONS}
    assert found == pytest.approx({"order": 0.0076, "mean": -0.0539, "last": 0.0148}, abs=1e-4)


# ---- what an ordering is


@pytest.mark.parametrize(
    ("ordering", "order"),
    [
        *[("", SINGLE), ("a", SINGLE), ("ab", CURRICULUM), ("abc", CURRICULUM), ("ba", ANTI), ("cba", ANTI)],
        *[(mixed, MIXED) for mixed in ("acb", "bac", "bca", "cab")],
    ],
)
def test_classify_by_hand(ordering, order):
    assert classify(ordering, ABC) == Kind(order, full=len(ordering) == 3, uncertain=False)


@pytest.mark.parametrize(
    ("ordering", "order"),
    [
        *[(tied, TIED) for tied in ("ab", "ba", "abc", "bac", "cab", "cba")],
        *[("acb", MIXED), ("bca", MIXED), ("ac", CURRICULUM), ("ca", ANTI), ("cb", ANTI), ("b", SINGLE)],
    ],
)
def test_equal_accuracies_are_neither_rise_nor_fall(ordering, order):
    assert classify(ordering, {"a": 1.0, "b": 1.0, "c": 3.0}).order == order


def test_an_equal_pair_does_not_make_a_mixed_ordering_tied():
    assert classify("abdc", {"a": 1.0, "b": 1.0, "c": 3.0, "d": 4.0}).order == MIXED


@pytest.mark.parametrize(
    ("ordering", "uncertain"),
    [
        *[(uncertain, True) for uncertain in ("ab", "ba", "acb", "dca", "abcd")],
        *[(certain, False) for certain in ("", "a", "ac", "bd", "ad", "db")],
    ],
)
def test_two_tasks_of_one_group_make_an_ordering_uncertain(ordering, uncertain):
    assert classify(ordering, ABCD, [["a", "b"], ["c", "d"]]).uncertain is uncertain


def test_alike_tasks_keep_their_measured_order():
    assert classify("abc", ABC, [["a", "b"], ["b", "c"]]) == Kind(CURRICULUM, full=True, uncertain=True)


def test_two_tasks_that_only_a_third_links_are_certain():
    assert not classify("ac", ABC, [["a", "b"], ["b", "c"]]).uncertain


def test_the_only_task_is_a_full_ordering():
    assert classify("a", {"a": 0.5}) == Kind(SINGLE, full=True, uncertain=False)


def test_the_curriculum_rises_and_equal_tasks_stay_as_given():
    assert curriculum_of({"d": 0.4, "c": 0.2, "a": 0.3, "b": 0.2}) == ("c", "b", "a", "d")


# ---- which orderings


def test_chains_of_four_tasks_share_their_stages():
    chains = orderings_of("abcd", [1, 2, 3])
    assert len(chains) == len(set(chains)) == 4 + 12 + 24
    assert [len(chain) for chain in chains] == [1] * 4 + [2] * 12 + [3] * 24
    assert all(len(set(chain)) == len(chain) for chain in chains)
    assert len(prefixes(chains)) == 40
    assert num_alone(chains) == 4 * 1 + 12 * 2 + 24 * 3
    triples = orderings_of("abcd", [3])
    assert (len(prefixes(triples)), num_alone(triples)) == (40, 72)


def test_stages_by_hand():
    chains = [("b", "c", "a"), ("b", "a"), ("b", "a")]
    assert prefixes(chains) == [("b",), ("b", "a"), ("b", "c"), ("b", "c", "a")]
    assert num_alone(chains) == 7
    assert (prefixes([]), num_alone([])) == ([], 0)


@given(st.lists(st.permutations("abcd").flatmap(lambda p: st.integers(1, 4).map(lambda n: tuple(p[:n])))))
def test_every_stage_comes_once_and_after_its_parent(chains):
    stages = prefixes(chains)
    assert len(set(stages)) == len(stages)
    assert {stage for stage in stages if len(stage) > 1} >= {chain for chain in chains if len(chain) > 1}
    assert all(any(chain[: len(stage)] == stage for chain in chains) for stage in stages)
    for place, stage in enumerate(stages):
        assert len(stage) == 1 or stage[:-1] in stages[:place]


def chosen(*words, tasks="abc", length=None, accuracies=None):
    found = chosen_orderings(words, list(tasks), length, accuracies)
    return None if found is None else ["".join(ordering) for ordering in found]


def test_chosen_orderings_by_hand():
    pairs, triples = ["ab", "ac", "ba", "bc", "ca", "cb"], ["abc", "acb", "bac", "bca", "cab", "cba"]
    assert chosen() == []
    assert chosen("pairs") == pairs
    assert chosen("triples") == chosen("full") == triples
    assert chosen("all") == chosen("pairs,full") == chosen("full", "pairs") == pairs + triples
    assert chosen("c,a", "b,c,a", "a,b") == ["ca", "ab", "bca"]
    assert chosen("c,a", "c,a", "a") == ["ca"]
    assert chosen("c,a", "pairs") == ["ca", "ab", "ac", "ba", "bc", "cb"]


def test_curriculum_and_anti_need_accuracies():
    accuracies = {"a": 0.2, "b": 0.3, "c": 0.1}
    assert chosen("curriculum", accuracies=accuracies) == ["cab"]
    assert chosen("anti", accuracies=accuracies) == ["bac"]
    assert chosen("curriculum,anti", accuracies=accuracies) == ["cab", "bac"]
    assert chosen("curriculum", "pairs", accuracies=accuracies)[5:] == ["cb", "cab"]
    assert len(chosen("full,curriculum", "anti", accuracies=accuracies)) == 6
    for words in (["curriculum"], ["anti"], ["pairs,anti"], ["pairs", "curriculum"]):
        assert chosen(*words) is None


@pytest.mark.parametrize(
    ("words", "length", "counts"),
    [
        (["pairs"], None, {2: 12}),
        (["triples"], None, {3: 24}),
        (["full"], None, {4: 24}),
        (["all"], None, {2: 12, 3: 24, 4: 24}),
        (["all"], 3, {2: 12, 3: 24}),
        ([], 2, {2: 12}),
        ([], 3, {2: 12, 3: 24}),
        ([], 4, {2: 12, 3: 24, 4: 24}),
        (["full"], 3, {}),
        (["triples,full"], 2, {}),
        (["pairs"], 3, {2: 12}),
        ([], 1, {}),
    ],
)
def test_length_leaves_out_longer_orderings(words, length, counts):
    found = chosen(*words, tasks="abcd", length=length)
    assert Counter(map(len, found)) == counts
    assert found == sorted(set(found), key=lambda ordering: (len(ordering), ordering))


def test_words_of_every_form_are_accepted():
    tasks = ["rotation", "mocov2", "swav"]
    check_words([*WORDS, "pairs,full", "curriculum,anti", "swav,rotation", "swav,mocov2,rotation"], tasks)
    check_words([], tasks)


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("rotatoin", "'rotatoin' is neither", "did you mean rotation?"),
        ("swav,mocov3", "'mocov3' is neither", "did you mean mocov2?"),
        ("curiculum", "'curiculum' is neither", "did you mean curriculum?"),
        ("pairs,triplets", "'triplets' is neither", "did you mean triples?"),
        ("pairs,swav", "mixes words and tasks", "give --orderings twice, once for each of the two"),
        ("swav", "is one task", "rank trains each task alone by itself"),
        ("swav,mocov2,swav", "names a task twice", "an ordering uses each task once"),
        ("zzz", "'zzz' is neither", "known: all, anti, curriculum, full, mocov2, pairs, rotation, swav, triples"),
    ],
)
def test_mistaken_words(word, message, hint):
    with pytest.raises(SpecError, match=message) as error:
        check_words(["pairs", word], ["rotation", "mocov2", "swav"])
    assert f"--orderings {word!r}" in str(error.value)
    assert error.value.hint == hint or not hint


# ---- what cannot be told apart


def pairs_of(tasks, intervals):
    """The pairs whose intervals overlap."""
    return [
        (a, b)
        for a, b in itertools.combinations(tasks, 2)
        if intervals[a][0] <= intervals[b][1] and intervals[b][0] <= intervals[a][1]
    ]


def test_groups_are_linked_by_neighbours():
    intervals = {"a": (0, 1), "b": (2, 3), "c": (3, 5), "d": (4.5, 6), "e": (7, 8), "f": (7.5, 9)}
    assert tie_groups("abcdef", pairs_of("abcdef", intervals)) == [["b", "c", "d"], ["e", "f"]]
    assert tie_groups("bd", pairs_of("bd", intervals)) == []
    assert tie_groups("bcd", pairs_of("bcd", intervals)) == [["b", "c", "d"]]
    assert tie_groups("abe", pairs_of("abe", intervals)) == []
    assert tie_groups("a", pairs_of("a", intervals)) == tie_groups("", pairs_of("", intervals)) == []


# ---- the hypothesis


def test_strata_by_hand():
    orderings = ["a", "ab", "cba", "cb", "abc", "ba", "ac", "bca"]
    assert strata_of(orderings, ABC, "set") == [([1], [5]), ([4], [2, 7])]
    assert strata_of(orderings, ABC, "length") == [([1, 6], [3, 5]), ([4], [2, 7])]
    equal = {"a": 1.0, "b": 1.0, "c": 3.0}
    assert strata_of(orderings, equal, "set") == []
    assert strata_of(orderings, equal, "length") == [([6], [1, 3, 5])]


def test_the_effect_by_hand():
    strata = [([0], [1, 2]), ([3, 4], [5])]
    values = np.array([[6.0, 1, 3, 4, 5, 3], [0.0, 0, 0, 0, 0, 3]])
    assert effect_of(values, strata).tolist() == [(4 + 1.5) / 2, -1.5]
    assert effect_of(values[0], strata).item() == 2.75
    np.testing.assert_allclose(values @ weights_of(strata, 6), effect_of(values, strata))
    assert weights_of([], 3).tolist() == [0, 0, 0]


def null_table(tasks, lengths, num_seeds, inherited, seed, lift=0.0):
    """Chains among which order does nothing, with `inherited` of the luck of each stage: (orderings, [K, S], singles).

    With `lift` the orderings by name are better.
    """
    rng = np.random.default_rng(seed)
    luck = {(): np.zeros(num_seeds)}
    for ordering in orderings_of(tasks, range(1, max(lengths) + 1)):
        luck[ordering] = inherited * luck[ordering[:-1]] + rng.normal(size=num_seeds)
    orderings = orderings_of(tasks, lengths)
    accuracies = [luck[ordering] + lift * (list(ordering) == sorted(ordering)) for ordering in orderings]
    singles = {task: luck[task,] + (100 * ord(task) if lift else 0) for task in tasks}
    return orderings, np.array(accuracies), singles


def brute_force(orderings, accuracies, singles, strata):
    """(effect, p value, arrangements) by renaming the tasks of all chains one permutation after the other."""
    tasks, num_seeds = sorted(singles), accuracies.shape[1]
    measured = {ordering: accuracies[place] for place, ordering in enumerate(orderings)}

    def effect(names):
        new = dict(zip(tasks, names, strict=True))
        values = np.array([measured[tuple(new[task] for task in ordering)] for ordering in orderings])
        each = []
        for seed in range(num_seeds):
            others = [s for s in range(num_seeds) if s != seed]
            ranking = {task: np.mean([singles[task][s] for s in others]) for task in tasks}
            each.append(effect_of(values[:, seed], strata_of(orderings, ranking, strata)))
        return np.mean(each)

    effects = [effect(names) for names in itertools.permutations(tasks)]
    return effects[0], np.mean(np.array(effects) >= effects[0] - 1e-12), len(effects)


@pytest.mark.parametrize("strata", ["set", "length"])
@pytest.mark.parametrize(("tasks", "lengths"), [("abc", [2, 3]), ("abcd", [2]), ("abcd", [3, 4])])
def test_the_test_agrees_with_brute_force(tasks, lengths, strata):
    table = null_table(tasks, lengths, 3, 0.5, seed=len(lengths))
    result = permutation_test(Judged.of(*table), strata=strata)
    assert (result.effect, result.p_value, result.num_arrangements) == pytest.approx(brute_force(*table, strata))
    assert (result.exact, result.reason) == (True, None)


def test_each_seed_is_judged_by_the_others():
    """Of two seeds each ranks the tasks of the other: a better at one, b at the other."""
    accuracies = np.array([[1.0, 10.0], [2.0, 30.0]])  # of ab and ba
    judged = Judged.of([("a", "b"), ("b", "a")], accuracies, {"a": [3.0, 1.0], "b": [1.0, 4.0]})
    # The first seed is judged by the second, a < b, so ab is the curriculum: 1 - 2. At the second it is ba: 30 - 10.
    result = permutation_test(judged)
    assert result.effect == pytest.approx((-1 + 20) / 2)
    assert result.p_value == pytest.approx(1 / 2)
    assert result.smallest_p_value == pytest.approx(1 / 2)


def test_the_smallest_p_value_is_that_of_all_names():
    for tasks, smallest in (("ab", 1 / 2), ("abc", 1 / 6), ("abcd", 1 / 24)):
        table = null_table(tasks, [2], 3, 0.0, seed=0, lift=100.0)
        result = permutation_test(Judged.of(*table))
        assert result.p_value == result.smallest_p_value == pytest.approx(smallest)
        assert result.effect == pytest.approx(100, abs=3)


def test_a_set_of_orderings_that_renaming_changes_has_an_effect_and_no_test():
    orderings, accuracies, singles = null_table("abc", [3], 2, 0.0, seed=1, lift=5.0)
    result = permutation_test(Judged.of(orderings[:5], accuracies[:5], singles))
    assert (result.p_value, result.smallest_p_value) == (None, None)
    assert result.effect > 0
    assert "give --orderings pairs, triples or full" in result.reason
    # A rising and a falling ordering are told apart by one renaming.
    two = [orderings.index(("a", "b", "c")), orderings.index(("c", "b", "a"))]
    result = permutation_test(Judged.of([orderings[i] for i in two], accuracies[two], singles))
    assert (result.num_arrangements, result.p_value) == (2, 0.5)


def test_lengths_that_lack_an_ordering_are_left_out():
    orderings, accuracies, singles = null_table("abc", [2, 3], 2, 0.5, seed=3)
    pairs = permutation_test(Judged.of(orderings[:6], accuracies[:6], singles))
    assert permutation_test(Judged.of(orderings[:-1], accuracies[:-1], singles)) == pairs
    assert whole_lengths(orderings) == {2, 3}
    assert whole_lengths(orderings[:-1]) == {2}


def test_nothing_to_compare_is_no_result():
    for names in ([], [("a", "b"), ("a", "b", "c")]):
        judged = Judged.of(names, np.zeros((len(names), 2)), {"a": [1.0, 1.0], "b": [2.0, 2.0], "c": [3.0, 3.0]})
        result = permutation_test(judged)
        assert (result.effect, result.num_strata, result.reason) == (None, 0, "none to compare")


def test_names_of_many_tasks_are_drawn(monkeypatch):
    table = null_table("abcde", [2], 3, 0.5, seed=2)
    exact = permutation_test(Judged.of(*table))
    monkeypatch.setattr(hypothesis, "MOST_TASKS", 4)
    drawn = permutation_test(Judged.of(*table))
    assert (exact.exact, exact.num_arrangements) == (True, 120)
    assert (drawn.exact, drawn.num_arrangements) == (False, 20_000)
    assert drawn.effect == exact.effect
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.012)
    assert drawn == permutation_test(Judged.of(*table))


def null_worlds(inherited, number, num_seeds=3):
    found = [
        permutation_test(Judged.of(*null_table("abcd", [2, 3], num_seeds, inherited, seed))) for seed in range(number)
    ]
    return np.array([result.p_value for result in found]), np.array([result.effect for result in found])


@pytest.mark.parametrize("inherited", [0.0, 1.0])
def test_without_an_effect_of_order_nothing_is_found(inherited):
    """Also where chains have all the luck of their first stage, which single-task runs share."""
    p_values, effects = null_worlds(inherited, 80)
    assert np.mean(p_values <= 0.05) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 80)
    assert abs(effects.mean()) <= 2.5 * effects.std() / math.sqrt(80)


@pytest.mark.long
@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize("inherited", [0.0, 0.5, 1.0])
def test_the_test_keeps_its_level(inherited, num_seeds):
    p_values, effects = null_worlds(inherited, 600, num_seeds)
    assert 0.03 - 0.012 <= np.mean(p_values <= 0.05) <= 0.07 + 0.012
    assert abs(effects.mean()) <= 2.6 * effects.std() / math.sqrt(600)


# ---- predicted against measured order


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("order", [1, -1, 1, -1, -1 / 3, 1 / 3]),
        ("mean", [1.5, 1.5, 7 / 3, 7 / 3, 7 / 3, 7 / 3]),
        ("last", [2, 1, 4, 1, 1, 2]),
    ],
)
def test_predictions_by_hand(name, expected):
    orderings = ["ab", "ba", "abc", "cba", "bca", "acb"]
    singles = {"a": 1.0, "b": 2.0, "c": 4.0}
    np.testing.assert_allclose(predicted(orderings, singles, name), expected)


def test_predictions_of_resampled_accuracies():
    singles = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([2.0, 2.0, 1.0]), "c": np.array([3.0, 2.5, 5.0])}
    assert predicted(["ab", "abc"], singles, "last").tolist() == [[2, 3], [2, 2.5], [1, 5]]
    np.testing.assert_allclose(predicted(["ab", "abc"], singles, "mean"), [[1.5, 2], [2, 6.5 / 3], [2, 3]])
    np.testing.assert_allclose(predicted(["ab", "abc"], singles, "order"), [[1, 1], [0, 2 / 3], [-1, 1 / 3]])


@given(st.permutations(range(5)))
def test_the_predicted_order_is_kendalls_tau(places):
    singles = {name: float(place) for name, place in zip("abcde", places, strict=True)}
    theirs = scipy.stats.kendalltau(range(5), places).statistic
    assert predicted(["abcde"], singles, "order") == pytest.approx([theirs])


@given(st.integers(2, 8).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 3), min_size=n, max_size=n)] * 2)))
def test_kendall_tau_agrees_with_scipy(rows):
    theirs = scipy.stats.kendalltau(*rows).statistic
    assert kendall_tau(*map(np.array, rows)).item() == pytest.approx(theirs, nan_ok=True)


def test_kendall_tau_by_hand():
    rising = np.array([0.1, 0.2, 0.3, 0.4])
    rows = np.array([rising, rising[::-1], [1, 1, 2, 2], [1, 1, 1, 1], [1, 2, np.nan, 4]])
    expected = [1, -1, 4 / math.sqrt(4 * 6), np.nan, np.nan]
    np.testing.assert_allclose(kendall_tau(rows, rising), expected)
    np.testing.assert_allclose(kendall_tau(rising, rows), expected)


def test_kendall_tau_of_many_rows():
    rng = np.random.default_rng(0)
    first, second = rng.integers(5, size=(3, 1, 7)), rng.integers(5, size=(4, 7))
    found = kendall_tau(first, second)
    assert found.shape == (3, 4)
    for i, j in itertools.product(range(3), range(4)):
        assert found[i, j] == pytest.approx(scipy.stats.kendalltau(first[i, 0], second[j]).statistic)
    assert kendall_tau(second[0], second[1]).shape == ()


# ---- what cannot be is refused


def test_an_accuracy_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        Judged.of([("a", "b"), ("b", "a")], [[math.nan, 1.0], [1.0, 1.0]], {"a": [1.0, 1.0], "b": [2.0, 2.0]})
    with pytest.raises(ValueError, match="not a number"):
        Judged.of([("a", "b"), ("b", "a")], [[1.0, 1.0], [1.0, 1.0]], {"a": [1.0, math.nan], "b": [2.0, 2.0]})


def test_misspelt_words_are_refused():
    judged = Judged.of([("a", "b"), ("b", "a")], [[1.0, 1.0], [2.0, 2.0]], {"a": [1.0, 1.0], "b": [2.0, 2.0]})
    with pytest.raises(ValueError, match="strata"):
        permutation_test(judged, strata="lenght")
    with pytest.raises(ValueError, match="predictions"):
        predicted([("a", "b")], {"a": 1.0, "b": 2.0}, "lsat")


def test_the_order_of_one_task_predicts_nothing():
    assert predicted([("a",)], {"a": np.array([1.0, 2.0])}, "order").tolist() == [[0.0], [0.0]]
