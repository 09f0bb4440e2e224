"""Where and how a stage runs: it is no part of a stage's identity."""

from __future__ import annotations

from dataclasses import dataclass

from sslcurr.errors import SpecError, did_you_mean
from sslcurr.spec.ranges import in_range

# What can be told of trainings and results beside the store.
TRACKERS = ("tensorboard", "mlflow", "wandb")
# Ways in which a GPU may train faster; see `sslcurr.engine.gpu`.
GPU_WAYS = ("channels-last", "ahead", "graphs", "compiled-views")


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Where and how a stage runs: it is no part of the stage's identity.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        save_minutes: longest time between two saves within an epoch.
        save_steps: save after each so many steps, whatever it costs; 0 leaves it to the clock.
        log_steps: steps between two rows of `metrics.csv`; 0 chooses about 50 an epoch, on a GPU not oftener than every
            eighth step: the host waits for the device to read them.
        tensorboard: the same as the tracker of that name.
        tracker: of `TRACKERS`, which get the curves of stages and what commands found.
        recompute: compute what lies within the backbone's stages again for the backward pass instead of keeping it:
            less memory, more time.
        profile: a folder for traces of trainings; empty for none.
        gpu: of `GPU_WAYS`, or `none`; `auto` is what was measured to be best on this GPU. On a CPU it does nothing.
        threads: CPU threads that compute; 0 is as torch chooses. Bits of results depend on it.
        devices: processes that train a stage together, one on each GPU: a number, `all` GPUs, or `srun`: those that
            srun has started. torchrun says itself how many there are.
    """

    device: str = "auto"
    save_minutes: float = 5.0
    save_steps: int = 0
    log_steps: int = 0
    tensorboard: bool = False
    recompute: bool = False
    threads: int = 0
    tracker: tuple[str, ...] = ()
    devices: int | str = 1
    profile: str = ""
    gpu: tuple[str, ...] = ("auto",)

    def __post_init__(self) -> None:
        if self.devices not in ("all", "srun") and (not isinstance(self.devices, int) or self.devices < 1):
            raise SpecError(
                f"--devices must be a whole number from 1 on, all or srun, got {self.devices!r}", "give --devices 2"
            )
        if self.devices != 1 and ":" in self.device:
            raise SpecError(f"--devices {self.devices} is not for --device {self.device}", "give --device cuda or auto")
        for name in self.gpu:
            if name not in (*GPU_WAYS, "auto", "none"):
                raise SpecError(f"--gpu cannot be {name!r}", did_you_mean(name, (*GPU_WAYS, "auto", "none")))
        if len(self.gpu) > 1 and {"auto", "none"} & set(self.gpu):
            raise SpecError(f"--gpu {' --gpu '.join(self.gpu)} contradicts itself", "name ways, or auto or none alone")
        for name in self.tracker:
            if name not in TRACKERS:
                raise SpecError(f"unknown tracker {name!r}", did_you_mean(name, TRACKERS))

    @property
    def trackers(self) -> tuple[str, ...]:
        """All trackers that are asked for."""
        return tuple(dict.fromkeys((*self.tracker, *(["tensorboard"] if self.tensorboard else []))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooling:
    """How many stages and analyses run at once, and where: it is no part of any identity.

    Attributes:
        jobs: worker processes; `auto` is one for each GPU, else one for every two cores, and on a Ray cluster as many
            as it has room for. None is `auto` there, and 1 elsewhere.
        per_gpu: workers that share one GPU, each with its part of the memory.
        job_pool: `here` (processes of this machine), `shared` (this process, beside others on the same store), `ray`,
            or one of another package.
        ray_address: of a Ray cluster, such as `auto`; None starts one on this machine.
        lease: minutes without a sign of life after which another process's work is taken over.
    """

    jobs: int | str | None = None
    per_gpu: int = 1
    job_pool: str = "here"
    ray_address: str | None = None
    lease: float = 10.0

    def __post_init__(self) -> None:
        if self.jobs not in (None, "auto") and (not isinstance(self.jobs, int) or self.jobs < 1):
            raise SpecError(f"--jobs must be a whole number from 1 on, or auto, got {self.jobs!r}", "give --jobs 2")
        if self.ray_address is not None and self.job_pool != "ray":
            raise SpecError(f"--ray-address is not for --pool {self.job_pool}", "give --pool ray too")
        in_range("--per-gpu", self.per_gpu, 1)
        if self.job_pool == "shared" and (self.jobs not in (None, 1) or self.per_gpu > 1):
            raise SpecError(
                "--pool shared does one job after the other in this process",
                "leave out --jobs and --per-gpu, and start sslcurr work with them beside it",
            )
        in_range("--lease", self.lease, 0, above=True)
