"""Clusters, and the tasks that learn from them or from a memory of all images: by hand and against slow references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sslcurr.engine import step as engine_step
from sslcurr.engine import train as engine
from sslcurr.engine.optim import build_optimizer, lr_at
from sslcurr.engine.run import train_stage
from sslcurr.engine.store import Store
from sslcurr.errors import SpecError
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import Training
from sslcurr.tasks import clusters
from sslcurr.tasks.base import Batch, Facts, Loss, Tick
from sslcurr.tasks.deepcluster import DeepCluster
from sslcurr.tasks.npid import NPID
from sslcurr.tasks.odc import ODC
from tests.tasks.test_tasks import Pixels

IMAGENET = Facts(num_images=1_281_167, class_counts=(1281,) * 1000, image_size=224)


def batch_at(index, size=4, seed=0):
    """A batch of random images that stand at `index` in the data."""
    index = torch.as_tensor(index)
    images = torch.rand(len(index), 3, size, size, generator=torch.Generator().manual_seed(seed))
    return Batch(views=(images,), index=index, labels=torch.full((len(index),), -1))


def blobs(sizes, centres, seed=0, spread=0.01):
    """Rows around `centres`, in random order, and which centre each is of."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centres = torch.tensor(centres)
    return centres[labels] + spread * torch.randn(len(labels), centres.shape[1], generator=generator), labels


def assert_same_partition(found, expected):
    """Equal up to the names of the clusters."""
    pairs = set(zip(found.tolist(), expected.tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


class Scan:
    """Gives chosen features whatever the module, and remembers the module."""

    def __init__(self, features):
        self.features = features
        self.modules = []

    def __call__(self, module, split="train"):
        assert split == "train"
        self.modules.append(module)
        return self.features


def assert_only_the_head_has_no_momentum(task):
    head = {id(p) for p in task.head.parameters()}
    optimizer = build_optimizer(task, Training(momentum=0.9, weight_decay=0.1), task.rules())
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["momentum"] == (0.0 if id(parameter) in head else 0.9)
            assert group["weight_decay"] == 0.1
            seen.add(id(parameter))
    assert seen == {id(p) for p in task.parameters()}


# ---- nearest and means


def test_nearest_against_loops_whatever_the_chunks(monkeypatch):
    generator = np.random.default_rng(0)
    # Centroids of very different lengths: the largest product is not the nearest.
    x, centroids = generator.normal(size=(53, 5)), generator.normal(size=(7, 5)) * np.arange(1, 8)[:, None] / 2
    expected = [min(range(7), key=lambda k: np.linalg.norm(row - centroids[k])) for row in x]
    assert expected != (x @ centroids.T).argmax(axis=1).tolist()
    for chunk in (clusters.CHUNK, 1, 7, 30, 53 * 7):
        monkeypatch.setattr(clusters, "CHUNK", chunk)
        assert clusters.nearest(torch.tensor(x), torch.tensor(centroids)).tolist() == expected
    assert clusters.nearest(torch.empty(0, 5), torch.ones(2, 5)).shape == (0,)


def test_means_against_loops_and_an_empty_cluster_keeps_its_row():
    generator = np.random.default_rng(0)
    x, labels, centroids = generator.normal(size=(40, 3)), generator.integers(0, 6, 40), generator.normal(size=(7, 3))
    labels[labels == 2] = 3
    expected = centroids.copy()
    for k in (0, 1, 3, 4, 5):
        expected[k] = x[labels == k].mean(axis=0)
    found = clusters.means(torch.tensor(x), torch.tensor(labels), torch.tensor(centroids))
    np.testing.assert_allclose(found.numpy(), expected)


# ---- k-means


def test_kmeans_finds_blobs_exactly():
    centres = [[4.0 * i, 3.0 * j, float(i * j)] for i in range(3) for j in range(2)]
    x, labels = blobs((3, 40, 7, 12, 25, 9), centres)
    for seed in range(5):
        torch.manual_seed(seed)
        found, centroids = clusters.kmeans(x, 6)
        assert_same_partition(found, labels)
        torch.testing.assert_close(centroids, torch.stack([x[found == k].mean(dim=0) for k in range(6)]))


def inertia(x, labels, centroids):
    return float((x - centroids[labels]).square().sum())


def test_kmeans_is_as_good_as_that_of_scikit_learn():
    from sklearn.cluster import KMeans

    mine, theirs = [], []
    for seed in range(5):
        x = torch.randn(500, 16, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        mine.append(inertia(x, *clusters.kmeans(x, 12)))
        theirs.append(KMeans(12, n_init=1, init="k-means++", random_state=seed).fit(x.numpy()).inertia_)
    assert np.mean(mine) <= 1.05 * np.mean(theirs)


def test_kmeans_ends_where_no_row_is_nearer_to_another_centroid():
    x = torch.randn(80, 2, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    labels, centroids = clusters.kmeans(x, 4, num_iterations=100)
    assert torch.equal(labels, clusters.nearest(x, centroids))


def test_no_cluster_is_empty_when_there_are_enough_different_rows():
    generator = torch.Generator().manual_seed(0)
    different = torch.randn(9, 3, generator=generator)
    x = torch.cat([different[:1].repeat(300, 1), different[1:2].repeat(50, 1), different])
    x = x[torch.randperm(len(x), generator=generator)]
    for num_clusters in (9, 8, 5):
        for seed in range(10):
            torch.manual_seed(seed)
            labels, centroids = clusters.kmeans(x, num_clusters)
            assert torch.bincount(labels, minlength=num_clusters).min() >= 1
            assert torch.isfinite(centroids).all()
            if num_clusters == 9:
                assert inertia(x, labels, centroids) == pytest.approx(0, abs=1e-6)


def test_a_cluster_that_gets_empty_takes_the_farthest_row():
    x = torch.tensor([[0.0], [1.0], [1.1], [12.0], [20.0]])
    centroids = torch.tensor([[0.7], [-99.0], [9.0], [99.0]])
    labels = torch.tensor([0, 0, 0, 2, 2])
    # 20 lies 11 from its centroid. Then 12 lies 3 away, but it is alone in its cluster now; the next is 0, at 0.7.
    assert clusters._fill_empty(x, labels, centroids).tolist() == [3, 0, 0, 2, 1]
    assert labels.tolist() == [0, 0, 0, 2, 2]


def test_kmeans_repeats_itself_with_the_same_seed_only():
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))

    def run(seed):
        torch.manual_seed(seed)
        return clusters.kmeans(x, 10)

    assert all(torch.equal(a, b) for a, b in zip(run(1), run(1), strict=True))
    assert not torch.equal(run(1)[0], run(2)[0])


@pytest.mark.parametrize("num_different", [1, 3])
def test_more_clusters_than_different_rows(num_different):
    x = torch.randn(num_different, 4, generator=torch.Generator().manual_seed(0)).repeat(8, 1)
    torch.manual_seed(0)
    labels, centroids = clusters.kmeans(x, 6)
    assert labels.shape == (8 * num_different,)
    assert 0 <= labels.min() <= labels.max() < 6
    assert torch.isfinite(centroids).all()
    torch.testing.assert_close(centroids[labels], x)
    if num_different > 1:
        assert torch.bincount(labels, minlength=6).min() >= 1


def test_the_start_never_takes_a_row_twice_while_others_differ(monkeypatch):
    """Not even when the smallest random numbers come."""
    monkeypatch.setattr(torch, "rand", torch.zeros)
    starts = clusters._kmeans_start(torch.tensor([[0.0], [0.0], [5.0], [5.0], [7.0]]), 3)
    assert sorted(starts.flatten().tolist()) == [0.0, 5.0, 7.0]


def test_the_start_is_drawn_by_squared_distance(monkeypatch):
    """k-means++ on a line: the second start is 0, 1 or 3 with the shares of the squared distances to the first."""
    monkeypatch.setattr(clusters, "CANDIDATES", 1)
    x = torch.tensor([[0.0], [1.0], [3.0]])
    counts = np.zeros((3, 3))
    torch.manual_seed(0)
    for _ in range(3000):
        first, second = (int((x == start).flatten().nonzero()) for start in clusters._kmeans_start(x, 2))
        counts[first, second] += 1
    expected = np.array([[0, 1 / 10, 9 / 10], [1 / 5, 0, 4 / 5], [9 / 13, 4 / 13, 0]]) / 3
    np.testing.assert_allclose(counts / 3000, expected, atol=0.03)


def test_the_best_of_the_starts_drawn_is_taken(monkeypatch):
    """With so many draws that every row is among them, each start is the one that leaves least."""
    monkeypatch.setattr(clusters, "CANDIDATES", 300)
    x = torch.tensor([[0.0], [1.0], [4.0], [9.0], [10.0]])
    for seed in range(5):
        torch.manual_seed(seed)
        first, second = clusters._kmeans_start(x, 2).flatten().tolist()
        assert first == 4.0  # 16 + 9 + 25 + 36 = 86, the least sum of squared distances
        assert second in (9.0, 10.0)


# ---- whitening


@pytest.mark.parametrize(
    ("rows", "columns", "dim", "kept"), [(60, 8, 5, 5), (60, 8, 256, 8), (9, 20, 256, 8), (9, 20, 4, 4)]
)
def test_whitened_agrees_with_scikit_learn(rows, columns, dim, kept):
    from sklearn.decomposition import PCA

    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, columns)) * np.geomspace(1, 5, columns) + generator.normal(size=columns) * 3
    theirs = PCA(kept, whiten=True, svd_solver="full").fit_transform(x)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    mine = clusters.whitened(torch.tensor(x, dtype=torch.float), dim).numpy()
    assert mine.shape == (rows, kept)
    signs = np.sign((mine * theirs).sum(axis=0))
    np.testing.assert_allclose(mine * signs, theirs, atol=2e-4)


def test_whitened_leaves_out_what_does_not_vary():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0, 3, 0, 2, 0]) + 7
    found = clusters.whitened(x, 6)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[:, 3:], torch.zeros(40, 3))
    varying = clusters.whitened(x[:, ::2], 3)
    torch.testing.assert_close(found[:, :3].abs(), varying.abs(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(40))
    assert torch.isfinite(clusters.whitened(torch.full((5, 3), 0.3), 3)).all()
    assert torch.isfinite(clusters.whitened(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), 3)).all()


# ---- halves


def test_halves_separates_two_blobs():
    for sizes in ((3, 17), (17, 3), (1, 30), (10, 10)):
        x, labels = blobs(sizes, [[0.0, 0.0], [1.0, 2.0]])
        assert_same_partition(clusters.split_in_two(x), labels)


def test_halves_are_two_means():
    """No row is nearer to the mean of the other side, also where the first guess is not yet that."""
    for seed in range(20):
        x = torch.randn(25, 2, generator=torch.Generator().manual_seed(seed))
        side = clusters.split_in_two(x)
        means = torch.stack([x[~side].mean(dim=0), x[side].mean(dim=0)])
        assert torch.equal(torch.cdist(x, means).argmin(dim=1) == 1, side)


def test_halves_never_gives_all_or_none():
    assert clusters.split_in_two(torch.ones(7, 3)).sum() in (3, 4)
    assert clusters.split_in_two(torch.ones(8, 3)).sum() == 4
    generator = torch.Generator().manual_seed(0)
    for size in range(2, 12):
        for levels in (2, 3, 1000):
            x = torch.randint(levels, (size, 2), generator=generator).float()
            side = clusters.split_in_two(x)
            assert side.dtype == torch.bool
            assert 0 < side.sum() < size


# ---- how many


def test_number_of_clusters():
    assert clusters.num_clusters(IMAGENET) == 10_000
    assert round(IMAGENET.num_images / 128) == 10_009
    assert clusters.num_clusters(Facts(num_images=6400)) == 50
    assert clusters.num_clusters(Facts(num_images=6400, class_counts=(160,) * 40)) == 80
    assert clusters.num_clusters(Facts(num_images=6400, class_counts=(3200, 3200))) == 50
    assert clusters.num_clusters(Facts(num_images=300, class_counts=(100,) * 3)) == 10
    assert clusters.num_clusters(Facts(num_images=30, class_counts=(15,) * 2)) == 7
    assert clusters.num_clusters(Facts(num_images=100, class_counts=(2,) * 50)) == 25
    assert clusters.num_clusters(Facts(num_images=4)) == 2


# ---- ODC


def odc(num_images=60, seed=0, **config):
    torch.manual_seed(seed)
    settings = {"num_clusters": 6, "smallest_cluster": 4, "hidden": 8, "dim": 5, "dropout": 0.0, "update_every": 3}
    config = ODC.Config(image_size=4, **settings | config)
    return ODC(Pixels(4), 16, Facts(num_images=num_images), config)


def after(task, index, features, step):
    """`after_step` of the images at `index`, whose new features are `features`."""
    batch = Batch(views=(), index=index, labels=torch.full((len(index),), -1))
    task.after_step(batch, Loss(torch.zeros(()), {}, {"features": features}), Tick(step, 100, 10))


class SlowODC:
    """The memories of ODC with loops, in float64. Only the splitting of a cluster is that of the package."""

    def __init__(self, task):
        self.features = task.features.double().numpy().copy()
        self.labels = task.labels.numpy().copy()
        self.centroids = task.centroids.double().numpy().copy()
        self.least, self.every = task.config.smallest_cluster, task.config.update_every
        self.changed = self.homeless = self.splits = 0

    def closest(self, feature, allowed):
        return min(allowed, key=lambda k: ((feature - self.centroids[k]) ** 2).sum())

    def members(self, cluster):
        return [i for i, label in enumerate(self.labels) if label == cluster]

    def renew(self, some):
        for k in some:
            if self.members(k):
                self.centroids[k] = np.mean([self.features[i] for i in self.members(k)], axis=0)

    def step(self, index, features, step):
        everything = range(len(self.centroids))
        for i, new in zip(index.tolist(), features.double().numpy(), strict=True):
            mixed = 0.5 * self.features[i] + 0.5 * new
            self.features[i] = mixed / np.sqrt((mixed**2).sum())
            label = self.closest(self.features[i], everything)
            self.changed += label != self.labels[i]
            self.labels[i] = label
        self.mend()
        if (step + 1) % self.every == 0:
            self.renew(everything)

    def mend(self):
        small = [k for k in range(len(self.centroids)) if len(self.members(k)) < self.least]
        large = [k for k in range(len(self.centroids)) if k not in small]
        if not large:
            return
        for i in [i for k in small for i in self.members(k)]:
            self.labels[i] = self.closest(self.features[i], large)
            self.homeless += 1
        touched = []
        for empty in small:
            largest = max(range(len(self.centroids)), key=lambda k: len(self.members(k)))
            members = self.members(largest)
            side = clusters.split_in_two(torch.tensor(self.features[members]).float())
            for i, moves in zip(members, side.tolist(), strict=True):
                if moves:
                    self.labels[i] = empty
            touched += [empty, largest]
            self.splits += 1
        self.renew(touched)

    def assert_equal(self, task):
        np.testing.assert_allclose(task.features.numpy(), self.features, atol=1e-5)
        assert task.labels.tolist() == self.labels.tolist()
        np.testing.assert_allclose(task.centroids.numpy(), self.centroids, atol=1e-5)
        assert int(task.changed) == self.changed


@pytest.mark.parametrize("seed", range(3))
def test_odc_memories_agree_with_a_slow_reference(seed):
    task, generator = odc(), torch.Generator().manual_seed(seed)
    slow = SlowODC(task)
    for step in range(30):
        index = torch.randperm(60, generator=generator)[:30]
        # Around a direction that changes, so that clusters get small.
        around = 1.5 * torch.randn(1, 5, generator=generator)
        features = F.normalize(torch.randn(30, 5, generator=generator) + around, dim=1)
        after(task, index, features, step)
        slow.step(index, features, step)
        slow.assert_equal(task)
    # What is compared did happen.
    assert slow.homeless >= 10
    assert slow.splits >= 10
    assert slow.changed >= 100
    logged = task.end_epoch(Tick(30, 100, 10), Scan(None))
    sizes = np.bincount(slow.labels, minlength=6)
    assert logged == {
        "labels_changed": pytest.approx(slow.changed / 60),
        "smallest_cluster": sizes.min(),
        "largest_cluster": sizes.max(),
    }
    assert int(task.changed) == 0


def test_odc_starts_from_the_clusters_of_the_necks_features():
    task = odc(40, num_clusters=4, smallest_cluster=2)
    x, labels = blobs((5, 10, 10, 15), torch.eye(5)[:4].tolist())
    scan = Scan(3.0 * x)
    task.start(scan)
    assert_same_partition(task.labels, labels)
    torch.testing.assert_close(task.features, F.normalize(x, dim=1))
    torch.testing.assert_close(
        task.centroids, torch.stack([task.features[task.labels == k].mean(dim=0) for k in range(4)])
    )
    (module,) = scan.modules
    assert list(module) == [task.backbone, task.neck]


def test_odc_weighs_clusters_by_their_size():
    task = odc(30, num_clusters=4, smallest_cluster=3)
    task.labels.copy_(torch.tensor([0] * 4 + [1] * 16 + [3] * 10))
    raw = np.array([4**-0.5, 16**-0.5, 0.0, 10**-0.5])
    np.testing.assert_allclose(task.class_weights().numpy(), raw / raw.sum(), rtol=1e-6)
    assert task.class_weights().sum().item() == pytest.approx(1.0)
    even = odc(30, num_clusters=4, smallest_cluster=3, reweight=0.0)
    even.labels.copy_(task.labels)
    np.testing.assert_allclose(even.class_weights().numpy(), [1 / 3, 1 / 3, 0, 1 / 3], rtol=1e-6)


def test_odc_loss_by_hand():
    task = odc(30, num_clusters=4, smallest_cluster=3).train()
    task.labels.copy_(torch.tensor([0] * 4 + [1] * 16 + [3] * 10))
    nn.init.normal_(task.head.weight)
    index = [29, 0, 7, 12, 3, 21]
    batch = batch_at(index)
    out = task.loss(batch, Tick(0, 10, 5))
    embeddings = task.neck(task.backbone(batch.views[0]))
    logits = task.head(embeddings)
    shares = logits.detach().double().exp() / logits.detach().double().exp().sum(dim=1, keepdim=True)
    sizes = {0: 4, 1: 16, 3: 10}
    targets = [3, 0, 1, 1, 0, 3]
    weights = np.array([sizes[t] ** -0.5 for t in targets])
    losses = np.array([-np.log(shares[row, t].item()) for row, t in enumerate(targets)])
    assert out.value.item() == pytest.approx((weights * losses).sum() / weights.sum(), rel=1e-5)
    expected = F.cross_entropy(logits, torch.tensor(targets), weight=task.class_weights())
    torch.testing.assert_close(out.value, expected)
    torch.testing.assert_close(out.keep["features"], F.normalize(embeddings, dim=1).detach())
    assert not out.keep["features"].requires_grad


@pytest.mark.parametrize("num_different", [1, 2, 5])
def test_odc_starts_with_fewer_different_features_than_clusters(num_different):
    task = odc()
    task.start(Scan(torch.rand(num_different, 5, generator=torch.Generator().manual_seed(0)).repeat(60, 1)[:60]))
    assert torch.isfinite(task.centroids).all()
    generator = torch.Generator().manual_seed(1)
    for step in range(5):
        after(task, torch.arange(step, step + 9), F.normalize(torch.rand(9, 5, generator=generator), dim=1), step)
        assert 0 <= task.labels.min() <= task.labels.max() < 6
        assert torch.isfinite(task.centroids).all()
    assert torch.isfinite(task.loss(batch_at(range(8)), Tick(5, 100, 10)).value)


def test_odc_with_features_of_zeros():
    """The neck ends in a ReLU, so a feature can be zero; nothing may become NaN by its length."""
    task = odc()
    task.start(Scan(torch.zeros(60, 5)))
    after(task, torch.arange(9), torch.zeros(9, 5), 2)
    assert torch.isfinite(task.features).all()
    assert torch.isfinite(task.centroids).all()


def test_odc_fills_a_cluster_that_is_empty_at_the_start():
    task = odc()
    task.labels.copy_(torch.arange(60) % 4)  # clusters 4 and 5 have no image
    assert task.class_weights()[4:].tolist() == [0.0, 0.0]
    assert torch.isfinite(task.loss(batch_at(range(8)), Tick(0, 100, 10)).value)
    slow = SlowODC(task)
    task._mend_small_clusters()
    slow.mend()
    slow.assert_equal(task)
    assert torch.bincount(task.labels, minlength=6).min() >= 1


def test_odc_leaves_no_cluster_under_the_least_size_when_halves_allow_it():
    # Cluster 0 is two blobs of ten; clusters 1 and 2 are large enough; 3 has two images, which lie near cluster 2.
    task = odc(42, num_clusters=4)
    x, _ = blobs((10, 10, 10, 10, 2), torch.eye(5).tolist())
    which = x.argmax(dim=1)
    near = torch.tensor([0, 0, 1, 2, 3])[which]
    x[which == 4, 3] += 0.9
    task.features.copy_(F.normalize(x, dim=1))
    task.labels.copy_(near)
    task.centroids.copy_(clusters.means(task.features, task.labels, task.centroids))
    old = task.centroids.clone()
    task._mend_small_clusters()
    assert torch.bincount(task.labels, minlength=4).tolist() == [10, 10, 12, 10]
    assert (task.labels[which == 4] == 2).all()
    assert_same_partition(task.labels[which < 2], which[which < 2])
    # Those that were split are computed anew, the others wait for their time, the one that took the homeless too.
    expected = clusters.means(task.features, task.labels, old)
    torch.testing.assert_close(task.centroids[[0, 3]], expected[[0, 3]])
    torch.testing.assert_close(task.centroids[[1, 2]], old[[1, 2]], rtol=0, atol=0)
    assert not torch.allclose(expected[2], old[2])


def test_odc_refuses_clusters_that_would_all_be_small():
    """At such sizes labels hop between clusters though no feature moves; halving the mean size leaves room."""
    assert odc(48).config.smallest_cluster == 4
    for impossible in ({"num_images": 47}, {"smallest_cluster": 6}, {"num_clusters": 9}, {"num_clusters": 70}):
        with pytest.raises(SpecError, match="clusters"):
            odc(**impossible)


def test_odc_continues_from_its_state_dict_alone():
    def steps(task, first, last):
        for step in range(first, last):
            generator = torch.Generator().manual_seed(step)
            index = torch.randperm(60, generator=generator)[:11]
            after(task, index, F.normalize(torch.randn(11, 5, generator=generator), dim=1), step)

    a, b = odc(seed=0), odc(seed=1)
    a.start(Scan(torch.rand(60, 5, generator=torch.Generator().manual_seed(0))))
    steps(a, 0, 4)  # in the middle between two updates of all centroids
    state = {name: value.clone() for name, value in a.state_dict().items()}
    assert {"features", "labels", "centroids", "changed"} <= state.keys()
    b.load_state_dict(state)
    steps(a, 4, 12)
    steps(b, 4, 12)
    assert not torch.equal(a.features, state["features"])
    assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())
    batch = batch_at(range(20, 28))
    assert torch.equal(a.loss(batch, Tick(12, 100, 10)).value, b.loss(batch, Tick(12, 100, 10)).value)


def test_odc_head_has_no_momentum():
    assert_only_the_head_has_no_momentum(odc())


# ---- DeepCluster

CORNERS = [[0.0, 1.0], [-0.87, -0.5], [0.87, -0.5]]


def deepcluster(num_images=21, **config):
    torch.manual_seed(0)
    config = DeepCluster.Config(image_size=4, **{"num_clusters": 3} | config)
    return DeepCluster(Pixels(4), 16, Facts(num_images=num_images), config)


def test_deepcluster_labels_follow_the_features_and_the_head_starts_afresh():
    task = deepcluster()
    first, labels = blobs((3, 6, 12), CORNERS)
    scan = Scan(first)
    heads = [task.head.weight.clone()]
    task.start(scan)
    assert_same_partition(task.labels, labels)
    heads.append(task.head.weight.clone())
    with torch.no_grad():
        task.head.bias += 1.0
    scan.features, others = blobs((7, 7, 7), CORNERS, seed=1)
    logged = task.end_epoch(Tick(10, 20, 10), scan)
    assert_same_partition(task.labels, others)
    heads.append(task.head.weight.clone())
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[1], heads[2])
    assert heads[2].std().item() == pytest.approx(0.01, rel=0.3)
    assert torch.equal(task.head.bias, torch.zeros(3))
    assert all(module is task.backbone for module in scan.modules)
    assert logged["smallest_cluster"] == logged["largest_cluster"] == 7.0


def test_deepcluster_logs_how_alike_two_clusterings_are():
    from sklearn.metrics import normalized_mutual_info_score

    task = deepcluster()
    first, labels = blobs((3, 6, 12), CORNERS)
    second, others = blobs((7, 7, 7), CORNERS, seed=1)
    task.start(Scan(first))
    changed = task.end_epoch(Tick(10, 30, 10), Scan(second))["mutual_information"]
    assert changed == pytest.approx(normalized_mutual_info_score(labels.numpy(), others.numpy()))
    assert changed < 0.5
    assert task.end_epoch(Tick(20, 30, 10), Scan(second))["mutual_information"] == pytest.approx(1.0)


def test_deepcluster_keeps_head_and_labels_of_the_last_epoch():
    task = deepcluster()
    scan = Scan(blobs((3, 6, 12), CORNERS)[0])
    task.start(scan)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    scan.features = blobs((7, 7, 7), CORNERS, seed=1)[0]
    assert task.end_epoch(Tick(20, 20, 10), scan) == {}
    assert len(scan.modules) == 1
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    # One step earlier there is a next epoch.
    assert task.end_epoch(Tick(19, 20, 10), scan)


def test_deepcluster_whitens():
    """A direction that varies a hundred times as much as the one with the clusters does not hide them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    x = torch.stack([100 * torch.rand(40, generator=generator), (2 * labels - 1) * 0.5], dim=1)
    task = deepcluster(40, num_clusters=2)
    task.start(Scan(x))
    assert_same_partition(task.labels, labels)


def test_deepcluster_draws_every_cluster_equally_often():
    task = deepcluster()
    x, labels = blobs((3, 6, 12), CORNERS)
    task.start(Scan(x))
    weights = task.sampling_weights()
    assert weights.shape == (21,)
    for cluster, size in enumerate((3, 6, 12)):
        assert weights[labels == cluster].sum().item() == pytest.approx(1.0)
        torch.testing.assert_close(weights[labels == cluster], torch.full((size,), 1 / size))


def test_deepcluster_loss_by_hand():
    task = deepcluster()
    nn.init.normal_(task.head.weight)
    task.labels.copy_(torch.tensor([2, 0, 1] * 7))
    batch = batch_at([20, 3, 7, 0])
    out = task.loss(batch, Tick(0, 10, 5))
    features = batch.views[0].mean(dim=1).flatten(1)
    logits = (features @ task.head.weight.T + task.head.bias).detach().double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = [1, 2, 0, 2]
    assert out.value.item() == pytest.approx(-np.mean([np.log(shares[i, t]) for i, t in enumerate(targets)]), rel=1e-5)
    assert out.metrics["accuracy"].item() == pytest.approx(np.mean(logits.argmax(axis=1) == targets))


def test_deepcluster_head_has_no_momentum_and_its_labels_are_saved():
    task = deepcluster()
    assert_only_the_head_has_no_momentum(task)
    assert "labels" in task.state_dict()


# ---- NPID


def npid(num_images=40, **config):
    torch.manual_seed(0)
    config = NPID.Config(image_size=4, **{"dim": 6, "num_negatives": 100} | config)
    return NPID(Pixels(4), 16, Facts(num_images=num_images), config)


def npid_losses(task, batch, places):
    """The loss of each image with loops: its own memory against those at `places` that are not its own."""
    embeddings = F.normalize(task.head(task.backbone(batch.views[0])), dim=1).detach().double().numpy()
    memory = task.memory.double().numpy()
    losses = []
    for row, i in zip(embeddings, batch.index.tolist(), strict=True):
        own = np.exp(row @ memory[i] / task.config.temperature)
        others = sum(np.exp(row @ memory[j] / task.config.temperature) for j in places if j != i)
        losses.append(-np.log(own / (own + others)))
    return np.mean(losses)


@pytest.mark.parametrize("num_negatives", [39, 40, 65536])
def test_npid_is_the_softmax_over_the_whole_memory(num_negatives):
    """The non-parametric softmax of the paper, its formula 2, when nothing must be drawn."""
    task = npid(num_negatives=num_negatives)
    batch = batch_at([7, 2, 39, 0, 11])
    out = task.loss(batch, Tick(0, 10, 5))
    assert out.value.item() == pytest.approx(npid_losses(task, batch, range(40)), rel=1e-5)
    embeddings = F.normalize(task.head(task.backbone(batch.views[0])), dim=1)
    torch.testing.assert_close(out.value, F.cross_entropy(embeddings @ task.memory.T / 0.07, batch.index))
    torch.testing.assert_close(out.keep["embeddings"], embeddings.detach())
    assert not out.keep["embeddings"].requires_grad


@pytest.mark.parametrize("num_negatives", [38, 5])
def test_npid_with_drawn_negatives_by_hand(num_negatives):
    task, batch = npid(num_negatives=num_negatives), batch_at(range(3, 40))
    for seed in range(3):
        torch.manual_seed(seed)
        places, own = task.negatives(batch.index)
        assert places.shape == (num_negatives,)
        assert own.any()
        torch.manual_seed(seed)
        out = task.loss(batch, Tick(0, 10, 5))
        assert out.value.item() == pytest.approx(npid_losses(task, batch, places.tolist()), rel=1e-5)


@pytest.mark.parametrize("num_negatives", [5, 20, 100])
def test_npid_masks_just_the_images_own_memory(num_negatives):
    task = npid(num_negatives=num_negatives)
    index, drawn = torch.tensor([7, 2, 39, 0]), set()
    for _ in range(100):
        places, own = task.negatives(index)
        for row, i in enumerate(index.tolist()):
            assert own[row].tolist() == [place == i for place in places.tolist()]
        drawn |= set(places.tolist())
    assert drawn == set(range(40))


def test_npid_memory_is_that_of_the_image():
    task = npid()
    batch = batch_at([7, 2, 39, 0])
    before = task.memory.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(40))
    out = task.loss(batch, Tick(0, 10, 5))
    assert torch.equal(task.memory, before)
    task.after_step(batch, out, Tick(0, 10, 5))
    for row, i in enumerate((7, 2, 39, 0)):
        mixed = 0.5 * before[i] + 0.5 * out.keep["embeddings"][row]
        torch.testing.assert_close(task.memory[i], mixed / mixed.norm())
        assert not torch.allclose(task.memory[i], before[i])
    rest = [i for i in range(40) if i not in (7, 2, 39, 0)]
    assert torch.equal(task.memory[rest], before[rest])
    assert torch.equal(task.state_dict()["memory"], task.memory)


def test_npid_momentum_is_the_share_of_the_old():
    task = npid(momentum=0.9)
    batch, before = batch_at([4, 9]), task.memory.clone()
    out = task.loss(batch, Tick(0, 10, 5))
    task.after_step(batch, out, Tick(0, 10, 5))
    torch.testing.assert_close(task.memory[4], F.normalize(0.9 * before[4] + 0.1 * out.keep["embeddings"][0], dim=0))


# ---- which images an epoch sees


def epochs_seen(spec, folder, monkeypatch):
    """The images of each epoch of a training, in the order in which they were seen."""
    seen, real = [], engine_step.one_step

    def spy(loop, where, feed, places, tick):
        seen.extend([[]] if tick.step % tick.steps_per_epoch == 0 else [])
        seen[-1] += places.tolist()
        return real(loop, where, feed, places, tick)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "one_step", spy)
        stage = train_stage(spec, Store(folder), Runtime(), Reporter())
    return seen, stage.record.num_images


@pytest.mark.parametrize("task", ["odc", "npid"])
def test_every_image_is_seen_once_an_epoch(task, small_stage, tmp_path, monkeypatch):
    epochs, num_images = epochs_seen(small_stage(task), tmp_path, monkeypatch)
    assert [sorted(places) for places in epochs] == [list(range(num_images))] * 3
    assert odc().sampling_weights() is None
    assert npid().sampling_weights() is None


def test_deepcluster_draws_images_by_weights(small_stage, tmp_path, monkeypatch):
    spec = small_stage("deepcluster")
    epochs, num_images = epochs_seen(spec, tmp_path / "own", monkeypatch)
    for places in epochs:
        assert len(places) == num_images
        assert len(set(places)) < num_images
    chosen = [3, 8, 20]
    weights = torch.zeros(num_images)
    weights[chosen] = torch.tensor([1.0, 1.0, 6.0])
    monkeypatch.setattr(DeepCluster, "sampling_weights", lambda task: weights)
    epochs, _ = epochs_seen(spec, tmp_path / "chosen", monkeypatch)
    together = [place for places in epochs for place in places]
    assert set(together) == set(chosen)
    assert together.count(20) / len(together) == pytest.approx(0.75, abs=0.15)
    assert sorted(epochs[0]) != sorted(epochs[1])


# ---- recipes


def rates(training, steps_per_epoch=7):
    """The rate at the first step of each epoch."""
    total = training.epochs * steps_per_epoch
    return [lr_at(training, epoch * steps_per_epoch, total, steps_per_epoch) for epoch in range(training.epochs)]


def test_odc_recipe_at_the_size_of_imagenet():
    config, training = ODC.recipe(IMAGENET).config, ODC.recipe(IMAGENET).training
    assert (config.num_clusters, config.smallest_cluster) == (10_000, 20)
    assert (config.momentum, config.update_every, config.reweight, config.dropout) == (0.5, 10, 0.5, 0.5)
    assert (config.hidden, config.dim) == (512, 256)
    assert (config.rotation, config.saturation, config.hue, config.gray) == (2.0, 1.0, 0.5, 0.2)
    assert (training.optimizer, training.batch_size, training.weight_decay) == ("sgd", 512, 1e-5)
    assert rates(training) == pytest.approx([0.06] * 400 + [0.06 * 0.4] * 40)


def test_deepcluster_recipe_at_the_size_of_imagenet():
    config, training = DeepCluster.recipe(IMAGENET).config, DeepCluster.recipe(IMAGENET).training
    assert (config.num_clusters, config.dim) == (10_000, 256)
    assert (training.optimizer, training.batch_size, training.weight_decay) == ("sgd", 512, 1e-5)
    assert rates(training) == [0.1] * 200


def test_npid_recipe_at_the_size_of_imagenet():
    config, training = NPID.recipe(IMAGENET).config, NPID.recipe(IMAGENET).training
    assert (config.num_negatives, config.temperature, config.momentum, config.dim) == (65_536, 0.07, 0.5, 128)
    assert (training.optimizer, training.batch_size, training.weight_decay) == ("sgd", 256, 1e-4)
    assert rates(training) == pytest.approx([0.03] * 120 + [0.003] * 40 + [0.0003] * 40)
