"""Where and how a stage runs: it is no part of a stage's identity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Where and how a stage runs: it is no part of the stage's identity.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        save_minutes: longest time between two saves within an epoch.
        save_steps: save after each so many steps, whatever it costs; 0 leaves it to the clock.
        log_steps: steps between two rows of `metrics.csv`; 0 chooses about 50 an epoch, on a GPU not oftener than every
            eighth step: the host waits for the device to read them.
        tensorboard: also write TensorBoard events into the stage's folder.
        recompute: compute what lies within the backbone's stages again for the backward pass instead of keeping it:
            less memory, more time.
        threads: CPU threads that compute; 0 is as torch chooses. Bits of results depend on it.
    """

    device: str = "auto"
    save_minutes: float = 5.0
    save_steps: int = 0
    log_steps: int = 0
    tensorboard: bool = False
    recompute: bool = False
    threads: int = 0
