"""The Fréchet distance from features: ours against pytorch-fid's and torch-fidelity's, one thread.

    pip install pytorch-fid torch-fidelity
    python benchmarks/fid.py --json benchmarks/results/fid.json

Features are like pooled ones of a ResNet-50: max(0, a mixture of Gaussians through a random matrix), float64, 2,048
dimensions. Every distance is timed from the features, with their means and covariances. In a round all take turns on
the same new features, ours several times (its median counts). BLAS has one thread, by threadpoolctl. The error is
relative to singular values (xGESVD) of the product of QR factors of the centred features, summed exactly.

Goals: at n = 256, 1,024 and 4,096 a set 100, 30 and 5 times faster than pytorch-fid, with an error of 1e-12 or less.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import records
import scipy.linalg
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

from sslcurr.analysis.measures.frechet import frechet_distance

DIM = 2048
GOALS = {256: 100, 1024: 30, 4096: 5}  # images a set: times faster than pytorch-fid
MOST_ERROR = 1e-12


def features(num: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """[num, DIM] features of a network: not negative, correlated, of ten clusters."""
    common = np.random.default_rng(7)
    weights = common.standard_normal((256, DIM)) / 16
    centres = common.standard_normal((10, 256)) * (1 + shift)
    own = np.random.default_rng(seed)
    return np.maximum(0, (centres[own.integers(10, size=num)] + own.standard_normal((num, 256))) @ weights)


def accurate(a: np.ndarray, b: np.ndarray) -> float:
    """The distance by another way than ours, slow and good to about 1e-14."""
    total, factors = [], []
    for x in (a, b):
        centred = x - x.mean(axis=0)
        centred -= centred.mean(axis=0)  # what rounding left
        total.append(math.fsum(np.square(centred).sum(axis=0)) / (len(x) - 1))
        factors.append(
            scipy.linalg.qr(centred, mode="r", check_finite=False)[0][: min(x.shape)] / math.sqrt(len(x) - 1)
        )
    values = scipy.linalg.svd(factors[0] @ factors[1].T, compute_uv=False, lapack_driver="gesvd")
    change = a.mean(axis=0) - b.mean(axis=0)
    return math.fsum([*np.square(change), *total, *(-2 * values)])


def pytorch_fid(a: np.ndarray, b: np.ndarray) -> float:
    """As its `calculate_activation_statistics` and `calculate_fid_given_paths` do."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    first, second = ((np.mean(x, axis=0), np.cov(x, rowvar=False)) for x in (a, b))
    return float(calculate_frechet_distance(*first, *second))


def torch_fidelity(a: np.ndarray, b: np.ndarray) -> float:
    """As its `fid_inputs_to_metric` does."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    first, second = (fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b))
    return float(fid_statistics_to_metric(first, second, verbose=False)["frechet_inception_distance"])


def timed(distance: Callable[[np.ndarray, np.ndarray], float], *sets: np.ndarray) -> tuple[float, float]:
    """(seconds, distance)."""
    began = time.perf_counter()
    found = distance(*sets)
    return time.perf_counter() - began, found


def from_features(num: int, rounds: int, repeats: int) -> dict[str, Any]:
    """Seconds, ratios and errors at `num` images a set."""
    ways = {"ours": frechet_distance, "pytorch-fid": pytorch_fid, "torch-fidelity": torch_fidelity}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    errors: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds):
        a, b = features(num, 2 * i), features(num, 2 * i + 1, shift=0.1)
        expected = accurate(a, b)
        for name, way in ways.items():
            runs = [timed(way, a, b) for _ in range(repeats if name == "ours" else 1)]
            seconds[name].append(statistics.median(run[0] for run in runs))
            errors[name].append(abs(runs[0][1] / expected - 1))
    ratios = {
        name: records.ratio([theirs / ours for theirs, ours in zip(seconds[name], seconds["ours"], strict=True)])
        for name in ways
    }
    return {
        "n": num,
        "seconds": {name: [round(s, 4) for s in values] for name, values in seconds.items()},
        "times_faster": {name: ratios[name] for name in ways if name != "ours"},
        "error": {name: max(values) for name, values in errors.items()},
        "goal_times_faster": GOALS.get(num),
        "goal_error": MOST_ERROR,
        "reached": {
            "times_faster": ratios["pytorch-fid"]["median"] >= GOALS[num] if num in GOALS else None,
            "error": max(errors["ours"]) <= MOST_ERROR,
        },
    }


def shown(row: dict[str, Any]) -> str:
    """One size as lines of the table."""
    lines = []
    for name, values in row["seconds"].items():
        ratio = records.shown(row["times_faster"][name]) if name != "ours" else ""
        median = statistics.median(values)
        lines.append(f"{row['n']:>6}  {name:15} {median:9.3f} s  {row['error'][name]:8.1e}  {ratio}")
    said = {True: "reached", False: "NOT reached", None: "none"}
    lines.append(
        f"        goals: {row['goal_times_faster']} times pytorch-fid {said[row['reached']['times_faster']]}, "
        f"error {row['goal_error']:.0e} {said[row['reached']['error']]}"
    )
    return "\n".join(lines)


def extraction(num: int, size: int, rounds: int, device: str) -> dict[str, Any]:
    """Images/s from a pack to features in the store, against forward passes of the same network on ready tensors.

    ResNet-50, `num` images of `size` pixels, batches as the extraction has them; in a round both take turns.
    """
    from sslcurr.analysis.evaluation.features import BackboneExtractor, extract
    from sslcurr.engine.dataset import open_data, split_of
    from sslcurr.engine.models import models_from
    from sslcurr.engine.store import Store
    from sslcurr.spec.request import Request

    with tempfile.TemporaryDirectory() as folder:
        images, root = (
            np.random.default_rng(0).integers(0, 255, (num, size, size, 3), np.uint8),
            Path(folder) / "images",
        )
        root.mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(root / f"{number}.png", compress_level=0)
        store = Store(Path(folder) / "runs")
        data = open_data(Request(dataset=str(root), image_size=size), split_of({}), store, size)
        (model,) = models_from(["random:resnet50"], store)
        network, batch = model.network().to(device), 256 if device == "cuda" else 64
        ready = torch.randn(batch, 3, size, size, device=device)
        rows = []
        for number in range(rounds + 1):
            start = time.perf_counter()
            extract(BackboneExtractor(model), data, split="all", most=num, seed=number, store=store, device=device)
            ours = num / (time.perf_counter() - start)
            start = time.perf_counter()
            with torch.inference_mode():
                for _ in range(num // batch):
                    network(ready)
            if device == "cuda":
                torch.cuda.synchronize()
            bound = num // batch * batch / (time.perf_counter() - start)
            if number:  # the first round warms up
                rows.append({"images_per_second": round(ours, 1), "forward_only": round(bound, 1)})
    ratios = records.ratio([row["images_per_second"] / row["forward_only"] for row in rows])
    print(
        f"extraction, ResNet-50, {size} px, {num} images, {device}: {records.shown(ratios)} of the forward-only bound"
    )
    return {"of_the_bound": ratios, "size": size, "num_images": num, "device": device, "rounds": rows}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(GOALS), help="images a set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="runs of ours in a round")
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--images", type=int, default=1024, help="images of the extraction; 0 leaves it out")
    parser.add_argument("--image-size", type=int, default=64, help="their side, in pixels")
    parser.add_argument("--threads", type=int, default=2, help="threads of the extraction")
    parser.add_argument("--device", default="cpu", help="of the extraction: cpu or cuda")
    arguments = parser.parse_args()
    taken = {}
    if arguments.images:
        torch.set_num_threads(arguments.threads)
        taken = extraction(arguments.images, arguments.image_size, arguments.rounds, arguments.device)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # pytorch-fid's `disp`
    torch.set_num_threads(1)
    results = []
    with threadpool_limits(1):
        small = features(64, 0), features(64, 1)
        for way in (frechet_distance, torch_fidelity):  # what is imported or set up once
            way(small[0][:, :32], small[1][:, :32])
        print(f"{'n':>6}  {'':15} {'seconds':>11}  {'error':>8}  ours is so many times faster")
        for num in arguments.sizes:
            results.append(from_features(num, arguments.rounds, arguments.repeats))
            print(shown(results[-1]), flush=True)
    records.write(
        arguments.json,
        f"Fréchet distance from features, d = {DIM}",
        {"from_features": results, "extraction": taken},
        packages=("numpy", "scipy", "torch", "pytorch-fid", "torch-fidelity"),
        threads=1,
        rounds=arguments.rounds,
    )


if __name__ == "__main__":
    main()
