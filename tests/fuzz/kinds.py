"""The kinds of cases: what is made, and what reads it."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import socket
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz import mutate

DOCUMENTS = Path(__file__).parents[1] / "documents"
SIDE = 24


class Wrong(AssertionError):
    """A result that is none."""


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


# ---- images


@cache
def pictures() -> dict[str, bytes]:
    """Small files of all formats and modes that are read."""
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (19, 23, 3), dtype=np.uint8)
    grey = np.linspace(0, 255, 19 * 23).reshape(19, 23).astype(np.uint8)
    found: dict[str, bytes] = {}

    def keep(name: str, image: Image.Image, form: str, **how: Any) -> None:
        out = io.BytesIO()
        try:
            image.save(out, form, **how)
        except (OSError, KeyError):  # a codec that is not here
            return
        found[name] = out.getvalue()

    rgb, one = Image.fromarray(colour), Image.fromarray(grey)
    keep("a.png", rgb, "PNG")
    keep("b.png", one, "PNG")
    keep("c.png", rgb.convert("P"), "PNG")
    keep("d.png", rgb.convert("RGBA"), "PNG")
    keep("e.png", Image.fromarray((grey.astype(np.int32) * 200).astype(np.uint16)), "PNG")
    keep("f.png", one.convert("1"), "PNG")
    keep("a.jpg", rgb, "JPEG")
    keep("b.jpg", one, "JPEG", progressive=True)
    keep("c.jpg", rgb.convert("CMYK"), "JPEG")
    for number, how in enumerate(
        ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}, {"compression": "jpeg"})
    ):
        keep(f"a{number}.tif", rgb, "TIFF", **how)
    keep("b.tif", Image.fromarray(grey.astype(np.float32)), "TIFF")
    keep("c.tif", one, "TIFF", save_all=True, append_images=[one, one])
    keep("d.tif", Image.fromarray((grey.astype(np.int32) * 200).astype(np.uint16)), "TIFF")
    keep("a.gif", rgb.convert("P"), "GIF", save_all=True, append_images=[rgb.convert("P")])
    keep("a.bmp", rgb, "BMP")
    keep("b.bmp", rgb.convert("P"), "BMP")
    keep("a.webp", rgb, "WEBP", lossless=True)
    keep("a.ppm", rgb, "PPM")
    keep("a.pgm", one, "PPM")
    keep("a.jp2", rgb, "JPEG2000")
    keep("a.avif", rgb, "AVIF")
    return found


def image(rng: random.Random, folder: Path) -> Callable[[], None]:
    """An image file with changed bytes."""
    files = pictures()
    name = rng.choice(sorted(files))
    path = folder / name
    path.write_bytes(mutate.bytes_of(files[name], list(files.values()), rng))
    return lambda: _read_row(path)


def _read_row(path: Path) -> None:
    from sslcurr.data.decode.read import pillow_without_warnings
    from sslcurr.data.rows import read_row

    with pillow_without_warnings():
        small, row = read_row(path, None, None, SIDE)
    expect(small.dtype == np.uint8 and small.shape in ((SIDE, SIDE, 1), (SIDE, SIDE, 3)), f"{small.shape}")
    expect(row.height > 0 and row.width > 0 and row.is_grey == (small.shape[2] == 1), str(row))


@cache
def scans() -> dict[str, bytes]:
    """Small DICOM files."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    found = {}
    for number, syntax in enumerate((ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)):
        for bits, frames, photometric in (
            (8, 1, "MONOCHROME2"),
            (12, 1, "MONOCHROME1"),
            (16, 3, "MONOCHROME2"),
            (8, 1, "RGB"),
        ):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
            meta.MediaStorageSOPInstanceUID = "1.2.3.4"
            meta.TransferSyntaxUID = syntax
            data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4"
            data.PatientName, data.PatientID = "Doe^Jane", "12345"
            data.Rows, data.Columns, data.PixelRepresentation = 17, 13, 0
            data.SamplesPerPixel = 3 if photometric == "RGB" else 1
            if photometric == "RGB":
                data.PlanarConfiguration = 0
            data.PhotometricInterpretation = photometric
            data.BitsAllocated = 8 if bits == 8 else 16
            data.BitsStored, data.HighBit = bits, bits - 1
            if frames > 1:
                data.NumberOfFrames = frames
            if bits == 12:
                data.WindowCenter, data.WindowWidth, data.RescaleSlope, data.RescaleIntercept = 1000, 900, 1, -24
            kind = np.uint8 if bits == 8 else np.uint16
            shape = (frames, 17, 13, data.SamplesPerPixel)
            data.PixelData = np.random.default_rng(number).integers(0, 2**bits, shape).astype(kind).tobytes()
            out = io.BytesIO()
            pydicom.dcmwrite(out, data, enforce_file_format=True)
            found[f"{number}-{bits}-{frames}-{photometric}"] = out.getvalue()
    return found


def dicom(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A DICOM file with changed bytes."""
    files = scans()
    name = rng.choice(sorted(files))
    path = folder / "scan.dcm"
    path.write_bytes(mutate.bytes_of(files[name], list(files.values()), rng))
    return lambda: _read_row(path)


# ---- tables and folders


def table(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A table of images in some format, with odd cells or changed bytes."""
    import pandas as pd

    from sslcurr.data.sources.catalog import find_source

    for number in range(6):
        (folder / f"{number}.png").write_bytes(pictures()["b.png"])
    rows = [
        {"path": f"{n}.png", "label": "ab"[n % 2], "group": str(n // 2), "split": ("train", "test")[n % 2]}
        for n in range(6)
    ]
    for row in rows:
        for name in row:
            if rng.random() < 0.05:
                row[name] = mutate.text(rng)
    names = list(rows[0])
    if rng.random() < 0.3:
        old = rng.choice(names)
        rows = [{(mutate.text(rng) if name == old else name): value for name, value in row.items()} for row in rows]
    path = folder / f"t.{rng.choice(('csv', 'tsv', 'jsonl', 'parquet', 'csv'))}"
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    if rng.random() < 0.5:
        path.write_bytes(mutate.bytes_of(path.read_bytes(), [path.read_bytes()[::-1]], rng))

    def read() -> None:
        source = find_source(str(path))
        expect(len(source.names) == len(source.labels) > 0, "labels")

    return read


NAMES = (
    *(
        "train",
        "test",
        "val",
        "a",
        "b",
        "cat [red]",
        "x\x1b[31m",
        "@eaDir",
        ".hidden",
        "runs",
        "é",
        "e\u0301",
        "a" * 200,
    ),
    *("=1+1", "a\nb", "a\tb", "$(x)", "%s", "-rf", "nan", "train ", "TRAIN", "masks"),
)


def tree(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A folder of folders and files with odd names and kinds."""
    from sslcurr.data.packing import open_pack
    from sslcurr.data.sources.catalog import find_source

    root = folder / "set"
    root.mkdir()
    places = [root]
    for _ in range(rng.randrange(1, 6)):
        place = rng.choice(places) / rng.choice(NAMES)
        place.mkdir(exist_ok=True)
        places.append(place)
    for number in range(rng.randrange(1, 12)):
        name = rng.choice(
            (f"{number}.png", f"{number}.jpg", f"{number}", f"x{number}_mask.png", f"{rng.choice(NAMES)}.png")
        )
        path = rng.choice(places) / name[-250:]
        content = rng.choice(sorted(pictures()))
        path.write_bytes(pictures()[content] if rng.random() < 0.9 else b"")
    place = rng.choice(places)
    match rng.randrange(8):
        case 0:
            os.mkfifo(place / "pipe.png")
        case 1:
            (place / "loop.png").symlink_to(place / "loop.png")
        case 2:
            (place / "zero.png").symlink_to("/dev/zero")
        case 3:
            (place / "up").symlink_to(root)
        case 4:
            os.makedirs(os.fsencode(place) + b"/\xff\xfe")
            Path(os.fsdecode(os.fsencode(place) + b"/\xff\xfe/a.png")).write_bytes(pictures()["a.png"])
        case 5 if len(str(place / "s")) < 100:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(place / "s.png"))
        case _:
            pass

    def read() -> None:
        source = find_source(str(root))
        pack = open_pack(source, 16, folder / "packs", workers=1, skip_broken=True)
        expect(pack.images[:].shape[0] == len(pack.names) > 0, "images")

    return read


# ---- checkpoints


@cache
def checkpoints() -> dict[str, bytes]:
    """Checkpoints of ours and of others."""
    import tempfile

    import timm
    import torch

    from sslcurr.backbones.checkpoint import Header, save_backbone
    from sslcurr.spec.stage import BackboneSpec

    found = {}
    network = timm.create_model("test_resnet", num_classes=0)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a"
        save_backbone(
            network, Header(backbone=BackboneSpec(name="test_resnet"), image_size=32, tasks=("rotation",)), path
        )
        found["ours.safetensors"] = path.read_bytes()
        state = {f"module.encoder_q.{key}": value for key, value in network.state_dict().items()}
        for file, how in (("moco.pth", {}), ("old.pth", {"_use_new_zipfile_serialization": False})):
            torch.save({"epoch": 3, "state_dict": state}, path, **how)
            found[file] = path.read_bytes()
        torch.save(network, path)
        found["network.pt"] = path.read_bytes()
    return found


def checkpoint(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A checkpoint with changed bytes."""
    files = checkpoints()
    name = rng.choice(sorted(files))
    path = folder / name
    path.write_bytes(mutate.bytes_of(files[name], list(files.values()), rng) if rng.random() < 0.95 else files[name])

    def read() -> None:
        from sslcurr.backbones.checkpoint import is_ours, load_backbone
        from sslcurr.engine.models import conversion_of

        if is_ours(path):
            network, header = load_backbone(path)
            expect(header.image_size == 32 or header.image_size is not None, "header")
            expect(next(network.parameters()).ndim > 0, "network")
        else:
            conversion, _ = conversion_of(path)
            expect(bool(conversion.weights), "weights")

    return read


# ---- records and documents


@cache
def documents() -> list[tuple[str, Any]]:
    """All kept documents, and records of a store."""
    return [(path.stem, json.loads(path.read_text())) for path in sorted(DOCUMENTS.glob("*.json"))]


def record(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A document of a result with a changed value or changed bytes."""
    from sslcurr import load_result
    from sslcurr.analysis.results.kinds import KINDS

    name, plain = rng.choice(documents())
    path, kind = folder / "document.json", next(each for each in sorted(KINDS, key=len)[::-1] if name.startswith(each))
    if rng.random() < 0.7:
        path.write_text(json.dumps(mutate.document(plain, rng)))
    else:
        content = json.dumps(plain, indent=1).encode()
        path.write_bytes(mutate.bytes_of(content, [content[::-1]], rng))

    def read() -> None:
        found = load_result(path, kind)
        expect(isinstance(found.to_json(), dict), "document")
        for table in found.tables():
            expect(bool(table.columns), "a table")

    return read


def run_record(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A store with an odd record, listed."""
    from sslcurr.engine.store import Store

    plain = {"asked": {"a": 1}, "title": "x", "dataset": "d", "stages": ["a" * 16], "created": "2026-11-29T12:00:00"}
    for part, name in (("runs", "0123abcd"), ("results", "0123abcd"), ("plans", "0123abcd")):
        (folder / part).mkdir()
        content = json.dumps(mutate.document(plain, rng)).encode()
        if rng.random() < 0.5:
            content = mutate.bytes_of(content, [content], rng)
        (folder / part / f"{name}.json").write_bytes(content)

    def read() -> None:
        from sslcurr.engine.inspection import inspect

        store = Store(folder)
        for run in store.all_runs():
            store.result(run)
        expect(len(inspect(store).findings) >= 0, "findings")

    return read


def experiment(rng: random.Random, folder: Path) -> Callable[[], None]:
    """An experiment file with changed bytes or values."""
    import typer

    from sslcurr.cli.app import app
    from sslcurr.cli.program import read

    text = f"""[defaults]
dataset = "digits"
epochs = 1
[[run]]
command = "chain"
tasks = ["rotation"]
{rng.choice(("seed", "lr", "freeze", "set", "name", "epochs", "fraction"))} = {json.dumps(mutate.value(rng))}
[[run]]
command = "{rng.choice(("rank", "finetune", "runs show", "cka", "attend"))}"
"""
    content = text.encode()
    path = folder / "e.toml"
    path.write_bytes(mutate.bytes_of(content, [content], rng) if rng.random() < 0.5 else content)
    root: Any = typer.main.get_command(app)
    return lambda: expect(len(read(path, root)) > 0, "commands")


@cache
def handed() -> bytes:
    """A run as a file."""
    import tempfile

    from sslcurr.engine.handover import export_run
    from sslcurr.engine.store import Store
    from sslcurr.spec.record import RunRecord

    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name))
        folder = store.analysis("knn", {"a": 1}, lambda part: {"x": 1})
        made = RunRecord(asked={"a": 1}, title="x", dataset="d", analyses=[folder.name], created="2026-11-29T12:00:00")
        export_run(store, store.note_run(made), Path(name) / "a.zip")
        return (Path(name) / "a.zip").read_bytes()


def handover(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A run that somebody handed over, with changed bytes."""
    from sslcurr.engine.handover import import_run
    from sslcurr.engine.store import Store

    path = folder / "run.zip"
    path.write_bytes(mutate.bytes_of(handed(), [handed()[::-1]], rng))

    def read() -> None:
        taken = import_run(Store(folder / "store"), path)
        expect(taken.record.title == "x", "another title")
        expect(sorted(each.name for each in folder.iterdir()) == ["run.zip", "store"], "something outside the store")

    return read


# ---- settings and options


def setting(rng: random.Random, folder: Path) -> Callable[[], None]:
    """An odd value for a setting of a task."""
    from dataclasses import fields

    from sslcurr.spec import settings
    from sslcurr.tasks import TASKS, task_class
    from sslcurr.tasks.base import Facts

    kind = task_class(rng.choice(sorted(TASKS)))
    facts = Facts(num_images=500, class_counts=(250, 250), outputs=0, image_size=32, channels=3, pretrained=False)
    recipe = kind.recipe(facts)
    names = [each.name for part in (recipe.config, recipe.training) for each in fields(part)]
    given = {rng.choice(names): mutate.text(rng) for _ in range(rng.choice((1, 1, 2)))}

    def apply() -> None:
        config, training = settings.apply(given, recipe.config, recipe.training, section=kind.name)
        expect(type(config) is type(recipe.config) and training.epochs >= 1, "settings")

    return apply


@cache
def commands() -> list[tuple[tuple[str, ...], Any]]:
    """All commands, with their parameters."""
    import typer

    from sslcurr.cli.app import app

    found: list[tuple[tuple[str, ...], Any]] = []

    def walk(words: tuple[str, ...], command: Any) -> None:
        if hasattr(command, "commands"):
            for name, each in command.commands.items():
                walk((*words, name), each)
        else:
            found.append((words, command))

    walk((), typer.main.get_command(app))
    return found


def line(rng: random.Random) -> tuple[tuple[str, ...], Any, list[str]]:
    """A command with odd options."""
    words, command = rng.choice(commands())
    arguments: list[str] = []
    for param in command.params:
        if param.param_type_name == "argument":
            if rng.random() < 0.9:
                arguments += [
                    rng.choice(("rotation", "mocov2", "digits", mutate.text(rng))) for _ in range(rng.choice((1, 1, 2)))
                ]
        elif rng.random() < 0.12 and param.name not in ("help", "print_toml", "yes"):
            flag = rng.choice(param.opts)
            arguments += [flag] if param.is_flag else [flag, mutate.text(rng)]
    return words, command, arguments


def option(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A command line that is parsed."""
    import typer

    usage: Any = typer.BadParameter.__bases__[0]
    words, command, arguments = line(rng)

    def parse() -> None:
        try:
            command.make_context(" ".join(words), arguments)
        except (usage, typer.Exit):
            return

    return parse


# Options that would reach beyond the folder of a case, or take long.
SLOW = ("--watch", "--live", "--wait", "--pool", "--jobs", "--per-gpu", "--lease", "--idle", "--download", "--device")


def whole(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A whole command on a small folder, as a person types it."""
    from typer.testing import CliRunner

    from sslcurr.cli.app import app

    words, _, arguments = line(rng)
    while words in (("slurm",), ("work",), ("run",)) or any(each in SLOW for each in arguments):
        words, _, arguments = line(rng)
    for label in ("a", "b"):
        (folder / "set" / label).mkdir(parents=True)
        for number in range(8):
            (folder / "set" / label / f"{number}.png").write_bytes(pictures()["abcd"[number % 4] + ".png"])
    known = {
        opt for command_words, command in commands() if command_words == words for p in command.params for opt in p.opts
    }
    if "--dataset" in known and "--dataset" not in arguments:
        arguments += ["--dataset", str(folder / "set")]
    if "--dry-run" in known and "--dry-run" not in arguments and words != ("runs", "remove"):
        arguments += ["--dry-run"]
    elif "--epochs" in known:
        arguments += ["--epochs", "1"]
    if "--backbone" in known and "--backbone" not in arguments:
        arguments += ["--backbone", "test_resnet"]

    def run() -> None:
        before = os.getcwd()
        os.chdir(folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = CliRunner().invoke(app, [*words, *arguments], env={"SSLCURR_RUNS": str(folder / "runs")})
        finally:
            os.chdir(before)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        expect(result.exit_code in (0, 1, 2, 3), f"exit code {result.exit_code}")
        if result.exit_code == 1:
            expect("error:" in result.stderr, f"no error: {result.stderr[-200:]}")
        expect("Traceback" not in result.stderr, "a traceback")
        expect("\x1b" not in result.stderr, "an escape sequence")

    return run


Kind = Callable[[random.Random, Path], Callable[[], None]]
# kind -> how many of a hundred cases.
KINDS: dict[Kind, int] = {
    image: 20,
    dicom: 14,
    table: 10,
    tree: 4,
    checkpoint: 10,
    record: 12,
    run_record: 4,
    experiment: 4,
    handover: 4,
    setting: 12,
    option: 4,
    whole: 2,
}


def case(seed: int, number: int, only: str | None = None) -> tuple[str, random.Random]:
    """The kind of a case, and its random numbers."""
    rng = random.Random(f"{seed} {number}")
    kind = rng.choices(list(KINDS), weights=list(KINDS.values()))[0]
    return only or kind.__name__, rng


def carry_out(seed: int, number: int, folder: Path, only: str | None = None) -> str:
    """`right` or `refused`; anything else that a case raises is a failure.

    Args:
        seed, number: of the case.
        folder: for its files, which is emptied first.
        only: its kind, where that is not left to the random numbers.
    """
    from sslcurr.data.decode.image import BrokenImage
    from sslcurr.errors import SslcurrError

    name, rng = case(seed, number, only)
    kind = next(each for each in KINDS if each.__name__ == name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    work = kind(rng, folder)
    try:
        work()
    except SslcurrError as error:
        expect(bool(str(error)), "no reason")
        return "refused"
    except BrokenImage as error:
        expect(bool(str(error)), "no reason")
        return "refused"
    return "right"
