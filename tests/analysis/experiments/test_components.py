"""Components of variance: by hand, against least squares, and in simulated tables whose components are known."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from sslcurr.analysis.experiments.components import Components, components_of, degrees_of, squares_of
from sslcurr.analysis.measures.intervals import Images, Sample, sample


def without_images(values: np.ndarray) -> list[Sample]:
    """Figures of chains that no image moves."""
    num_seeds = values.shape[1]
    images = Images.of(2)
    return [Sample(tuple(range(num_seeds)), row, np.zeros((num_seeds, 2)), images, 0.0) for row in values]


def test_a_layout_by_hand():
    """Two chains, two seeds: means 0.2 and 0.6, seeds 0.3 and 0.5, residuals of 0.05."""
    values = np.array([[0.15, 0.25], [0.45, 0.75]])
    squares = squares_of(values[..., None], [0, 1])
    assert squares.chains == pytest.approx(2 * 2 * 0.2**2)
    assert squares.seeds == pytest.approx(2 * 2 * 0.1**2)
    assert squares.residual == pytest.approx(4 * 0.05**2)
    found = components_of(without_images(values), ["a", "b"])
    assert found.run == pytest.approx(0.01)
    assert found.stage is None
    assert found.chain == pytest.approx((0.16 - 0.01) / 2)
    assert found.seed == pytest.approx((0.04 - 0.01) / 2)
    assert found.means == pytest.approx(0.08)
    assert found.chain + found.luck + found.images == pytest.approx(found.means)
    # F(1, 1) has closed quantiles: the square of a Cauchy's. F is 16, the upper one 647.8.
    assert found.interval == (0.0, pytest.approx(1 - np.tan(np.pi * 0.025 / 2) ** 2 / 16))
    assert found.p_value == pytest.approx(1 - 2 / np.pi * np.arctan(4))


def test_squares_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    stages = [0, 0, 1, 1, 1, 2]
    values = rng.normal(size=(6, 4))
    chain, seed = (each.reshape(-1) for each in np.meshgrid(range(6), range(4), indexing="ij"))
    stage = np.array(stages)[chain]

    def indicators(*factors: np.ndarray) -> np.ndarray:
        names = np.unique(np.stack(factors), axis=1, return_inverse=True)[1].reshape(-1)
        return np.eye(names.max() + 1)[names]

    def left(*designs: np.ndarray) -> tuple[float, int]:
        """What a model leaves of the squares, and its rank."""
        design = np.concatenate(designs, axis=1)
        fitted = design @ np.linalg.lstsq(design, values.reshape(-1), rcond=None)[0]
        return float(np.square(values.reshape(-1) - fitted).sum()), int(np.linalg.matrix_rank(design))

    models = [
        left(np.ones((24, 1))),
        left(indicators(stage)),
        left(indicators(chain)),
        left(indicators(chain), indicators(seed)),
        left(indicators(chain), indicators(seed, stage)),
        (0.0, 24),
    ]
    steps = [(a[0] - b[0], b[1] - a[1]) for a, b in itertools.pairwise(models)]
    squares, degrees = squares_of(values[..., None], stages), degrees_of(4, stages)
    assert [step[0] for step in steps] == pytest.approx(list(squares))
    assert [step[1] for step in steps] == list(degrees)


def test_tables_that_cannot_be_explained():
    values = np.array([[0.5, 0.6], [0.5, 0.6]])
    equal = components_of(without_images(values), ["a", "b"])
    assert (equal.interval, equal.p_value, equal.share(equal.chain)) == (None, None, None)
    apart = components_of(without_images(np.array([[0.5, 0.6], [0.7, 0.8]])), ["a", "b"])
    assert apart.interval == pytest.approx((1.0, 1.0))
    assert apart.run == pytest.approx(0.0)
    one_stage = components_of(without_images(np.random.default_rng(0).random((3, 2))), ["a", "a", "a"])
    assert one_stage.stage is None
    with pytest.raises(ValueError, match="two chains or more"):
        components_of(without_images(values)[:1], ["a"])
    with pytest.raises(ValueError, match="two chains or more"):
        components_of(without_images(values[:, :1]), ["a", "b"])


# ---- simulated tables


@dataclass(frozen=True)
class World:
    """Standard deviations of the components; `per` chains begin with one stage.

    An image adds what all chains share (1), what it does to one chain (`image`), and chance (`chance`).
    """

    num_chains: int = 12
    num_seeds: int = 3
    num_images: int = 60
    per: int = 3
    chain: float = 0.03
    seed: float = 0.02
    stage: float = 0.02
    run: float = 0.02
    image: float = 0.3
    chance: float = 0.2
    group: int = 1

    def draw(self, rng: np.random.Generator) -> Components:
        """The components of a table."""
        shape = self.num_chains, self.num_seeds, self.num_images // self.group
        stages = np.arange(self.num_chains) // self.per
        truth = self.chain * rng.normal(size=(shape[0], 1)) + self.seed * rng.normal(size=shape[1])
        truth = truth + self.stage * rng.normal(size=(stages.max() + 1, shape[1]))[stages]
        truth = truth + self.run * rng.normal(size=shape[:2])
        values = truth[..., None] + rng.normal(size=shape[2]) + self.image * rng.normal(size=(shape[0], 1, shape[2]))
        values = np.repeat(values + self.chance * rng.normal(size=shape), self.group, axis=2)
        images = Images.of(self.num_images, groups=np.arange(self.num_images) // self.group)
        return components_of([sample(each, images) for each in values], stages.tolist())

    def truth(self) -> dict[str, float]:
        """What the estimates are on average."""
        inherited = (self.num_chains - self.per) / (self.num_chains - 1)
        images = (self.image**2 + self.chance**2 / self.num_seeds) * self.group / self.num_images
        return {
            "chain": self.chain**2,
            "seed": self.seed**2,
            **({"stage": self.stage**2} if self.per > 1 else {}),
            "run": self.run**2,
            "images": images,
            "luck": (self.stage**2 * inherited + self.run**2) / self.num_seeds,
        }


WORLDS = {
    "as it may be": World(),
    "no stages shared": World(per=1, stage=0.0),
    "nothing real": World(chain=0.0),
    "two seeds": World(num_seeds=2),
    "many chains": World(num_chains=24, num_seeds=5, per=6),
    "four chains": World(num_chains=4, per=1, stage=0.0),
    "luck of stages": World(chain=0.06, stage=0.05),
    "nothing but luck of stages": World(chain=0.0, stage=0.05, run=0.01, per=6),
    "groups": World(group=2, num_images=120),
    "few images matter": World(image=0.05, chance=0.05),
}


def check(world: World, repeats: int) -> None:
    """Means are those of the world within four standard errors, and the interval covers 90 to 99 %."""
    rng = np.random.default_rng(3)
    tables = [world.draw(rng) for _ in range(repeats)]
    truth = world.truth()
    for name, expected in truth.items():
        values = np.array([getattr(table, name) for table in tables])
        assert abs(values.mean() - expected) <= 4 * values.std() / repeats**0.5, name
    real = truth["chain"] / (truth["chain"] + truth["luck"] + truth["images"])
    covered = np.mean([table.interval[0] <= real <= table.interval[1] for table in tables])
    error = 2 * (0.95 * 0.05 / repeats) ** 0.5
    assert 0.90 - error <= covered <= 0.99 + error
    if world.chain == 0:
        assert np.mean([table.p_value <= 0.05 for table in tables]) <= 0.05 + error


@pytest.mark.parametrize("name", ["as it may be", "no stages shared"])
def test_known_components_are_recovered(name):
    check(WORLDS[name], 200)


@pytest.mark.parametrize("num_chains", [2, 3])
def test_few_equal_chains_are_not_called_different(num_chains):
    """The residual of few chains may fall short of what images alone make of it: that is no certainty."""
    world = World(num_chains=num_chains, num_seeds=2, per=1, chain=0.0, seed=0.0, stage=0.0, run=0.0, image=0.0)
    rng = np.random.default_rng(4)
    tables = [world.draw(rng) for _ in range(300)]
    assert np.mean([table.p_value <= 0.05 for table in tables]) <= 0.05
    assert np.mean([table.interval[0] > 0 for table in tables]) <= 0.05


@pytest.mark.long
@pytest.mark.parametrize("name", WORLDS)
def test_components_of_every_kind_of_table(name):
    check(WORLDS[name], 500)
