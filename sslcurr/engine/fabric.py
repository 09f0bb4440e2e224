"""Lightning Fabric without what it imports for nothing.

It imports torchmetrics, four seconds of it, to compare a version number that none of what is used here asks for.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

__all__ = ["Fabric"]

if TYPE_CHECKING or "torchmetrics" in sys.modules:
    from lightning_fabric import Fabric
else:
    # An empty module in its place meanwhile; its version is then read from the package's metadata.
    sys.modules["torchmetrics"] = ModuleType("torchmetrics")
    try:
        from lightning_fabric import Fabric
    finally:
        del sys.modules["torchmetrics"]
