"""Making a pack: decoding images side by side, going on after a kill, telling what is broken."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sslcurr.claims import Claim, described_owner, waited_claim
from sslcurr.data.blocks import BLOCKS, checksums
from sslcurr.data.decode import image as decode_image
from sslcurr.data.decode import read
from sslcurr.data.decode.image import DECODER
from sslcurr.data.decode.parallel import Crashed, Processes, in_threads
from sslcurr.data.pack import PACK_FORMAT, Pack, about_pack, load_pack
from sslcurr.data.rows import ImageRow, noted, read_row, row_of_array
from sslcurr.data.sources.source import Source
from sslcurr.data.targets import encoded
from sslcurr.errors import DataError, StoreError
from sslcurr.files import write_array, write_whole
from sslcurr.integrity import sound, write_hashes
from sslcurr.spec.target import CLASSES
from sslcurr.wording import and_more

FLUSH_ROWS = 512


FLUSH_SECONDS = 2.0


COPY_BYTES = 2**26


NUM_HEADERS = 64


ProgressCallback = Callable[[int, int], None]


def open_pack(
    source: Source,
    size: int,
    root: Path,
    *,
    workers: int = 0,
    skip_broken: bool = False,
    progress: ProgressCallback | None = None,
    use: Callable[[Path], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> Pack:
    """The pack of a source at `size` pixels, found under the folder `root` or made there.

    Files that changed since (by size or time) make a new pack, which takes over what it can from older ones. A pack
    that another process is making is waited for. `workers` threads decode, one a core for 0; they do not change the
    result.
    `progress` is called with the number of images done and the number of all, from the calling thread; `use` with the
    folder, before anything is looked for there; `note` with whom it waits for.

    Broken files raise DataError, after all have been tried, and the source's faults at once, unless `skip_broken`
    leaves them out (they are listed in `broken.txt` in the pack's folder). DataError is also raised for files that
    vanish or change meanwhile or may not be read, and before anything is decoded for a disk without the room. What is
    done by then is kept for the next call.
    """
    if size < 1:
        raise DataError(f"the pack size must be at least 1 pixel, got {size}")
    if not source.names:
        raise DataError(f"the data set {source.name} has no images")
    if source.faults and not skip_broken:
        fault = source.faults[0]
        raise DataError(
            f"{source.name}: {fault.name} {fault.reason}" + and_more(len(source.faults)),
            "sslcurr data check lists them all; --skip-broken goes on without them",
        )
    files = _Files.of(source)
    slug = re.sub(r"[^a-z0-9]+", "-", source.name.lower()).strip("-")[:40] or "pack"
    folder = root / f"{slug}-{files.key(size)[:12]}"
    use(folder)
    if not (folder / "pack.json").is_file():
        waiting = lambda: note(f"waiting for the pack of {source.name}: {described_owner(folder)} is at it")  # noqa: E731
        with waited_claim(folder, waiting) as claim:
            if not (folder / "pack.json").is_file():
                _make_pack(files, size, claim, workers or os.cpu_count() or 1, skip_broken, progress)
    pack = load_pack(folder)
    if pack.skipped and not skip_broken:
        lines = sound(folder / "broken.txt").read_text(encoding="utf-8").splitlines()
        name, _, reason = lines[0].partition("\t")
        raise _broken_error(name, reason, len(lines))
    return pack


@dataclass(frozen=True)
class _Files:
    """A source with the size in bytes and the time of each of its files; both are 0 for embedded images."""

    source: Source
    stats: list[tuple[int, int]]

    @classmethod
    def of(cls, source: Source) -> _Files:
        if source.root is None:
            return cls(source, [(0, 0)] * len(source.names))
        stats = []
        for path in source.paths():
            try:
                stat = os.stat(path)
            except FileNotFoundError as error:
                raise DataError(f"{path} is not there any more", "run the command again") from error
            except OSError:  # such as a link to itself: reading it says what is wrong with it
                stats.append((0, 0))
                continue
            stats.append((stat.st_size, stat.st_mtime_ns))
        return cls(source, stats)

    @property
    def place(self) -> str:
        """Where the files are, so that packs of the same folder find each other."""
        return str(self.source.root.resolve()) if self.source.root is not None else f"embedded:{self.source.name}"

    def key(self, size: int) -> str:
        """Names the pack: the hash of all that could change it. Not of `skip_broken`: see `_Part.fill`."""
        source = self.source
        embedded = hashlib.sha256(source.arrays.tobytes()).hexdigest() if source.arrays is not None else ""
        about = [PACK_FORMAT, size, source.name, self.place, source.classes, embedded]
        if source.target != CLASSES.name:
            about.append({"target": source.target})
        if self.source.arrays is None and any(map(decode_image.may_be_revised, self.suffixes())):
            about.append({"decoder": DECODER})
        lists = [source.names, self.stats, source.labels, source.groups, source.splits]
        return hashlib.sha256(json.dumps([about, lists]).encode()).hexdigest()

    def suffixes(self) -> set[str]:
        """The endings of the files, as `os.path.splitext` gives them, which takes longer."""
        found = set()
        for path in self.source.files():
            start = path.rfind("/") + 1
            dot = path.rfind(".", start)
            found.add(path[dot:] if dot > start and path[start] != "." else os.path.splitext(path)[1])
        return found

    def may_be_revised(self, i: int) -> bool:
        """Whether image i may have got other pixels from an earlier version."""
        return self.source.arrays is None and decode_image.may_be_revised(os.path.splitext(self.source.place(i)[0])[1])

    def guess_channels(self) -> int:
        """1 if the headers of a few images say grey, else 3. A first guess, to save room: see `_Part.widen`."""
        if self.source.arrays is not None:
            return 1 if self.source.arrays.ndim == 3 or self.source.arrays.shape[3] == 1 else 3
        some = np.linspace(0, len(self.source.names) - 1, min(NUM_HEADERS, len(self.source.names))).round().astype(int)
        return 1 if all(read.has_grey_header(self.source.place(i)[0]) for i in some.tolist()) else 3

    def decode(self, i: int, size: int, processes: Processes) -> tuple[np.ndarray, ImageRow]:
        """Image i, uint8 [size, size, 1 or 3], and what is noted of it. Raises read.BrokenImage, DataError, Crashed."""
        if self.source.arrays is not None:
            return row_of_array(self.source.arrays[i], size)
        path, frame = self.source.place(i)
        return processes.read(path, partial(read_row, path, frame, self.stats[i], size))

    def num_dicom(self, rows: Sequence[int]) -> int:
        """How many of these images may be DICOM files."""
        return 0 if self.source.root is None else sum(read.may_be_dicom(self.source.place(i)[0]) for i in rows)


def _broken_error(name: str, reason: str, count: int) -> DataError:
    return DataError(
        f"{name} cannot be decoded: {reason}{and_more(count)}", "--skip-broken goes on without such images"
    )


def _make_pack(
    files: _Files, size: int, claim: Claim, workers: int, skip_broken: bool, progress: ProgressCallback | None
) -> None:
    """Makes the pack, or goes on making it, and publishes it."""
    part = claim.part
    if not (part / "pack.json").is_file():
        with _Part.opened(files, size, part) as opened:
            opened.fill(workers, skip_broken, progress)
            opened.finish()
    # From here on nothing can fail but the machine, and then it is done again.
    about = json.loads((part / "pack.json").read_text(encoding="utf-8"))
    for name in {"rows.jsonl", "part.json", "pixels.bin"} - {about["pixels"]}:
        (part / name).unlink(missing_ok=True)
    write_hashes(part, leave_out=(about["pixels"],))
    claim.publish()


class _InColour(Exception):
    """An image in colour, in a part with one channel."""


class _Part:
    """A pack in the making."""

    def __init__(self, files: _Files, size: int, folder: Path) -> None:
        self.files = files
        self.folder = folder
        # The length of the file says how many channels it has, whenever it was widened.
        channels = (folder / "pixels.bin").stat().st_size // (len(files.source.names) * size * size)
        self.shape = (channels, size, size)
        self.broken: dict[int, str] = {}
        self.pixels = os.open(folder / "pixels.bin", os.O_RDWR)
        self.rows = self._read_rows()
        self.fresh: list[tuple[int, ImageRow]] = []
        self.flushed = time.monotonic()
        self.lines = (folder / "rows.jsonl").open("ab")

    @classmethod
    def opened(cls, files: _Files, size: int, folder: Path) -> _Part:
        """Takes up the part in `folder`, or starts it; DataError, and nothing left, if the disk has not the room."""
        if (folder / "part.json").is_file() and cls._is_usable(files, size, folder):
            return cls(files, size, folder)
        channels = files.guess_channels()
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        try:
            _reserve(folder / "pixels.bin", len(files.source.names) * channels * size * size)
            (folder / "rows.jsonl").touch()
            _write_json(folder / "part.json", {"format": PACK_FORMAT})
        except (OSError, DataError):
            shutil.rmtree(folder)
            raise
        return cls(files, size, folder)

    @staticmethod
    def _is_usable(files: _Files, size: int, folder: Path) -> bool:
        """Whether the files of a part have the lengths that they must have."""
        pixels = folder / "pixels.bin"
        area = len(files.source.names) * size * size
        return pixels.is_file() and pixels.stat().st_size in (area, 3 * area) and (folder / "rows.jsonl").is_file()

    @property
    def row_bytes(self) -> int:
        """Bytes of an image."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def widen(self) -> None:
        """Makes three channels of one: an image in colour was found after the first headers were all grey."""
        self._flush()
        narrow, num_images = self.row_bytes, len(self.files.source.names)
        wide = self.folder / "wide.bin"
        wide.unlink(missing_ok=True)
        _reserve(wide, num_images * 3 * narrow)
        with wide.open("r+b") as file:
            for i in self.rows:
                _write_at(file.fileno(), i * 3 * narrow, os.pread(self.pixels, narrow, i * narrow) * 3)
            os.fsync(file.fileno())
        os.replace(wide, self.folder / "pixels.bin")
        before, self.pixels = self.pixels, os.open(self.folder / "pixels.bin", os.O_RDWR)
        os.close(before)
        self.shape = (3, *self.shape[1:])

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._flush()
        finally:
            os.close(self.pixels)
            self.lines.close()

    def _read_rows(self) -> dict[int, ImageRow]:
        """The images that are done. A last line that was torn by a kill is cut off, so that the next starts its own."""
        rows: dict[int, ImageRow] = {}
        path = self.folder / "rows.jsonl"
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for line in content[:whole].splitlines():
            found = _read_line(line)
            if found is not None:  # not of a version that kept no checksums, and not damaged
                i, row, crc = found
                rows.pop(i, None)
                if self._crc(i, row.is_grey) == crc:
                    rows[i] = row
        os.truncate(path, whole)
        return rows

    def _crc(self, i: int, is_grey: bool) -> int:
        """The checksum of the pixels of image i, as they are in the file; a grey one has it in any number of channels.

        It is -1 where the channels of a grey image differ.
        """
        data = os.pread(self.pixels, self.row_bytes, i * self.row_bytes)
        if is_grey:
            plane = data[: self.row_bytes // self.shape[0]]
            if data != plane * self.shape[0]:
                return -1
            data = plane
        return zlib.crc32(data)

    def fill(self, workers: int, skip_broken: bool, progress: ProgressCallback | None) -> None:
        """Decodes what is not there yet; DataError if files are broken, unless they may be skipped.

        Broken files get no line and are tried again by the next call, so a part is the same with and without
        `skip_broken`, and the next call goes on from where the first ended.
        """
        num_images = len(self.files.source.names)

        def report() -> None:
            if progress is not None:
                progress(len(self.rows) + len(self.broken), num_images)

        report()
        while True:
            try:
                for i, row in self._take_over():
                    self._note(i, row)
                    report()
                todo = [i for i in range(num_images) if i not in self.rows and i not in self.broken]
                # `closing`, for a traceback would keep the generator, and its threads, beyond the end of the files.
                with (
                    read.pillow_without_warnings(),
                    Processes.for_dicom(self.files.num_dicom(todo), workers) as processes,
                    closing(in_threads(partial(self._decode, processes), todo, workers)) as results,
                ):
                    for i, result in results:
                        if isinstance(result, ImageRow):
                            self._note(i, result)
                        else:
                            self.broken[i] = result
                        report()
                break
            except _InColour:
                self.widen()
        self._flush()
        if self.broken and (not skip_broken or not self.rows):
            first = min(self.broken)
            error = _broken_error(self.files.source.names[first], self.broken[first], len(self.broken))
            if not self.rows:
                error.hint = "not one image of the data set can be decoded"
            raise error

    def _decode(self, processes: Processes, i: int) -> ImageRow | str:
        """Decodes image i and writes its pixels; the reason if it is broken. Runs in a thread."""
        try:
            image, row = self.files.decode(i, self.shape[1], processes)
        except (decode_image.BrokenImage, Crashed) as error:
            return str(error)
        self._write(i, image.transpose(2, 0, 1), row.is_grey)
        return row

    def _write(self, i: int, image: np.ndarray, is_grey: bool) -> None:
        """Writes uint8 [C, S, S] as row i, in the number of channels that the part has; _InColour if they are few."""
        if len(image) != self.shape[0]:
            if not is_grey:
                raise _InColour
            image = np.broadcast_to(image[:1], self.shape)
        _write_at(self.pixels, i * self.row_bytes, image.tobytes())

    def _note(self, i: int, row: ImageRow) -> None:
        self.rows[i] = row
        self.fresh.append((i, row))
        if len(self.fresh) >= FLUSH_ROWS or time.monotonic() - self.flushed > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        """Pixels first, then the lines that vouch for them."""
        if self.fresh:
            os.fsync(self.pixels)
            for i, row in self.fresh:
                self.lines.write(_line(i, row, self._crc(i, row.is_grey)))
            self.lines.flush()
            os.fsync(self.lines.fileno())
        # Last, so that Ctrl-C in between loses nothing: a line that is there twice does no harm.
        self.fresh = []
        self.flushed = time.monotonic()

    def _take_over(self) -> Iterator[tuple[int, ImageRow]]:
        """Copies images whose files have not changed from older packs of the same place and size."""
        if self.files.source.root is None:
            return
        for older in sorted(self.folder.parent.glob("*/pack.json")):
            if older.parent.suffix == ".part":
                continue
            try:
                pack, about = load_pack(older.parent), about_pack(older.parent)
            except (DataError, StoreError):
                continue  # a damaged one, or one of another version; the files themselves are there
            if (about.get("place"), pack.size) != (self.files.place, self.shape[1]):
                continue
            with np.load(older.parent / "rows.npz", allow_pickle=False) as arrays:
                if "pixels" not in arrays:
                    continue  # of a version that kept no digests of the pixels
                stats, is_grey, sha256, pixels = (arrays[key] for key in ("stats", "is_grey", "sha256", "pixels"))
            place_of = {name: place for place, name in enumerate(pack.names)}
            for i, (name, stat) in enumerate(zip(self.files.source.names, self.files.stats, strict=True)):
                place = place_of.get(name)
                if i in self.rows or place is None or tuple(stats[place].tolist()) != stat:
                    continue
                if about.get("decoder", 1) < DECODER and self.files.may_be_revised(i):
                    continue
                grey = bool(is_grey[place])
                try:
                    self._write(i, pack.images[place], grey)
                except DataError:
                    continue  # it was damaged
                height, width = int(pack.heights[place]), int(pack.widths[place])
                looked = noted(pack.images[place].transpose(1, 2, 0)) if pack.traits is None else pack.traits[place]
                known, traits = pixels[place].tobytes().hex(), [int(value) for value in looked]
                yield i, ImageRow(height, width, grey, sha256[place].tobytes().hex(), known, traits)

    def finish(self) -> None:
        """Leaves out broken images and needless channels, and writes all that belongs to a whole pack."""
        source = self.files.source
        kept = sorted(self.rows)
        rows = [self.rows[i] for i in kept]
        channels = 1 if all(row.is_grey for row in rows) else 3
        pixels = "pixels.bin"
        if len(kept) < len(source.names) or channels < self.shape[0]:
            pixels = "compact.bin"
            self._compact(self.folder / pixels, kept, channels)
        labels = [source.labels[i] for i in kept]
        groups = [source.groups[i] for i in kept] if source.groups is not None else None
        targets = encoded(source.target, source.classes, labels, groups)
        splits = [source.splits[i] for i in kept] if source.splits is not None else None
        arrays = {
            "heights": np.array([row.height for row in rows], dtype=np.int32),
            "widths": np.array([row.width for row in rows], dtype=np.int32),
            "labels": targets.labels,
            "is_grey": np.array([row.is_grey for row in rows]),
            "sha256": np.array([list(bytes.fromhex(row.sha256)) for row in rows], dtype=np.uint8),
            "pixels": np.array([list(bytes.fromhex(row.pixels)) for row in rows], dtype=np.uint8),
            "stats": np.array([self.files.stats[i] for i in kept], dtype=np.int64),
            "traits": np.array([row.traits for row in rows], dtype=np.int64),
        }
        if targets.values is not None:
            arrays["values"] = targets.values
        if groups is not None:
            arrays["groups"] = _codes(groups)
        if splits is not None:
            arrays["splits"] = np.array(splits, dtype="<U5")
        names = [source.names[i] for i in kept]
        with (self.folder / "rows.npz").open("wb") as file:
            # The stubs take the first array for an option.
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        _write_json(self.folder / "names.json", names)
        shape = (len(kept), channels, *self.shape[1:])
        sums = checksums(np.memmap(self.folder / pixels, dtype=np.uint8, mode="r", shape=shape))
        write_array(self.folder / BLOCKS, sums)
        broken = [(fault.name, fault.reason) for fault in source.faults]
        broken += [(source.names[i], reason) for i, reason in sorted(self.broken.items())]
        # A line each: names of files may hold tabs and line ends.
        lines = ("\t".join(" ".join(text.split()) for text in pair) + "\n" for pair in broken)
        write_whole(self.folder / "broken.txt", "".join(lines).encode())
        about = {
            "format": PACK_FORMAT,
            "decoder": DECODER,
            "name": source.name,
            "place": self.files.place,
            "size": self.shape[1],
            "channels": channels,
            "num_images": len(kept),
            "skipped": len(self.broken) + len(source.faults),
            "classes": source.classes,
            "fingerprint": _fingerprint(names, rows, labels, groups, splits, source),
            "pixels": pixels,
        }
        if source.target != CLASSES.name:
            about |= {"target": source.target, "strata": targets.names}
        _write_json(self.folder / "pack.json", about)

    def _compact(self, path: Path, kept: Sequence[int], channels: int) -> None:
        """Writes the kept rows, in order, with that many channels. OSError if the disk has not the room."""
        num_rows = max(1, COPY_BYTES // self.row_bytes)
        area = self.shape[1] * self.shape[2]
        path.unlink(missing_ok=True)
        try:
            _reserve(path, len(kept) * channels * area)
        except (OSError, DataError):
            path.unlink(missing_ok=True)
            raise
        everything = np.memmap(
            self.folder / "pixels.bin", dtype=np.uint8, mode="r", shape=(len(self.files.source.names), *self.shape)
        )
        with path.open("r+b") as file:
            for start in range(0, len(kept), num_rows):
                file.write(everything[kept[start : start + num_rows], :channels].tobytes())
            file.flush()
            os.fsync(file.fileno())


def _line(i: int, row: ImageRow, crc: int) -> bytes:
    """Image i as a line of `rows.jsonl`, with the checksum of its pixels and one of the line."""
    text = json.dumps([i, *astuple(row), crc]).encode()
    return text + f" {zlib.crc32(text):08x}\n".encode()


def _read_line(line: bytes) -> tuple[int, ImageRow, int] | None:
    """The inverse of `_line`; None for a line that is none."""
    text, _, digest = line.rpartition(b" ")
    if digest != f"{zlib.crc32(text):08x}".encode():
        return None
    i, *row, crc = json.loads(text)
    return i, ImageRow(*row), crc


def _codes(groups: Sequence[str]) -> np.ndarray:
    """Codes of groups by sorted name, int64 [N]; each empty name is a group of its own, after the others."""
    code_of = {name: code for code, name in enumerate(sorted({group for group in groups if group}))}
    codes = []
    next_code = len(code_of)
    for group in groups:
        if group:
            codes.append(code_of[group])
        else:
            codes.append(next_code)
            next_code += 1
    return np.array(codes, dtype=np.int64)


def _fingerprint(
    names: Sequence[str],
    rows: Sequence[ImageRow],
    labels: Sequence[str | None],
    groups: Sequence[str] | None,
    splits: Sequence[str] | None,
    source: Source,
) -> str:
    """sha256 over the contents, in the order of the names; no path, time or pack size."""
    kind = [] if source.target == CLASSES.name else [source.target]
    digest = hashlib.sha256(json.dumps([PACK_FORMAT, *kind, list(source.classes)]).encode())
    for i, (name, row, label) in enumerate(zip(names, rows, labels, strict=True)):
        group = groups[i] if groups is not None else None
        split = splits[i] if splits is not None else None
        digest.update(json.dumps([name, row.sha256, label, group, split]).encode() + b"\n")
    return digest.hexdigest()


def _reserve(path: Path, num_bytes: int) -> None:
    """Makes a file of that length whose blocks are its own: a full disk is a DataError now, not a SIGBUS later."""
    free = shutil.disk_usage(path.parent).free
    if num_bytes > free:
        raise DataError(
            f"the pack needs {_megabytes(num_bytes)} in {path.parent.parent}, and {_megabytes(free)} are free",
            "free some space, give --runs on another disk, or a smaller --image-size",
        )
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, num_bytes)
        else:  # macOS
            os.ftruncate(descriptor, num_bytes)
    finally:
        os.close(descriptor)


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.2f} MB"


def _write_at(descriptor: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _write_json(path: Path, content: Any) -> None:
    write_whole(path, json.dumps(content).encode())
