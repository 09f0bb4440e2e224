"""Intervals: by hand, against other implementations, and by simulation."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from sslcurr.analysis.measures.classification import accuracy_interval, balanced_accuracy
from sslcurr.analysis.measures.comparisons import Comparisons
from sslcurr.analysis.measures.intervals import (
    Images,
    Luck,
    combined,
    difference,
    interval_of,
    jackknife_deviation,
    jackknife_groups,
    jackknifed,
    luck_of,
    noise_of,
    prior_degrees,
    sample,
    variance_of,
    without_groups,
)


def runs(num_chains=1, num_seeds=1, n=200, seed=0, luck=0.1):
    """labels [N] and correct [K, S, N]; chains and seeds differ in how often they are right."""
    rng = np.random.default_rng(seed)
    labels = 10 * rng.choice(3, size=n, p=[0.6, 0.3, 0.1]) + 3
    level = 0.6 + luck * rng.normal(size=(num_chains, num_seeds, 1)) + 0.15 * (labels == 3)
    ease = rng.uniform(size=n)
    return labels, (0.5 * ease + 0.5 * rng.uniform(size=level.shape) < level).astype(float)


def figure_of(labels, correct, groups=None, seeds=None):
    return sample(correct, Images.of(len(labels), classes=labels, groups=groups), seeds)


def plain_values(values, seed_variance=0.0, images=0.0):
    """A figure of given values at the seeds, with a variance over images of two units."""
    half = math.sqrt(images / 2)
    influence = np.tile([half, -half], (len(values), 1))
    layout = Images.of(2)
    made = sample(np.zeros((len(values), 2)), layout)
    return type(made)(tuple(range(len(values))), np.array(values, dtype=float), influence, layout, 0.0)


# ---- what is measured


def test_values_are_balanced_accuracies():
    labels, correct = runs(num_seeds=3)
    figure = figure_of(labels, correct[0], seeds=[4, 7, 1])
    expected = [balanced_accuracy(labels, np.where(row == 1, labels, -1)) for row in correct[0]]
    np.testing.assert_allclose(figure.values, expected)
    assert figure.seeds == (4, 7, 1)
    assert figure.mean == pytest.approx(np.mean(expected))
    assert figure.std == pytest.approx(np.std(expected, ddof=1))
    np.testing.assert_allclose(figure.influence.sum(axis=1), 0, atol=1e-12)


def test_the_variance_over_images_by_hand():
    """Two classes with recalls 3/4 and 1/2: sample variances 1/4 and 1/3 over four images, each half of the mean."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    figure = figure_of(labels, np.array([[1, 1, 1, 0, 1, 1, 0, 0]], dtype=float))
    found = variance_of(figure)
    assert found.images == pytest.approx((0.25 / 4 + (1 / 3) / 4) / 4)
    a, b = 0.25 / 16, (1 / 3) / 16
    assert found.image_degrees == pytest.approx((a + b) ** 2 / (a * a / 3 + b * b / 3))
    assert found.seeds == 0
    t = scipy.stats.t.ppf(0.975, found.image_degrees)
    assert interval_of(figure) == pytest.approx((0.625 - t * math.sqrt(a + b), 0.625 + t * math.sqrt(a + b)))


def test_one_class_is_the_mean_of_students_t():
    values = np.random.default_rng(0).normal(size=(1, 30))
    figure = sample(values, Images.of(30))
    theirs = scipy.stats.ttest_1samp(values[0], 0).confidence_interval()
    assert interval_of(figure) == pytest.approx((theirs.low, theirs.high))


def test_two_models_on_the_same_images_are_students_paired_t():
    first, second = np.random.default_rng(0).normal(size=(2, 1, 25)) + np.linspace(0, 3, 25)
    images = Images.of(25)
    compared = difference(sample(first, images), sample(second, images))
    theirs = scipy.stats.ttest_rel(second[0], first[0]).confidence_interval()
    assert interval_of(compared) == pytest.approx((theirs.low, theirs.high))


def test_seeds_alone_are_students_t():
    """Images that are all alike leave the variance over seeds."""
    values = [0.3, 0.5, 0.7, 0.4]
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert interval_of(plain_values(values)) == pytest.approx((theirs.low, theirs.high))


def test_both_parts_by_hand():
    """Seeds 0.4 and 0.6 (variance 0.02, of their mean 0.01) and 0.0025 over two images: quantiles by their shares."""
    found = variance_of(plain_values([0.4, 0.6], images=0.0025))
    assert (found.seeds, found.seed_degrees) == pytest.approx((0.01, 1))
    assert (found.images, found.image_degrees) == pytest.approx((0.0025, 1))
    t = scipy.stats.t.ppf(0.975, 1)
    assert found.half_width() == pytest.approx(t * math.sqrt(0.0125))
    many = type(found)(0.01, 1, 0.0025, 1000)
    quantile = 0.8 * t + 0.2 * scipy.stats.t.ppf(0.975, 1000)
    assert many.half_width() == pytest.approx(quantile * math.sqrt(0.0125))


def test_copies_of_an_image_in_its_group_say_nothing_new():
    labels, correct = runs(num_seeds=2, n=80)
    once = interval_of(figure_of(labels, correct[0]))
    labels, copies, groups = np.repeat(labels, 5), np.repeat(correct[0], 5, axis=1), np.repeat(np.arange(80) * 7 + 2, 5)
    assert interval_of(figure_of(labels, copies, groups)) == pytest.approx(once)
    shuffled = np.random.default_rng(0).permutation(400)
    again = figure_of(labels[shuffled], copies[:, shuffled], groups[shuffled])
    assert interval_of(again) == pytest.approx(once)
    assert variance_of(figure_of(labels, copies)).images < 0.3 * variance_of(again).images


def test_groups_over_classes_agree_with_a_bootstrap():
    labels, correct = runs(n=400)
    groups = np.random.default_rng(1).integers(60, size=400)
    figure = figure_of(labels, correct[0], groups)
    rng, drawn = np.random.default_rng(2), []
    for _ in range(4000):
        weights = rng.multinomial(60, np.full(60, 1 / 60))[groups]
        recalls = [np.average(correct[0, 0][labels == c], weights=weights[labels == c]) for c in np.unique(labels)]
        drawn.append(np.mean(recalls))
    assert math.sqrt(variance_of(figure).images) == pytest.approx(np.std(drawn), rel=0.06)


def test_missing_values_are_left_out_and_seeds_without_any():
    values = np.array([[0.2, np.nan, 0.6, 0.4], [np.nan] * 4, [0.5, 0.5, np.nan, 0.8]])
    figure = sample(values, Images.of(4), [10, 11, 12])
    assert figure.seeds == (10, 12)
    np.testing.assert_allclose(figure.values, [0.4, 0.6])
    assert figure.step == 0  # shares are no counts
    assert interval_of(sample(np.full((1, 4), np.nan), Images.of(4))) is None


def test_all_right_is_not_certain():
    """Twenty of twenty: one image of each class could have been wrong."""
    labels = np.repeat([0, 1], 10)
    low, high = accuracy_interval(labels, labels)
    assert high == 1
    assert low == pytest.approx(1 - scipy.stats.t.ppf(0.975, 19) * math.sqrt(2) / 20)
    low, _ = accuracy_interval(labels, labels, np.arange(20) // 5)  # two patients of each class
    assert low == pytest.approx(1 - scipy.stats.t.ppf(0.975, 3) * math.sqrt(2 / 8) / 2)


def test_large_classes_do_not_make_a_small_one_certain():
    """All five images of one class are right: one of them could have been wrong, whatever the other class has."""
    labels = np.repeat([0, 1], [50, 5])
    right = np.array([[1] * 40 + [0] * 10 + [1] * 5], dtype=float)
    found = variance_of(figure_of(labels, right))
    large, small = 0.8 * 0.2 / 49 / 4, 1 / 25 / 4
    assert found.images == pytest.approx(large + small)
    assert found.image_degrees == pytest.approx((large + small) ** 2 / (large**2 / 49))
    # Of one image nothing is known but that no share varies by more than a quarter.
    alone = variance_of(figure_of(np.repeat([0, 1], [50, 1]), right[:, :51]))
    assert alone.images == pytest.approx(large + 1 / 4 / 4)
    # So it is with one patient of many images, and for differences.
    groups = np.array([*range(50), *[50] * 5])
    patient = variance_of(figure_of(labels, right, groups))
    assert patient.images == pytest.approx(large + 1 / 4 / 4)
    paired = difference(figure_of(labels, right), figure_of(labels, 1 - right))
    assert variance_of(paired).images == pytest.approx(4 * large + small)


def test_a_small_class_is_covered():
    """One model, classes of 1,000, 1,000 and 5 images that are named rightly nine times in ten."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [1000, 1000, 5])
    images = Images.of(len(labels), classes=labels)
    found = 0
    for _ in range(200):
        low, high = interval_of(sample((generator.random((1, len(labels))) < 0.9).astype(float), images))
        found += low <= 0.9 <= high
    assert found >= 0.92 * 200


# ---- differences


def test_a_shift_of_all_seeds_and_images_is_certain_and_luck_is_not():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 50))
    images = Images.of(50)
    low, high = interval_of(difference(sample(values, images), sample(values + 2, images)))
    assert low == pytest.approx(2) == high
    luck = values + np.array([[0.0], [1.0], [-1.0]])
    low, high = interval_of(difference(sample(values, images), sample(luck, images)))
    assert high - low == pytest.approx(2 * scipy.stats.t.ppf(0.975, 2) / math.sqrt(3))


def test_differences_are_of_the_seeds_that_both_have():
    images = Images.of(4)
    a = sample(np.array([[0.0] * 4, [1.0] * 4]), images, [1, 2])
    b = sample(np.array([[0.5] * 4, [9.0] * 4]), images, [2, 3])
    assert difference(a, b).values.tolist() == [-0.5]
    assert difference(a, sample(np.ones((1, 4)), images, [7])) is None


def test_weights_of_their_own_for_each_seed():
    images = Images.of(2)
    a, b = (sample(np.full((2, 2), value), images) for value in (1.0, 10.0))
    found = combined([a, b], np.array([[1.0, -1.0], [0.5, 0.5]]))
    assert found.values.tolist() == [-9.0, 5.5]
    assert (found.squares, found.total) == pytest.approx((1.25, 0.5))


# ---- what chains lend each other


def chains_of(values):
    return [plain_values(row) for row in values]


def test_pooled_variances_by_hand():
    values = np.array([[0.1, 0.3], [0.2, 0.2], [0.6, 0.4]])
    luck = luck_of(chains_of(values))
    assert luck.within == pytest.approx(np.mean(values.var(axis=1, ddof=1)))
    centred = values - values.mean(axis=1, keepdims=True)
    residuals = centred - centred.mean(axis=0)
    assert luck.residual == pytest.approx(np.square(residuals).sum() / 2)  # (3 - 1) * (2 - 1) degrees of freedom
    assert luck.degrees == 2


def test_a_seed_that_is_good_for_all_is_no_luck_of_differences():
    values = np.array([[0.1, 0.4], [0.2, 0.5], [0.5, 0.8]])
    luck = luck_of(chains_of(values))
    assert luck.residual == pytest.approx(0, abs=1e-12)
    assert luck.within == pytest.approx(0.045)
    one = plain_values([0.1, 0.4])
    assert luck.variance(one) == pytest.approx(0.045)
    assert luck.variance(difference(one, plain_values([0.5, 0.8]))) == pytest.approx(0, abs=1e-12)


def test_nothing_is_lent_by_one_chain_or_by_one_seed():
    assert luck_of(chains_of([[0.1, 0.3]])) is None
    assert luck_of(chains_of([[0.1], [0.3], [0.2]])) is None
    assert luck_of([]) is None
    assert luck_of(chains_of([[0.1, 0.3], [0.2, 0.3]]), lineages=["a", "a"]) is None
    two = luck_of(chains_of([[0.1, 0.3], [0.2, 0.3]]))
    assert two.prior == 0  # what two chains know of each other is in their difference already


def test_equal_variances_lend_all_that_is_known():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.02, size=(30, 2))
    values[:, 1] = values[:, 0] + 0.03 * rng.choice([-1, 1], 30)  # the same spread at each chain
    luck = luck_of(chains_of(values))
    assert luck.prior + 1 == luck.degrees == 29
    assert luck_of(chains_of(values), lineages=[k // 3 for k in range(30)]).degrees == 9


def test_the_prior_of_known_variances():
    """Variances of 4 degrees of freedom around an inverse chi-square of 10: the fit finds about 10."""
    rng = np.random.default_rng(0)
    true = 10 / rng.chisquare(10, size=200_000)
    assert prior_degrees(true * rng.chisquare(4, size=200_000) / 4, 4) == pytest.approx(10, rel=0.05)
    assert math.isinf(prior_degrees(np.full(8, 0.3), 4))


def test_chains_of_other_seeds_than_most_say_nothing_of_luck_and_are_no_crash():
    """Two chains of seeds 0 and 1, one of 1 and 2 (as where a seed failed), one of 0 alone."""
    images = Images.of(40)
    rng = np.random.default_rng(0)

    def chain(*seeds):
        return sample((rng.random((len(seeds), 40)) < 0.6).astype(float), images, list(seeds))

    a, b, other, short = chain(0, 1), chain(1, 0), chain(1, 2), chain(0)
    assert luck_of([a, other, b, short]) == luck_of([a, b])
    compared = Comparisons({"a": a, "b": b, "other": other, "short": short})
    assert compared.difference("a", "other").num_seeds == 1
    assert compared.difference("short", "other") is None
    assert luck_of([a, other]) is None


def test_a_chain_of_one_seed_borrows():
    values = np.random.default_rng(0).normal(0.5, 0.1, size=(12, 3))
    luck = luck_of(chains_of(values))
    alone, lent = interval_of(plain_values([0.5])), interval_of(plain_values([0.5]), luck)
    assert alone == (0.5, 0.5)
    assert lent[1] - lent[0] > 3 * math.sqrt(luck.within)


def test_a_baseline_of_more_luck_keeps_its_own():
    luck = Luck(within=0.01, residual=0.01, prior=20, degrees=24)
    assert luck.lends_to(plain_values([0.45, 0.5, 0.55]))
    assert not luck.lends_to(plain_values([0.5, 0.5, 0.51]))  # of less luck than theirs
    assert not luck.lends_to(plain_values([0.3, 0.5, 0.8]))
    assert not luck.lends_to(plain_values([0.5]))
    assert not luck.lends_to(plain_values([0.5, 0.54]))  # two seeds hardly ever show that
    # By hand for three seeds: from the 5 % quantile of F(2, 24) to 9 times that.
    least = scipy.stats.f.ppf(0.05, 2, 24) * 0.01
    for factor, lends in ((0.98, False), (1.02, True), (8.9, True), (9.1, False)):
        half = math.sqrt(factor * least)
        assert luck.lends_to(plain_values([0.5 - half, 0.5, 0.5 + half])) is lends


def test_the_chance_of_each_image_is_not_counted_twice():
    """Chains without luck but that of each image: next to nothing is lent, and intervals are those of images."""
    rng = np.random.default_rng(0)
    labels = np.arange(2000) % 2
    correct = (rng.uniform(size=(12, 3, 2000)) < 0.7).astype(float)
    figures = [figure_of(labels, each) for each in correct]
    noise = np.mean([noise_of(each) for each in figures])
    assert noise == pytest.approx(0.7 * 0.3 / 2000, rel=0.03)
    luck = luck_of(figures)
    assert luck.within == pytest.approx(noise, rel=0.5)
    compared = difference(figures[0], figures[1])
    found = variance_of(compared, luck)
    assert found.images == pytest.approx(2 * 0.21 / 2000 / 3, rel=0.1)
    assert found.seeds < 0.4 * found.images


# ---- tables of chains


def test_one_seed_tells_nothing_apart():
    labels = np.arange(100) % 2
    correct = {"bad": np.zeros((1, 100)), "good": np.ones((1, 100))}
    compared = Comparisons({name: figure_of(labels, each) for name, each in correct.items()})
    paired = compared.difference("bad", "good")
    assert (paired.mean, paired.num_seeds, paired.told_apart) == (1.0, 1, False)
    assert paired.interval[0] > 0  # over images it is
    twice = Comparisons({name: figure_of(labels, np.tile(each, (2, 1))) for name, each in correct.items()})
    assert twice.difference("bad", "good").told_apart


def test_chains_that_were_never_measured_together_have_no_difference():
    labels = np.arange(20) % 2
    a, b = figure_of(labels, np.ones((2, 20)), seeds=[0, 1]), figure_of(labels, np.ones((1, 20)), seeds=[2])
    compared = Comparisons({"a": a, "b": b})
    assert compared.difference("a", "b") is None
    assert compared.difference("a", "c") is compared.interval("c") is None


def test_intervals_stay_within_what_can_be():
    labels = np.arange(20) % 2
    correct = np.ones((2, 20))
    correct[0, :9] = 0
    low, high = Comparisons({"a": figure_of(labels, correct)}).interval("a")
    assert (low, high) == (0.0, 1.0)


# ---- jackknife


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=40)
    deleted = (values.sum() - values) / 39
    assert jackknife_deviation(deleted) == pytest.approx(scipy.stats.sem(values))
    figure = jackknifed(np.array([values.mean()]), deleted[:, None])
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert interval_of(figure) == pytest.approx((theirs.low, theirs.high), rel=1e-2)


def test_groups_are_deleted_whole_and_spread_over_the_classes():
    labels, correct = runs(num_seeds=2, n=120)
    patients = np.random.default_rng(0).permutation(np.arange(120) // 3)
    images = Images.of(120, classes=labels, groups=patients)
    found = without_groups(correct[0], images, 20)
    assert found.shape == (20, 2)
    whole = sample(correct[0], images).values
    assert jackknife_deviation(found)[0] == pytest.approx(
        math.sqrt(variance_of(sample(correct[0, :1], images)).images), rel=0.35
    )
    assert np.abs(found.mean(axis=0) - whole).max() < 0.01


def test_a_class_that_lies_in_a_deleted_group_is_left_out():
    found = without_groups(np.array([[1.0, 1.0, 0.0]]), Images.of(3, classes=np.array([0, 0, 1])), 3)
    assert sorted(found[:, 0]) == [0.5, 0.5, 1.0]


def test_few_images_make_no_groups():
    assert [jackknife_groups(n) for n in (0, 79, 80, 5000)] == [0, 0, 20, 20]


# ---- the simulation

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("simulation", BENCHMARKS / "simulation.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its data classes
    spec.loader.exec_module(module)
    return module


def test_intervals_cover_and_the_old_ones_do_not(simulation):
    """A fixed part of the simulation: 2,000 images, two seeds, five chains, and a baseline of five times the luck."""
    world = simulation.World(2000, 2, 5, baseline_luck=5.0)
    found = simulation.simulate(world, 40, ("old", "sslcurr"), power=False)
    ours, old = found["sslcurr"], found["old"]
    for name in ("mean", "baseline", "gain", "difference"):
        mean, error = ours[name]
        error = max(error, math.sqrt(0.05 * 0.95 / 40))
        assert 0.92 - 2 * error <= mean <= 0.99 + 2 * error
    mean, error = ours["falsely"]
    assert mean <= 0.07 + 2 * error
    assert old["falsely"][0] > 0.07
    assert old["baseline"][0] + 2 * old["baseline"][1] < 0.92


KINDS = (
    *("equal luck", "baseline with five times the luck", "luck of one to five times", "ties", "luck common to a seed"),
    *("inherited luck", "accuracy of 95 %", "groups of four"),
)


def test_the_kinds_are_those_of_the_simulation(simulation):
    assert tuple(simulation.KINDS) == KINDS


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table(simulation, kind):
    """The table of benchmarks/statistics.py up to 2,000 images: no column is off by more than chance."""
    wrong = []
    for number, (name, world) in enumerate(simulation.worlds()):
        if name != kind or world.num_images > 2000:
            continue
        found = simulation.simulate(world, 100, ("sslcurr",), seed=number, power=False)["sslcurr"]
        for column in ("mean", "baseline", "gain", "difference"):
            mean, error = found[column]
            error = max(error, math.sqrt(0.05 * 0.95 / 100 / (1 if column == "baseline" else world.num_chains)))
            if not 0.92 - 3 * error <= mean <= 0.99 + 3 * error:
                wrong.append((world, column, mean, error))
        if found["falsely"][0] > 0.07 + 3 * found["falsely"][1]:
            wrong.append((world, "falsely", *found["falsely"]))
    assert not wrong


# ---- folds


def test_what_folds_differ_by_is_counted_by_hand():
    values = np.array([[1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    folds = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    plain = variance_of(sample(values, Images.of(8)))
    parts = variance_of(sample(values, Images.of(8, folds=folds)))
    # Means of 0.75 and 0: the mean of two folds has a variance of (0.375² + 0.375²) / 2 / (2 - 1) = 0.140625, and what
    # an image does to the mean is as large as for the variance of 8 images with 7 degrees of freedom.
    assert parts.images == plain.images
    assert parts.seeds == pytest.approx(0.140625 * 8 / 7 - plain.images)
    assert parts.seed_degrees == 1
    assert parts.half_width() > plain.half_width()
    alike = variance_of(sample(np.array([[1.0, 0, 0, 1, 0, 0, 1, 1]]), Images.of(8, folds=folds)))
    assert alike.seeds == 0  # no more than images differ by


def test_folds_of_groups_and_classes_keep_the_sum():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 3)
    folds, classes = groups % 4, rng.integers(0, 2, 60)
    images = Images.of(60, classes=classes, groups=groups, folds=folds)
    assert images.fold is not None
    assert (images.fold[images.cell] == folds).all()


@pytest.mark.parametrize("luck", [0.0, 0.03, 0.08])
def test_intervals_of_five_folds_cover(luck):
    rng = np.random.default_rng(0)
    folds, true, hits = np.arange(200) % 5, np.array([0.6, 0.75, 0.7]), 0
    for _ in range(200):
        classes = rng.integers(0, 3, 200)
        right = rng.random(200) < true[classes] + luck * rng.standard_normal(5)[folds]
        interval = interval_of(sample(right[None].astype(float), Images.of(200, classes=classes, folds=folds)))
        assert interval is not None
        hits += interval[0] <= true.mean() <= interval[1]
    assert hits >= 184
