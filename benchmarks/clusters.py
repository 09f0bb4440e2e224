"""Which k-means for ODC and DeepCluster: ours, on the training device, or scikit-learn's.

    python benchmarks/clusters.py --json benchmarks/results/clusters-cpu.json

25,000 unit features of 256 dimensions (a mixture of as many blobs, as features of a network are) into 195 clusters, one
for 128 images. Ours and scikit-learn's take turns; seconds are medians, inertia is relative to the best of all runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import records
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans, MiniBatchKMeans

from sslcurr.tasks.clusters import kmeans, means


def mixture(num_rows: int, dim: int, num_blobs: int, seed: int) -> torch.Tensor:
    """Unit vectors around random centres, as far apart as their blobs are wide."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_blobs, dim, generator=generator)
    rows = centres[torch.randint(num_blobs, (num_rows,), generator=generator)]
    return F.normalize(rows + torch.randn(num_rows, dim, generator=generator), dim=1)


def inertia(x: torch.Tensor, labels: torch.Tensor, num_clusters: int) -> float:
    """Sum of squared distances to the mean of the cluster."""
    centroids = means(x, labels, torch.zeros(num_clusters, x.shape[1], device=x.device))
    return float((x - centroids[labels]).square().sum())


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=25_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--clusters", type=int, default=195)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    count = arguments.clusters

    def ours(x: torch.Tensor, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return kmeans(x, count)[0]

    def theirs(kind: Any, **settings: Any) -> Callable[[torch.Tensor, int], torch.Tensor]:
        def run(x: torch.Tensor, seed: int) -> torch.Tensor:
            model = kind(n_clusters=count, random_state=seed, n_init=1, **settings)
            return torch.from_numpy(model.fit_predict(x.cpu().numpy())).long().to(x.device)

        return run

    kinds = {
        "ours": ours,
        "scikit-learn KMeans": theirs(KMeans, max_iter=20),
        "scikit-learn MiniBatchKMeans": theirs(MiniBatchKMeans),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for seed in range(arguments.rounds):
        x = mixture(arguments.rows, arguments.dim, count, seed).to(arguments.device)
        for name, run in kinds.items():
            began = time.perf_counter()
            labels = run(x, seed)
            if arguments.device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - began)
            found[name].append(inertia(x, labels, count))
    best = [min(values[i] for values in found.values()) for i in range(arguments.rounds)]
    rows = [
        {
            "kind": name,
            "seconds": {
                "median": round(statistics.median(seconds[name]), 3),
                "all": [round(s, 3) for s in seconds[name]],
            },
            "inertia": round(statistics.mean(a / b for a, b in zip(found[name], best, strict=True)), 4),
        }
        for name in kinds
    ]
    for row in rows:
        print(
            f"{row['kind']:30} {row['seconds']['median']:8.2f} s   inertia {row['inertia']:.3f} of the best", flush=True
        )
    records.write(
        arguments.json,
        f"k-means of {arguments.rows} x {arguments.dim} into {count}",
        rows,
        packages=("torch", "scikit-learn"),
        device=arguments.device,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
