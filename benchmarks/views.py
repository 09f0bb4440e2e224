"""How many random views one CPU thread makes a second: ours in batches, lightly's one by one from decoded PIL images.

Both make the views of MoCo v2 and of SwAV as normalised float tensors, from the same natural images at the size of a
pack. The two are timed in turn, so that what else the machine does meets both. Run it as

    python benchmarks/views.py --json views.json
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import records
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from sslcurr.data.views.draw import make_views
from sslcurr.data.views.view import View

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PACK_SIZES = {32: 40, 64: 80, 224: 256}  # view size: size of the packed images
COMMON = {"horizontal_flip": 0.5, "jitter": 0.8, "gray": 0.2, "blur": 0.5, "blur_sigma": (0.1, 2.0)}


def moco_views(size: int) -> list[View]:
    """MoCo v2's two views, https://arxiv.org/abs/2003.04297."""
    return [View(size=size, count=2, scale=(0.2, 1.0), **COMMON)]


def swav_views(size: int) -> list[View]:
    """SwAV's two large and six small views, https://arxiv.org/abs/2006.09882."""
    colours = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
    return [
        View(size=size, count=2, scale=(0.14, 1.0), **COMMON, **colours),
        View(size=small_size(size), count=6, scale=(0.05, 0.14), **COMMON, **colours),
    ]


def small_size(size: int) -> int:
    """The size of SwAV's small views: 96 of 224."""
    return size * 96 // 224


def lightly_transform(method: str, size: int) -> Callable[[Image.Image], list[torch.Tensor]]:
    """lightly's transform of the same views."""
    from lightly.transforms import MoCoV2Transform, SwaVTransform

    common = {
        "hf_prob": 0.5,
        "cj_prob": 0.8,
        "cj_strength": 1.0,
        "random_gray_scale": 0.2,
        "gaussian_blur": 0.5,
        "sigmas": (0.1, 2.0),
        "normalize": {"mean": list(MEAN), "std": list(STD)},
    }
    if method == "mocov2":
        colours = {"cj_bright": 0.4, "cj_contrast": 0.4, "cj_sat": 0.4, "cj_hue": 0.1}
        return MoCoV2Transform(input_size=size, min_scale=0.2, **colours, **common)
    return SwaVTransform(
        crop_sizes=(size, small_size(size)),
        crop_counts=(2, 6),
        crop_min_scales=(0.14, 0.05),
        crop_max_scales=(1.0, 0.14),
        cj_bright=0.8,
        cj_contrast=0.8,
        cj_sat=0.8,
        cj_hue=0.2,
        **common,
    )


def natural_images(num_images: int, size: int) -> list[Image.Image]:
    """Different square cuts of scikit-learn's two sample photographs."""
    photographs = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    images = []
    for number in range(num_images):
        photograph = photographs[number % 2]
        left, top = (37 * number) % (photograph.width - 320), (23 * number) % (photograph.height - 320)
        images.append(
            photograph.crop((left, top, left + 320, top + 320)).resize((size, size), Image.Resampling.BICUBIC)
        )
    return images


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def keep_memory() -> bool:
    """Tell glibc to keep freed memory: zeroing fresh pages costs more than many of the operations."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    trim_threshold, mmap_threshold = -1, -3
    return bool(libc.mallopt(mmap_threshold, 1 << 30) and libc.mallopt(trim_threshold, (1 << 31) - 1))


def measure(method: str, size: int, batch: int, repeats: int) -> dict[str, object]:
    """Views a second of both, and their ratio: medians over `repeats` pairs of batches, with the extremes."""
    images = natural_images(batch, PACK_SIZES[size])
    pack = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()
    sides = torch.full((batch,), PACK_SIZES[size])
    views = moco_views(size) if method == "mocov2" else swav_views(size)
    num_views = sum(view.count for view in views)
    transform = lightly_transform(method, size)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)

    def ours() -> object:
        return make_views(pack, sides, sides, views, generator, mean=MEAN, std=STD, channels=3)

    def theirs() -> object:
        return [transform(image) for image in images]

    ours(), ours(), transform(images[0])
    rates: dict[str, list[float]] = {"ours": [], "lightly": [], "ratio": []}
    for _ in range(repeats):
        before, peer, after = seconds(ours), seconds(theirs), seconds(ours)
        rates["ours"].append(batch * num_views / ((before + after) / 2))
        rates["lightly"].append(batch * num_views / peer)
        rates["ratio"].append(rates["ours"][-1] / rates["lightly"][-1])
    row: dict[str, object] = {
        "method": method,
        "size": size,
        "pack_size": PACK_SIZES[size],
        "batch": batch,
        "n": repeats,
    }
    for name, values in rates.items():
        row[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return row


def main() -> None:
    """Measure, print a table, and write the JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["mocov2", "swav"], choices=["mocov2", "swav"])
    parser.add_argument("--sizes", nargs="+", type=int, default=list(PACK_SIZES), choices=list(PACK_SIZES))
    parser.add_argument("--batch", type=int, default=64, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="timed pairs of batches")
    parser.add_argument("--default-malloc", action="store_true", help="leave the allocator as it is (both sides)")
    parser.add_argument("--json", type=Path, help="where to write the JSON document")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = False if arguments.default_malloc else keep_memory()

    rows = []
    print(f"{'method':8}{'size':>5}{'ours':>10}{'lightly':>10}{'times':>8}   (views a second, medians; min to max)")
    for method in arguments.methods:
        for size in arguments.sizes:
            row = measure(method, size, arguments.batch, arguments.repeats)
            rows.append(row)
            ours, lightly, ratio = (row[name] for name in ("ours", "lightly", "ratio"))
            spread = f"{ratio['min']:.1f} to {ratio['max']:.1f}"
            print(
                f"{method:8}{size:5d}{ours['median']:10.0f}{lightly['median']:10.0f}{ratio['median']:8.1f}   {spread}",
                flush=True,
            )
    records.write(
        arguments.json,
        "views a second of one thread",
        rows,
        packages=("torch", "torchvision", "lightly", "pillow", "numpy"),
        capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        memory_kept=kept,
    )


if __name__ == "__main__":
    main()
