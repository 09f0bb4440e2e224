"""How fast images become a pack, against the decoders alone; and what a hundred thousand files cost before that.

    python benchmarks/data.py --json benchmarks/results/data-cpu.json

Files of one kind are packed at 256 px by `open_pack`, which is what `sslcurr data prepare` does, and decoded by the
library alone (Pillow, pydicom) on all cores, by threads and by processes, the quicker of which is the bound. Both take
turns. `needed` is the least that a pack takes, by threads: decoding, the sha256 of the file and of the pixels at their
full size, and the resize, for which a large JPEG is decoded once more in part. The pictures come with packages:
scikit-learn's photographs, and pydicom-data's chest radiographs. Packing is done by a process of its own, whose imports
do not count, but the start of its workers does; peak memory is its own and that of as many workers as there are cores.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import data_store
import numpy as np
import pydicom
import records
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless
from sklearn.datasets import load_sample_images

from sslcurr.data.packing import open_pack
from sslcurr.data.sources.catalog import find_source
from sslcurr.data.split import SplitSettings, assign

RADIOGRAPH = "RG1_UNCR.dcm"
DISTINCT = 32  # the rest are copies: decoders have no memory
PACKING = """
import os, resource, sys, time
from pathlib import Path
from sslcurr.data.sources.catalog import find_source
from sslcurr.data.packing import open_pack
begun = time.perf_counter()
open_pack(find_source(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
seconds = time.perf_counter() - begun
own, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(seconds, (own + workers * os.cpu_count()) // 1024)
"""


def radiograph() -> Any:
    """A chest radiograph of pydicom-data as a data set with its pixels decoded."""
    (path,) = Path(data_store.__file__).parent.rglob(RADIOGRAPH)
    return pydicom.dcmread(path)


def write_jpeg(path: Path, side: int, generator: np.random.Generator) -> None:
    """A photograph, cut out at random, enlarged, with the noise that enlarging takes away."""
    photograph = load_sample_images().images[int(generator.integers(2))]
    top, left = int(generator.integers(0, 100)), int(generator.integers(0, 200))
    part = Image.fromarray(photograph[top : top + 320, left : left + 320]).resize(
        (side, side), Image.Resampling.LANCZOS
    )
    noise = generator.normal(0, 3, (side, side, 1))
    Image.fromarray(np.clip(np.asarray(part) + noise, 0, 255).astype(np.uint8)).save(path, "JPEG", quality=90)


def pixels_of(data: Any, side: int, generator: np.random.Generator) -> np.ndarray:
    """A square of a radiograph, uint16, cut out at random."""
    pixels = data.pixel_array
    top, left = (int(generator.integers(0, length - side + 1)) for length in pixels.shape)
    return pixels[top : top + side, left : left + side].astype(np.uint16)


def write_png(path: Path, side: int, generator: np.random.Generator) -> None:
    """A square of a radiograph as 16-bit PNG."""
    Image.fromarray(pixels_of(radiograph(), side, generator)).save(path, "PNG")


def write_dicom(path: Path, side: int, generator: np.random.Generator, syntax: Any = None) -> None:
    """A square of a radiograph as DICOM, uncompressed or by a transfer syntax."""
    data = radiograph()
    pixels = pixels_of(data, side, generator)
    data.Rows = data.Columns = side
    data.PixelData = pixels.tobytes()
    if syntax is not None:
        data.compress(syntax, pixels)
    data.save_as(path)


KINDS: dict[str, tuple[str, Callable[..., None], dict[str, Any]]] = {
    "JPEG": ("jpg", write_jpeg, {}),
    "PNG, 16 bit": ("png", write_png, {}),
    "DICOM, uncompressed": ("dcm", write_dicom, {}),
    "DICOM, JPEG-LS": ("dcm", write_dicom, {"syntax": JPEGLSLossless}),
    "DICOM, JPEG 2000": ("dcm", write_dicom, {"syntax": JPEG2000Lossless}),
}


def decode_alone(path: Path) -> int:
    """What the decoder must do for a file: read it and make pixels of it."""
    data = path.read_bytes()
    if path.suffix == ".dcm":
        return int(pydicom.dcmread(io.BytesIO(data)).pixel_array.shape[0])
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.height


def what_is_needed(path: Path, size: int) -> tuple[str, str]:
    """Decode a file and resize it to [size, size]; its digest, and that of its pixels in 8 bits."""
    data = path.read_bytes()
    if path.suffix == ".dcm":
        image = Image.fromarray(pydicom.dcmread(io.BytesIO(data)).pixel_array.view(np.uint8)[:, ::2])
    else:
        image = Image.open(io.BytesIO(data))
        image.load()
    pixels = np.asarray(image)
    if image.mode == "I;16":
        image = Image.fromarray(pixels.view(np.uint8)[:, ::2])  # a byte of each sample stands for its window
        pixels = np.asarray(image)
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
    if path.suffix == ".jpg":
        image = Image.open(io.BytesIO(data))
        image.draft(None, (2 * size, 2 * size))
    image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0).tobytes()
    return hashlib.sha256(data).hexdigest(), digest


def rate(work: Callable[[Path], Any], paths: list[Path], pool: Executor) -> float:
    """Images a second of the decoder alone, or other work on files."""
    begun = time.perf_counter()
    list(pool.map(work, paths))
    return len(paths) / (time.perf_counter() - begun)


def packed(folder: Path, size: int) -> tuple[float, int]:
    """Seconds of packing, and the peak of resident memory in MB."""
    with tempfile.TemporaryDirectory() as packs:
        command = [sys.executable, "-c", PACKING, str(folder), str(size), packs]
        seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return float(seconds), int(peak)


def measure(kind: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One kind of files: rates of both sides in turns, ratios by round, memory."""
    suffix, write, options = KINDS[kind]
    folder.mkdir()
    for i in range(min(arguments.images, DISTINCT)):
        write(folder / f"{i:04d}.{suffix}", arguments.side, np.random.default_rng(i), **options)
    for i in range(DISTINCT, arguments.images):
        shutil.copy(folder / f"{i % DISTINCT:04d}.{suffix}", folder / f"{i:04d}.{suffix}")
    paths = sorted(folder.iterdir())
    cores = os.cpu_count() or 1
    rates: dict[str, list[float]] = {"threads": [], "processes": [], "needed": [], "packed": []}
    with (
        ThreadPoolExecutor(cores) as threads,
        ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as processes,
    ):
        for pool in (threads, processes):
            list(pool.map(decode_alone, paths[: 2 * cores]))  # imports, caches
        peaks = [packed(folder, arguments.size)[1]]
        for _ in range(arguments.rounds):
            rates["threads"].append(rate(decode_alone, paths, threads))
            rates["needed"].append(rate(partial(what_is_needed, size=arguments.size), paths, threads))
            seconds, peak = packed(folder, arguments.size)
            rates["packed"].append(len(paths) / seconds)
            peaks.append(peak)
            rates["processes"].append(rate(decode_alone, paths, processes))
    bounds = [max(pair) for pair in zip(rates["threads"], rates["processes"], strict=True)]
    return {
        "kind": kind,
        "megabytes": round(sum(path.stat().st_size for path in paths) / len(paths) / 1e6, 2),
        "images_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "of_bound": records.ratio([a / b for a, b in zip(rates["packed"], bounds, strict=True)]),
        "of_needed": records.ratio([a / b for a, b in zip(rates["packed"], rates["needed"], strict=True)]),
        "peak_megabytes": max(peaks),
    }


def list_many(root: Path, count: int) -> dict[str, Any]:
    """Seconds to list, index and split `count` tiny files, with groups, by a table; and peak memory."""
    picture = io.BytesIO()
    Image.new("L", (2, 2), 7).save(picture, "PNG")
    (root / "images").mkdir(parents=True)
    for i in range(count):
        (root / f"images/{i:06d}.png").write_bytes(picture.getvalue())
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group")])
        csv.writer(file).writerows((f"images/{i:06d}.png", f"class{i % 10}", f"patient{i // 3}") for i in range(count))
    seconds = {}
    begun = time.perf_counter()
    source = find_source(str(root / "labels.csv"))
    seconds["listing"] = time.perf_counter() - begun
    open_pack(source, 8, root / "packs")
    begun = time.perf_counter()
    pack = open_pack(source, 8, root / "packs")
    seconds["index"] = time.perf_counter() - begun
    begun = time.perf_counter()
    assign(pack, SplitSettings())
    seconds["splitting"] = time.perf_counter() - begun
    return {"kind": f"{count:,} files", "seconds": {name: round(value, 2) for name, value in seconds.items()}}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--images", type=int, default=64, help="files of each kind")
    parser.add_argument("--side", type=int, default=1024, help="of the files, in pixels")
    parser.add_argument("--size", type=int, default=256, help="of the pack, in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--listing", type=int, default=100_000, help="tiny files to list; 0 for none")
    parser.add_argument("--json", type=Path, help="where to write the JSON document")
    arguments = parser.parse_args()
    rows = []
    root = Path(tempfile.mkdtemp(prefix="sslcurr-data-"))
    try:
        for number, kind in enumerate(arguments.kinds):
            row = measure(kind, root / str(number), arguments)
            rows.append(row)
            rates = "  ".join(f"{name} {value:8.1f}/s" for name, value in row["images_per_second"].items())
            print(
                f"{kind:20} {row['megabytes']:6.2f} MB  {rates}  of the bound {records.shown(row['of_bound'])}"
                f"  of what is needed {records.shown(row['of_needed'])}"
                f"  peak {row['peak_megabytes']} MB",
                flush=True,
            )
        if arguments.listing:
            rows.append(list_many(root / "many", arguments.listing))
            print(f"{rows[-1]['kind']}: {rows[-1]['seconds']} s")
    finally:
        shutil.rmtree(root)
    records.write(
        arguments.json,
        f"images/s of packing {arguments.side} px files at {arguments.size} px, against their decoders alone",
        rows,
        packages=("numpy", "pillow", "pydicom", "python-gdcm", "pylibjpeg-openjpeg", "pyjpegls"),
        images=arguments.images,
        rounds=arguments.rounds,
    )


if __name__ == "__main__":
    main()
