"""A ranking over settings from known results: changes paired by seed and image, what is missing, tables and chart."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import UNSET
from scipy.stats import kendalltau

from sslcurr.analysis.experiments import ranking
from sslcurr.analysis.experiments.chains import FailedChain, MeasuredChain
from sslcurr.analysis.experiments.ranking import Ranking, Results
from sslcurr.analysis.experiments.variants import (
    RankedVariant,
    changes_between,
    check_images,
    document_of,
    mean_change,
    share_store,
)
from sslcurr.analysis.measures.agreement import NO_WIDTH
from sslcurr.analysis.measures.intervals import Images
from sslcurr.analysis.results.kinds import decode
from sslcurr.analysis.results.variants.document import Axis
from sslcurr.errors import DataError
from sslcurr.spec.target import CLASSES

NUM_IMAGES = 200
LABELS = np.arange(NUM_IMAGES) % 2
IMAGES = Images.of(NUM_IMAGES, classes=LABELS)
ORDERINGS = [("a",), ("b",), ("c",), ("a", "b"), ("b", "a")]


def chains_of(image_size=32, fingerprint="same"):
    """Chains that train nothing, of so many reported images."""
    pack = SimpleNamespace(name="d", size=image_size, fingerprint=fingerprint)
    planner = SimpleNamespace(
        parent=SimpleNamespace(key=None),
        request=SimpleNamespace(masks=None),
        data=SimpleNamespace(image_size=image_size, pack=pack),
        backbone=lambda parent: SimpleNamespace(name="net"),
    )
    return SimpleNamespace(
        planner=planner, images=IMAGES, num_images=NUM_IMAGES, target=CLASSES,
        dataset="d", split="test", measure="finetune",
        attention_settings=None, specs=lambda ordering, seed: [], folders={}, needed={}, failed={}, trained=[],
        selection=SimpleNamespace(rows={"test": np.arange(NUM_IMAGES)}),
    )  # fmt: skip


def variant(value, lift, num_seeds=3, orderings=ORDERINGS, noise=0):
    """A setting under which every chain is `lift` better, the baseline included."""
    chains = Ranking(chains_of(), "abc", range(num_seeds))
    for place, name in enumerate([(), *orderings]):
        runs = []
        for seed in range(num_seeds):
            rng = np.random.default_rng([noise, place, seed])
            correct = (rng.uniform(size=NUM_IMAGES) < 0.4 + 0.08 * place + lift).astype(float)
            accuracy = float(np.mean([correct[c == LABELS].mean() for c in (0, 1)]))
            runs.append(MeasuredChain(name, seed, accuracy, 0.5, correct, "key", Path("folder")))
        if name:
            chains.results.chains[name] = runs
        else:
            chains.results.baselines["scratch"] = runs
    return RankedVariant({"epochs": value}, chains)


def document(*variants):
    axes = [Axis(name="epochs", values=[each.values["epochs"] for each in variants])]
    return document_of(axes, variants, [None] * len(variants))


def test_changes_are_differences_of_the_same_chain_at_the_same_seeds():
    found = document(variant("5", 0.0), variant("10", 0.1))
    first, second = ({tuple(row.ordering): row for row in each.chains} for each in found.variants)
    assert all(row.change is UNSET and row.gain_change is UNSET for row in first.values())
    assert first[()].gain is UNSET
    for name in ORDERINGS:
        row = second[name]
        assert row.change.mean == pytest.approx(row.mean - first[name].mean)
        assert row.change.interval[0] < row.change.mean < row.change.interval[1]
        assert row.gain.mean == pytest.approx(row.mean - second[()].mean)
        assert row.gain_change.mean == pytest.approx(row.gain.mean - first[name].gain.mean)
        assert row.change.num_seeds == 3
    # The images that one setting names rightly the other does too, so a small change is told apart.
    assert second["a", "b"].change.told_apart
    assert not second["a", "b"].gain_change.told_apart
    mean = found.variants[1].mean_change
    assert mean.mean == pytest.approx(np.mean([second[name].change.mean for name in ORDERINGS]))
    assert mean.told_apart
    assert found.variants[0].mean_change is UNSET


@pytest.mark.parametrize("common", ["stage", "setting"])
def test_changes_know_that_chains_share_luck(common):
    """All is luck of a seed: of a first stage under a setting, or of a setting. Nothing is changed."""
    names = [*ORDERINGS[:3], *itertools.permutations("abc", 2)]
    labels, rng = np.arange(400) % 2, np.random.default_rng(5)
    means, changes, repeats = 0, 0, 80
    for _ in range(repeats):
        settings = []
        for _ in range(2):
            luck = rng.normal(size=(4, 3)) if common == "stage" else np.tile(rng.normal(size=3), (4, 1))
            results = Results(range(3))
            for name in [(), *names]:
                shares = 0.6 + 0.04 * luck["abc".index(name[0]) if name else 3]
                correct = (rng.uniform(size=(3, 400)) < shares[:, None]).astype(float)
                runs = [
                    MeasuredChain(name, seed, row.mean(), 0.5, row, "key", Path()) for seed, row in enumerate(correct)
                ]
                (results.chains if name else results.baselines)[name or "scratch"] = runs
            settings.append(results)
        table = changes_between(*settings, SimpleNamespace(images=Images.of(len(labels), classes=labels)))
        low, high = mean_change(table).interval
        means += low <= 0 <= high
        paired = [table.weighted({name: 1.0}, ends=(-1.0, 1.0)).interval for name in names]
        changes += sum(low <= 0 <= high for low, high in paired) / len(names)
    assert means / repeats >= 0.95 - 2 * (0.95 * 0.05 / repeats) ** 0.5
    assert changes / repeats >= 0.92


def test_chains_that_a_setting_does_not_touch_say_nothing_of_the_luck_of_others():
    first, second = (
        variant(value, lift, noise=noise).ranking.results for value, lift, noise in (("5", 0, 0), ("9", 0, 1))
    )
    second.chains["c",] = first.chains["c",]
    images = SimpleNamespace(images=IMAGES)
    table = changes_between(first, second, images)
    del first.chains["c",], second.chains["c",]
    alone = changes_between(first, second, images)
    for name in alone.samples:
        assert table.weighted({name: 1.0}, ends=(-1.0, 1.0)) == alone.weighted({name: 1.0}, ends=(-1.0, 1.0))
    same = table.weighted({("c",): 1.0}, ends=(-1.0, 1.0))
    assert (same.mean, same.told_apart) == (0.0, False)


def test_each_setting_is_as_its_own_ranking():
    variants = variant("5", 0.0), variant("10", 0.1, noise=1)
    for each, own in zip(document(*variants).variants, variants, strict=True):
        alone = ranking.document_of(own.ranking.results, IMAGES, dataset="d", measure="finetune")
        assert each.curriculum == alone.curriculum
        assert each.ties == alone.ties
        assert each.hypothesis == alone.hypothesis
        rows = {tuple(row.ordering): row for row in each.chains}
        for row in alone.tasks:
            assert (rows[row.task,].mean, rows[row.task,].interval) == (row.mean, row.interval)
            assert rows[row.task,].gain == row.gain
        assert [row.ordering for row in each.chains if row.best] == [each.best.on_reported.ordering]


def test_the_rank_correlation_is_that_of_the_means():
    variants = variant("5", 0.0), variant("10", 0.1, noise=1), variant("20", 0.1, noise=2)
    found = document(*variants)
    assert [(entry.variant, entry.other, entry.of, entry.num_chains) for entry in found.agreement] == [
        (f"epochs {a}", f"epochs {b}", of, number)
        for a, b in (("5", "10"), ("5", "20"), ("10", "20"))
        for of, number in (("tasks", 3), ("chains", 5))
    ]
    means = [
        [np.mean([run.score for run in each.ranking.results.chains[name]]) for name in ORDERINGS] for each in variants
    ]
    entry = found.agreement[1]
    assert entry.kendall == pytest.approx(kendalltau(means[0], means[1]).statistic)
    assert -1 <= entry.interval[0] <= entry.tau <= entry.interval[1] <= 1
    assert found.agreement[0].reason == NO_WIDTH  # three tasks far apart: nothing turns their order


def test_chains_that_a_setting_lacks_are_left_out_of_what_is_compared():
    whole, less = variant("5", 0.0), variant("10", 0.1, orderings=ORDERINGS[:4])
    runs = less.ranking.results.chains
    runs["a",] = [runs["a",][0], *(FailedChain(("a",), seed, "boom") for seed in (1, 2))]
    runs["c",] = [FailedChain(("c",), seed, "boom") for seed in (0, 1, 2)]
    whole.ranking.results.chains.pop(("a", "b"))
    found = document(whole, less)
    rows = {tuple(row.ordering): row for row in found.variants[1].chains}
    assert rows["a", "b"].change is UNSET
    assert ("c",) not in rows
    assert rows["a",].change.num_seeds == 1
    assert [(entry.of, entry.num_chains, entry.reason) for entry in found.agreement] == [
        ("tasks", 1, "fewer than three chains")
    ]
    assert [(failed.variant, failed.ordering, failed.seed) for failed in found.failed] == [
        *(("epochs 10", ["a"], seed) for seed in (1, 2)),
        *(("epochs 10", ["c"], seed) for seed in (0, 1, 2)),
    ]
    notes = found.tables()[0].notes
    assert "failed: c, seed 2: boom (epochs 10)" in notes
    assert "A gain at one seed of several is hardly known: its interval may be over test images only." in notes


def test_one_seed_says_what_is_not_known():
    found = document(variant("5", 0.0, 1), variant("10", 0.1, 1))
    assert not any(row.change.told_apart for row in found.variants[1].chains)
    assert all(entry.kendall is not None and entry.interval is None for entry in found.agreement)
    chains, agreement = found.tables()
    assert any("One seed" in note for note in chains.notes)
    assert "no interval of 2 of 2: one seed: both orders have to come from different seeds" in agreement.notes


def test_tables_and_the_chart_of_few_and_of_many_chains(tmp_path):
    found = document(variant("5", 0.0), variant("10", 0.1))
    chains, agreement = found.tables()
    assert len(chains.rows) == 12
    assert chains.breaks == {6}
    assert len(chains.best) == 2
    raw = chains.to_pandas()
    assert {"epochs", "change", "change_low", "change_told_apart", "gain_change", "seed_2"} <= set(raw.columns)
    assert len(agreement.rows) == 2
    (chart,) = found.figures().values()
    axes = chart.draw()
    assert [line.get_label() for line in axes.lines][:2] == ["scratch", "a"]
    assert len(axes.lines) == 6
    many = [tuple(name) for name in ("a", "b", "c", "d", "e", "f", "g", "h")]
    many += [("relative-location",), ("rotation",), ("simsiam",)]
    many += [("relative-location", "rotation"), ("relative-location", "simsiam")]
    (chart,) = document(variant("5", 0.0, orderings=many), variant("10", 0.1, orderings=many)).figures().values()
    axes = chart.draw()
    assert axes.images  # a heat map
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert {"relative-location → rotation", "relative-location → simsiam"} <= set(names)  # none is cut
    plain = found.made_by(["sslcurr"]).to_json()
    assert decode("variants", plain).to_json() == plain


def test_other_images_are_refused():
    first, second = chains_of(16), chains_of(32, "other")
    with pytest.raises(DataError, match="the images of d are not the same at 16 and at 32 px") as caught:
        check_images(first, second)
    assert caught.value.hint
    second = chains_of(32)
    share_store([first, second])
    assert second.failed is first.failed
    assert second.needed is first.needed
