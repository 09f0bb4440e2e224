"""Features on a plane: PCA by hand, neighbours kept, degenerate features, and the command's points."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sslcurr.analysis.evaluation.embedding import embed
from sslcurr.analysis.results.probing.document import PROJECTIONS
from tests.conftest import QUICK


def test_pca_by_hand():
    # Variance 8 along (3, 4)/5 and 2 along (4, -3)/5, about another mean than 0.
    along = np.array([[2, 0], [-2, 0], [0, 1], [0, -1]]) @ (np.array([[3, 4], [4, -3]]) / 5)
    points, explained = embed(along + 7, "pca")
    assert explained == pytest.approx([0.8, 0.2])
    np.testing.assert_allclose(np.abs(points), [[2, 0], [2, 0], [0, 1], [0, 1]], atol=1e-9)
    np.testing.assert_allclose(points[0], -points[1], atol=1e-9)


# UMAP is compiled anew in each process, for half a minute.
@pytest.mark.parametrize("method", [pytest.param(m, marks=[pytest.mark.long] * (m == "umap")) for m in PROJECTIONS])
def test_groups_stay_apart_and_a_seed_gives_the_same_points(method):
    pytest.importorskip("umap" if method == "umap" else "sklearn")
    generator = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 10) * 12, 20, axis=0)
    features = centres + generator.normal(size=(60, 10))
    points, explained = embed(features, method, 1)
    assert points.shape == (60, 2)
    assert (explained is not None) == (method == "pca")
    labels = np.repeat(np.arange(3), 20)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(60) * 1e9
    assert (labels[distances.argmin(axis=1)] == labels).all()
    np.testing.assert_array_equal(embed(features, method, 1)[0], points)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_few_and_equal_features_are_laid_somewhere(method):
    for features in (np.random.default_rng(0).normal(size=(4, 5)), np.ones((7, 5))):
        points, _ = embed(features, method)
        assert points.shape == (len(features), 2)
        assert np.isfinite(points).all()


def test_probe_lays_test_images_on_a_plane(sslcurr, folder, tmp_path):
    stage = sslcurr.json("pretrain", "rotation", "--dataset", str(folder), *QUICK)["stages"][0]["key"]
    arguments = ("probe", stage, "random", "--dataset", str(folder), "--layers", "pooled")
    assert "embeddings" not in sslcurr.json(*arguments)
    plain = sslcurr.json(*arguments, "--plot", str(tmp_path / "plots"))
    first, second = plain["embeddings"]
    assert (first["model"], second["model"]) == ("rotation", "untrained test_resnet")
    assert first["method"] == "pca"
    assert first["split"] == "test"
    points = pd.read_csv(first["points"])
    assert len(points) == first["num_images"] == len(set(points["path"]))
    assert all(path.startswith(label) for path, label in zip(points["path"], points["label"], strict=True))
    variances = points[["x", "y"]].var(ddof=0).to_numpy()
    assert variances[0] / variances[1] == pytest.approx(first["explained"][0] / first["explained"][1], rel=1e-3)
    names = {path.rsplit("/", 1)[1] for path in plain["files"]}
    assert {"embedding-1.png", "embedding-2.svg"} <= names
    other = sslcurr.json(*arguments, "--projection", "tsne")["embeddings"][0]
    assert other["explained"] is None
    assert other["points"] != first["points"]
    assert sslcurr.json("runs", "remove", "--dry-run")["removed"] == {}
