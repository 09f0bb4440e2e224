"""sslcurr: curricula of self-supervised pretext tasks for image backbones where labels are scarce.

The public names are imported when they are first used: `import sslcurr` loads neither torch nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sslcurr.version import __version__

if TYPE_CHECKING:
    from sslcurr.analysis.results.document import Document
    from sslcurr.analysis.results.kinds import load_result
    from sslcurr.api.lab import Lab
    from sslcurr.backbones.checkpoint import load_backbone
    from sslcurr.data.sources.source import Source
    from sslcurr.errors import (
        CheckpointError,
        DataError,
        Interrupted,
        SpecError,
        SslcurrError,
        StoreError,
        TrainingError,
    )
    from sslcurr.progress import Reporter
    from sslcurr.tasks.base import Task

# Name -> the module that it is imported from.
PUBLIC = {
    "CheckpointError": "sslcurr.errors",
    "DataError": "sslcurr.errors",
    "Document": "sslcurr.analysis.results.document",
    "Interrupted": "sslcurr.errors",
    "Lab": "sslcurr.api.lab",
    "Reporter": "sslcurr.progress",
    "Source": "sslcurr.data.sources.source",
    "SpecError": "sslcurr.errors",
    "SslcurrError": "sslcurr.errors",
    "StoreError": "sslcurr.errors",
    "Task": "sslcurr.tasks.base",
    "TrainingError": "sslcurr.errors",
    "load_backbone": "sslcurr.backbones.checkpoint",
    "load_result": "sslcurr.analysis.results.kinds",
}

__all__ = [
    "CheckpointError",
    "DataError",
    "Document",
    "Interrupted",
    "Lab",
    "Reporter",
    "Source",
    "SpecError",
    "SslcurrError",
    "StoreError",
    "Task",
    "TrainingError",
    "__version__",
    "load_backbone",
    "load_result",
]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'sslcurr' has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
