"""What every benchmark writes down beside its results: date, device, versions, and the command that made them."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write(
    path: Path | None, what: str, results: Any, *, packages: Sequence[str], device: str = "cpu", **settings: Any
) -> None:
    """Write a result with its circumstances as JSON; nothing where no path is given."""
    if path is None:
        return
    document = {
        "what": what,
        "date": datetime.date.today().isoformat(),
        "device": _name_of(device),
        "cores": os.cpu_count(),
        "cpu_flags": cpu_flags(),
        **settings,
        "versions": {name: importlib.metadata.version(name) for name in packages}
        | {"python": platform.python_version()},
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "results": results,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


# What decides how fast a CPU trains.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "sha_ni")


def cpu_flags() -> list[str]:
    """Those of `FLAGS` that this CPU has; none where Linux does not say."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in FLAGS if flag in flags]


def _name_of(device: str) -> str:
    if device != "cuda":
        return f"CPU, {platform.processor() or platform.machine()}"
    import torch

    return torch.cuda.get_device_name()


def ratio(values: Sequence[float]) -> dict[str, float]:
    """Median and spread of ratios over rounds."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "n": len(values),
    }


def shown(found: dict[str, Any]) -> str:
    """A ratio with its extremes or quartiles."""
    low, high = found["quartiles"] if "quartiles" in found else (found["min"], found["max"])
    return f"{found['median']:.2f} ({low:.2f} to {high:.2f})"


def quartiles(values: Sequence[float]) -> dict[str, Any]:
    """Median of ratios of many steps, and where the middle half of them lies."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)], "n": len(values)}
