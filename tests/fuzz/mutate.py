"""Changes to the bytes of files, and values that nobody expects."""

from __future__ import annotations

import random
import string
from typing import Any

EXTREMES = (
    b"\x00" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x01",
    b"\x80\x00\x00\x00",
)
TEXTS = (
    *(
        "",
        " ",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "-1",
        "0",
        "-0",
        "1",
        "2",
        "0.5",
        "1e309",
        "1e-400",
        "1e5",
        "9" * 400,
        "0x10",
    ),
    *(
        "1_000",
        "1,2",
        "1,2,3",
        "0.2,1",
        "1,0",
        ",",
        "[]",
        "{}",
        "()",
        "None",
        "null",
        "True",
        "false",
        "auto",
        "search",
    ),
    *(
        "é",
        "ß",
        "\u202e",
        "a" * 300,
        "../..",
        "/",
        "/dev/null",
        "~",
        "--help",
        "-",
        "=",
        "a=b",
        "[red]x[/red]",
        "\t",
        "1 2",
    ),
    *("\x1b[31m", "%s", "$HOME", "`x`", "'", '"', "\\", "\n", "last", "last~99", "random", "imagenet", "none"),
)


def bytes_of(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A file with a few changes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        at = rng.randrange(len(data))
        if rng.random() < 0.5:  # headers matter most
            at = min(at, rng.randrange(1, 200))
        at = min(at, len(data) - 1)
        match rng.randrange(8):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + 8] = bytes(rng.randrange(256) for _ in range(8))
            case 2:
                del data[rng.randrange(len(data)) :]
            case 3:
                data[at : at + 4] = rng.choice(EXTREMES)
            case 4:
                end = at + rng.randrange(1, 64)
                data[at:at] = data[at:end]
            case 5:
                del data[at : at + rng.randrange(1, 64)]
            case 6:
                data[at : at + rng.randrange(1, 400)] = bytes(rng.randrange(1, 400))
            case 7:
                other = rng.choice(others)
                data[at:] = other[min(at, len(other)) :]
    return bytes(data)


def text(rng: random.Random) -> str:
    """A text that nobody expects."""
    if rng.random() < 0.8:
        return rng.choice(TEXTS)
    letters = string.ascii_letters + string.digits + "._-=,/ \u00e9\u4e2d"
    return "".join(rng.choice(letters) for _ in range(rng.randrange(1, 30)))


def value(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value that nobody expects."""
    match rng.randrange(9 if depth < 3 else 6):
        case 0:
            return None
        case 1:
            return rng.choice((True, False))
        case 2:
            return rng.choice((0, 1, -1, 2**63, -(2**70), 10**30))
        case 3:
            return rng.choice((0.5, -1.5, 1e308, 1e-320))
        case 4 | 5:
            return text(rng)
        case 6:
            return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
        case 7:
            return {text(rng): value(rng, depth + 1) for _ in range(rng.randrange(4))}
        case _:
            found: Any = []
            for _ in range(rng.choice((3, 50))):
                found = [found]
            return found


def document(plain: Any, rng: random.Random) -> Any:
    """A JSON document with one of its values replaced, taken out, or put in."""
    if isinstance(plain, dict) and plain and rng.random() < 0.85:
        found = dict(plain)
        name = rng.choice(list(found))
        match rng.randrange(6):
            case 0:
                del found[name]
            case 1:
                found[text(rng)] = value(rng)
            case 2:
                found[name] = value(rng)
            case _:
                found[name] = document(found[name], rng)
        return found
    if isinstance(plain, list) and plain and rng.random() < 0.85:
        found_list = list(plain)
        at = rng.randrange(len(found_list))
        match rng.randrange(5):
            case 0:
                del found_list[at]
            case 1:
                found_list.insert(at, value(rng))
            case _:
                found_list[at] = document(found_list[at], rng)
        return found_list
    return value(rng)
