"""Curricula: against the study's tables, by hand, and against SciPy, brute force and the other bootstrap."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sslcurr.analysis.experiments import hypothesis
from sslcurr.analysis.experiments.hypothesis import (
    PREDICTIONS,
    effect_of,
    kendall_tau,
    permutation_test,
    predicted,
    strata_of,
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
from sslcurr.analysis.measures.classification import balanced_accuracy
from sslcurr.analysis.measures.intervals import alike, bootstrap_interval, interval_of, resampled_accuracies
from sslcurr.analysis.results.ranking.document import ANTI, CURRICULUM, MIXED, SINGLE, TIED, PermutationTest
from sslcurr.errors import SpecError
from tests.study import TABLE_1, TABLE_2, TABLE_3, TABLE_3_BASELINES

SINGLES = {row.tasks[0]: row.accuracy for row in TABLE_3 if len(row.tasks) == 1}
CHAINS = [row for row in TABLE_3 if len(row.tasks) > 1]
OUTLIER = ("rotation", "mocov2")  # 76.08 %, six points below every other row
ABC = {"a": 1.0, "b": 2.0, "c": 3.0}
ABCD = {**ABC, "d": 4.0}


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


def markings(stratum):
    """All ways to mark as many of a stratum's values as are marked."""
    count = sum(mark for mark, _ in stratum)
    return [marks for marks in itertools.product([True, False], repeat=len(stratum)) if sum(marks) == count]


def brute_force(strata):
    """(strata, effect, p value, arrangements) of lists of (mark, value), one by one and without rounding."""
    strata = [[(mark, Fraction(str(value))) for mark, value in stratum] for stratum in strata]
    strata = [stratum for stratum in strata if {mark for mark, _ in stratum} == {True, False}]

    def difference(stratum, marks):
        ours = [value for (_, value), mark in zip(stratum, marks, strict=True) if mark]
        others = [value for (_, value), mark in zip(stratum, marks, strict=True) if not mark]
        return sum(ours) / len(ours) - sum(others) / len(others)

    observed = sum(difference(stratum, [mark for mark, _ in stratum]) for stratum in strata)
    each = [[difference(stratum, marks) for marks in markings(stratum)] for stratum in strata]
    sums = [sum(way) for way in itertools.product(*each)]
    share = sum(value >= observed for value in sums) / len(sums)
    return len(strata), float(observed / len(strata)), share, len(sums)


def test_brute_force_by_hand():
    strata = [[(True, 3), (False, 1), (False, 2)], [(False, 4), (True, 4)], [(True, 9)]]
    assert brute_force(strata) == (2, 0.75, 2 / 6, 6)


def by(rows, stratum_of):
    found = {}
    for row in rows:
        found.setdefault(stratum_of(row.tasks), []).append((row.curriculum, row.accuracy))
    return list(found.values())


def verdict(rows, strata):
    return permutation_test([row.tasks for row in rows], [row.accuracy for row in rows], SINGLES, strata=strata)


@pytest.mark.parametrize(
    ("strata", "outlier", "num_strata", "effect", "p_value", "arrangements"),
    [
        ("set", True, 7, 1.1, 38 / 128, 128),
        ("set", False, 6, -0.165, 38 / 64, 64),
        ("length", True, 2, 1.0541667, 728 / 5544, 5544),
        ("length", False, 2, 0.299, 485 / 1512, 1512),
    ],
)
def test_the_hypothesis_on_the_figures_of_the_study(strata, outlier, num_strata, effect, p_value, arrangements):
    """Curricula are better by one point, p = 0.30 or 0.13; without one set of tasks nothing of it is left."""
    rows = [row for row in CHAINS if outlier or set(row.tasks) != set(OUTLIER)]
    result = verdict(rows, strata)
    assert (result.strata, result.num_strata, result.num_arrangements) == (strata, num_strata, arrangements)
    assert result.exact
    assert result.effect == pytest.approx(effect, abs=1e-6)
    assert result.p_value == pytest.approx(p_value)
    expected = brute_force(by(rows, {"set": frozenset, "length": len}[strata]))
    assert (num_strata, result.effect, result.p_value, arrangements) == pytest.approx(expected)


def test_one_set_of_tasks_makes_the_effect_of_the_study():
    sets = {frozenset(row.tasks) for row in CHAINS if len(row.tasks) == 2}
    without = {s: verdict([row for row in CHAINS if set(row.tasks) != s], "set").effect for s in sets}
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


# ---- accuracies with their uncertainty


def runs(num_chains=1, num_seeds=1, n=200, classes=3, seed=0):
    """labels [N] and correct [K, S, N]; chains and seeds differ in how often they are right."""
    rng = np.random.default_rng(seed)
    labels = 10 * rng.choice(classes, size=n, p=np.array([0.6, 0.3, 0.1])) + 3
    level = 0.6 + 0.1 * rng.normal(size=(num_chains, num_seeds, 1)) + 0.15 * (labels == 3)
    ease = rng.uniform(size=n)
    return labels, (0.5 * ease + 0.5 * rng.uniform(size=level.shape) < level).astype(float)


def plain_bootstrap(labels, correct, groups, num_resamples, seed=1):
    """Draws groups and seeds one by one and measures each resample as if it were the data."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    num_chains, num_seeds, _ = correct.shape
    found = np.full((num_resamples, num_chains), np.nan)
    for row in found:
        images = np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])
        drawn, y = rng.integers(num_seeds, size=num_seeds), labels[images]
        recalls = np.stack([correct[:, :, images][:, :, y == c].mean(axis=2) for c in np.unique(y)])
        for k, values in enumerate(recalls.mean(axis=0)[:, drawn]):
            if (kept := values[~np.isnan(values)]).size:
                row[k] = kept.mean()
    return found


def test_resamples_are_around_the_balanced_accuracy():
    labels, correct = runs(num_chains=3, num_seeds=2)
    plain = [
        np.mean([balanced_accuracy(labels, np.where(c == 1, labels, -1)) for c in of_chain]) for of_chain in correct
    ]
    assert np.ptp(plain) > 0.03
    np.testing.assert_allclose(resampled_accuracies(labels, correct).mean(axis=0), plain, atol=0.005)


@pytest.mark.parametrize("grouped", [False, True])
def test_resamples_of_one_seed_agree_with_bootstrap_interval(grouped):
    labels, correct = runs()
    groups = np.sqrt(np.arange(200)).astype(int) if grouped else None
    resampled = resampled_accuracies(labels, correct, groups, num_resamples=10_000)
    predictions = np.where(correct[0, 0] == 1, labels, -1)
    for level in (0.5, 0.95):
        theirs = bootstrap_interval(labels, predictions, groups, level=level, num_resamples=10_000)
        assert interval_of(resampled[:, 0], level) == pytest.approx(theirs, abs=0.005)


@pytest.mark.parametrize("missing", [False, True])
def test_resamples_agree_with_a_plain_loop(missing):
    labels, correct = runs(num_chains=3, num_seeds=3, n=120)
    if missing:
        correct[1, 2] = correct[2, :2] = np.nan
    groups = np.arange(120) // 2
    ours = resampled_accuracies(labels, correct, groups, num_resamples=6000)
    plain = plain_bootstrap(labels, correct, groups, 6000)
    np.testing.assert_allclose(np.isnan(ours).mean(axis=0), np.isnan(plain).mean(axis=0), atol=0.02)
    for i, j in itertools.combinations_with_replacement(range(3), 2):
        pair = [values[:, i] if i == j else values[:, i] - values[:, j] for values in (ours, plain)]
        np.testing.assert_allclose(*(np.nanquantile(values, [0.025, 0.5, 0.975]) for values in pair), atol=0.01)
        assert np.nanstd(pair[0]) == pytest.approx(np.nanstd(pair[1]), rel=0.05)


def test_copies_of_an_image_in_its_group_say_nothing_new():
    labels, correct = runs(num_chains=2, num_seeds=2, n=80)
    once = resampled_accuracies(labels, correct)
    labels, correct, groups = np.repeat(labels, 5), np.repeat(correct, 5, axis=2), np.repeat(np.arange(80) * 7 + 2, 5)
    np.testing.assert_allclose(resampled_accuracies(labels, correct, groups), once)
    shuffled = np.random.default_rng(0).permutation(400)
    again = resampled_accuracies(labels[shuffled], correct[:, :, shuffled], groups[shuffled])
    np.testing.assert_allclose(again, once)
    assert resampled_accuracies(labels, correct[:, :1])[:, 0].std() < 0.6 * once[:, 0].std()


def test_chains_are_paired_over_images_and_seeds():
    labels, correct = runs(num_seeds=3)
    worse = correct.copy()
    worse[:, :, ::7] = 0
    resampled = resampled_accuracies(labels, np.concatenate([correct, correct, worse]))
    assert resampled[:, 0].std() > 0.02
    assert np.all(resampled[:, 0] - resampled[:, 1] == 0)
    assert np.all(resampled[:, 2] <= resampled[:, 0])


def test_the_spread_of_seeds_by_hand():
    """Of two seeds, one always right and one never, a quarter of the resamples holds each twice."""
    correct = np.stack([np.ones(20), np.zeros(20)])[None]
    values, counts = np.unique(resampled_accuracies(np.arange(20) % 2, correct), return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    np.testing.assert_allclose(counts / 2000, [0.25, 0.5, 0.25], atol=0.03)


def test_a_shift_between_seeds_widens_the_interval_and_a_shared_one_not_the_difference():
    labels = np.arange(400) % 2
    first = (np.random.default_rng(0).uniform(size=400) < 0.5).astype(float)
    second = np.maximum(first, (np.arange(400) // 2) % 2)  # right in about 25 points more
    alike = resampled_accuracies(labels, np.stack([first, first])[None])[:, 0]
    shifted = resampled_accuracies(labels, np.stack([first, second])[None])[:, 0]
    shift = second.mean() - first.mean()
    expected = math.hypot(alike.std(), shift / 2 / math.sqrt(2))
    assert shifted.std() == pytest.approx(expected, rel=0.05)
    assert shifted.std() > 2 * alike.std()
    other = np.stack([first, second])
    other[:, :20] = 0
    both = resampled_accuracies(labels, np.stack([np.stack([first, second]), other]))
    assert (both[:, 0] - both[:, 1]).std() < 0.2 * shifted.std()


def test_missing_runs_by_hand():
    """The second chain has the first seed only, the third has no run."""
    correct = np.stack([np.stack([np.ones(20), np.zeros(20)])] * 3)
    correct[1, 1] = correct[2] = np.nan
    values = resampled_accuracies(np.arange(20) % 2, correct)
    assert values.shape == (2000, 3)
    assert set(values[:, 0]) == {0, 0.5, 1}
    np.testing.assert_array_equal(np.isnan(values[:, 1]), values[:, 0] == 0)
    assert set(values[~np.isnan(values[:, 1]), 1]) == {1}
    assert np.isnan(values[:, 2]).all()


def test_a_class_that_a_resample_misses_is_left_out():
    labels = np.array([0] * 6 + [1])
    assert np.all(resampled_accuracies(labels, np.ones((1, 1, 7))) == 1)
    values = resampled_accuracies(labels, (labels == 0).astype(float)[None, None])
    assert np.mean(values == 1) == pytest.approx((6 / 7) ** 7, abs=0.03)
    assert np.mean(values == 0.5) == pytest.approx(1 - (6 / 7) ** 7, abs=0.03)


def test_resamples_depend_on_the_seed_alone():
    labels, correct = runs(num_chains=2, num_seeds=2)
    values = resampled_accuracies(labels, correct, num_resamples=450, seed=4)
    assert values.shape == (450, 2)
    np.testing.assert_array_equal(values, resampled_accuracies(labels, correct, num_resamples=450, seed=4))
    assert not np.allclose(values, resampled_accuracies(labels, correct, num_resamples=450, seed=5))
    assert not np.allclose(values[:200], values[200:400])
    np.testing.assert_allclose(resampled_accuracies(labels, correct[1:], num_resamples=450, seed=4), values[:, 1:])


def test_intervals_by_hand():
    values = np.random.default_rng(0).permutation(101).astype(float)
    assert interval_of(values) == pytest.approx((2.5, 97.5))
    assert interval_of(values, 0.5) == pytest.approx((25, 75))
    assert interval_of(np.append(values, [np.nan] * 50)) == pytest.approx((2.5, 97.5))
    assert interval_of(np.array([0.3])) == (0.3, 0.3)
    assert interval_of(np.array([])) is interval_of(np.array([np.nan, np.nan])) is None


def pairs_of(tasks, resampled):
    """The pairs that cannot be told apart, by the resamples of each."""
    return [(a, b) for a, b in itertools.combinations(tasks, 2) if alike(resampled[b] - resampled[a])]


def test_groups_are_linked_by_neighbours():
    noise = np.linspace(-1, 1, 201)
    resampled = {"a": noise, "b": noise + 0.01, "c": 2 * noise + 0.6, "d": 2.5 * noise + 0.9, "e": 2.5 * noise + 3}
    resampled["f"] = 5 * noise + 3
    assert tie_groups("abcdef", pairs_of("abcdef", resampled)) == [["b", "c", "d"], ["e", "f"]]
    assert tie_groups("bd", pairs_of("bd", resampled)) == [["b", "d"]]
    assert tie_groups("abe", pairs_of("abe", resampled)) == []
    assert tie_groups("a", pairs_of("a", resampled)) == tie_groups("", pairs_of("", resampled)) == []


def test_groups_by_the_paired_difference_at_95_percent():
    noise = np.random.default_rng(0).normal(size=1000)
    step = np.ones(1000)
    almost, enough = step.copy(), step.copy()
    almost[:20], enough[:30] = -1, -1
    resampled = {"a": noise, "almost": noise + almost, "enough": noise + enough, "same": noise + 0, "below": noise - 1}
    assert tie_groups(["a", "almost"], pairs_of(["a", "almost"], resampled)) == []
    assert tie_groups(["a", "enough"], pairs_of(["a", "enough"], resampled)) == [["a", "enough"]]
    assert tie_groups(["a", "same"], pairs_of(["a", "same"], resampled)) == [["a", "same"]]
    assert tie_groups(["a", "below"], pairs_of(["a", "below"], resampled)) == []


def test_tasks_never_measured_together_are_alike():
    resampled = {"a": np.array([0.1, np.nan]), "b": np.array([np.nan, 0.9])}
    assert tie_groups("ab", pairs_of("ab", resampled)) == [["a", "b"]]


# ---- the hypothesis


def measured(orderings, seed=0, lift=0.5):
    """Accuracies in tenths, so that some are equal, of which curricula have more."""
    lifted = [lift * (list(ordering) == sorted(ordering)) for ordering in orderings]
    return np.round(np.random.default_rng(seed).normal(size=len(orderings)) + lifted, 1)


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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("length", [2, 3])
def test_permutations_of_one_stratum_agree_with_scipy(length, seed):
    orderings = orderings_of("abcd", [length])
    values = measured(orderings, seed)
    result = permutation_test(orderings, values, ABCD, strata="length")
    ours = np.array([list(ordering) == sorted(ordering) for ordering in orderings])
    theirs = scipy.stats.permutation_test(
        (values[ours], values[~ours]),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        permutation_type="independent",
        alternative="greater",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert (result.num_strata, result.exact) == (1, True)
    assert result.num_arrangements == len(theirs.null_distribution) == math.comb(len(ours), sum(ours))
    assert result.effect == pytest.approx(theirs.statistic)
    assert result.p_value == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize(
    ("strata", "lengths", "kept", "arrangements"),
    [
        ("set", [3], slice(24), 6**4),
        ("set", [1, 2, 3], slice(20), 2**7),
        ("length", [2, 3], slice(16), 924 * 4),
    ],
)
def test_permutations_of_several_strata_agree_with_brute_force(strata, lengths, kept, arrangements):
    orderings = orderings_of("abcd", lengths)[kept]
    values = measured(orderings)
    result = permutation_test(orderings, values, ABCD, strata=strata)
    found = {}
    for ordering, value in zip(orderings, values, strict=True):
        if len(ordering) > 1:
            stratum = found.setdefault("".join(sorted(ordering)) if strata == "set" else len(ordering), [])
            stratum.append((list(ordering) == sorted(ordering), value))
    expected = brute_force(found.values())
    assert expected[-1] == arrangements
    assert (result.num_strata, result.effect, result.p_value, result.num_arrangements) == pytest.approx(expected)
    assert result.exact


def test_the_smallest_and_the_greatest_p_value():
    orderings = orderings_of("abc", [3])
    best = [10.0 if ordering == ("a", "b", "c") else place for place, ordering in enumerate(orderings)]
    assert permutation_test(orderings, best, ABC).p_value == pytest.approx(1 / 6)
    assert permutation_test(orderings, [-value for value in best], ABC).p_value == 1
    assert permutation_test(orderings, [0.7] * 6, ABC).p_value == 1


def test_nothing_to_compare_is_no_result():
    nothing = PermutationTest(
        strata="set", num_strata=0, effect=None, p_value=None, num_arrangements=0, exact=True, interval=None
    )
    for orderings in ([], ["a", "b"], ["ab", "abc"], ["ba", "cba"], ["ab", "cb"]):
        assert permutation_test(orderings, [0.5] * len(orderings), ABC) == nothing
    assert permutation_test(["ab", "abc"], [0.5, 0.6], ABC, strata="length").strata == "length"


def test_many_strata_are_drawn():
    tasks = {name: float(place) for place, name in enumerate("abcdefg")}
    pairs = [pair for rising in itertools.combinations("abcdefg", 2) for pair in (rising, rising[::-1])]
    values = measured(pairs, lift=0.6)

    exact = permutation_test(pairs[:34], values[:34], tasks)
    assert (exact.num_arrangements, exact.exact) == (2**17, True)

    result = permutation_test(pairs[:36], values[:36], tasks)
    steps = values[:36:2] - values[1:36:2]
    sums = np.zeros(1)
    for step in steps:
        sums = np.concatenate([sums + step, sums - step])
    expected = np.mean(sums >= steps.sum() - 1e-9)
    assert 0.1 < expected < 0.2
    assert (result.num_strata, result.num_arrangements, result.exact) == (18, 20_000, False)
    assert result.effect == pytest.approx(steps.mean())
    assert result.p_value == pytest.approx(expected, abs=0.008)
    assert permutation_test(pairs[:36], values[:36], tasks) == result
    assert permutation_test(pairs[:36], values[:36], tasks, seed=1).p_value != result.p_value


def test_drawn_arrangements_agree_with_all_of_them(monkeypatch):
    orderings = orderings_of("abcd", [2, 3])[:16]
    values = measured(orderings)
    monkeypatch.setattr(hypothesis, "MOST_EXACT", 924 * 4)
    exact = permutation_test(orderings, values, ABCD, strata="length")
    monkeypatch.setattr(hypothesis, "MOST_EXACT", 924 * 4 - 1)
    drawn = permutation_test(orderings, values, ABCD, strata="length")
    assert (exact.exact, drawn.exact) == (True, False)
    assert drawn.effect == exact.effect
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.012)


def test_one_curriculum_of_six_is_drawn_alone(monkeypatch):
    monkeypatch.setattr(hypothesis, "MOST_EXACT", 5)
    result = permutation_test(orderings_of("abc", [3]), [3, 0, 10, 0, 0, 0], ABC)
    assert (result.effect, result.exact) == (1, False)
    assert result.p_value == pytest.approx(2 / 6, abs=0.012)


def test_a_drawn_p_value_is_never_zero():
    orderings = orderings_of("abcdef", [3])
    values = [float(list(ordering) == sorted(ordering)) for ordering in orderings]
    result = permutation_test(orderings, values, {name: float(place) for place, name in enumerate("abcdef")})
    assert (result.num_strata, result.effect, result.exact) == (20, 1, False)
    assert result.p_value == pytest.approx(1 / 20_001)


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
        permutation_test([("a", "b"), ("b", "a")], [math.nan, 1.0], {"a": 1.0, "b": 2.0})


def test_misspelt_words_are_refused():
    with pytest.raises(ValueError, match="strata"):
        permutation_test([("a", "b")], [1.0], {"a": 1.0, "b": 2.0}, strata="lenght")
    with pytest.raises(ValueError, match="predictions"):
        predicted([("a", "b")], {"a": 1.0, "b": 2.0}, "lsat")


def test_the_order_of_one_task_predicts_nothing():
    assert predicted([("a",)], {"a": np.array([1.0, 2.0])}, "order").tolist() == [[0.0], [0.0]]
