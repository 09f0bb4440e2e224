"""Where the time of a training goes: seconds of each phase of a step, and a trace of a few steps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sslcurr.files import writable_folder, write_whole
from sslcurr.progress import PHASES, Relay, Reporter
from sslcurr.spec.runtime import Runtime
from sslcurr.spec.stage import StageSpec

# Steps before the trace, of which the first is no measure of the others, and steps of the trace.
UNTIMED, WARM, TRACED = 1, 2, 6


@contextmanager
def profiled(runtime: Runtime, key: str, report: Reporter) -> Iterator[Reporter]:
    """A reporter that times the training that it hears of, where `runtime.profile` names a folder.

    At the end it says where the time went. `FOLDER/KEY.trace.json` is for chrome://tracing or https://ui.perfetto.dev.
    On a GPU each phase is waited for, so that its time is its own; the steps are then slower than without.

    Args:
        runtime: of the training.
        key: of the stage.
        report: hears of everything too.
    """
    if not runtime.profile:
        yield report
        return
    watching = Profiled(report, writable_folder(Path(runtime.profile), "--profile") / f"{key}.trace.json")
    try:
        yield watching
    finally:
        watching.end()


class Profiled(Relay):
    """Times the phases of a training.

    Attributes:
        seconds: of each phase, without those of the first step.
        steps: that were timed.
    """

    def __init__(self, report: Reporter, path: Path) -> None:
        super().__init__(report)
        self.path = path
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.steps = 0
        self.title = ""
        self._began = 0.0
        self._is_gpu = False
        self._trace: Any = None

    def stage_begins(self, spec: StageSpec, key: str, total_steps: int, step: int, settings: Mapping[str, str]) -> None:
        """Begin to trace."""
        super().stage_begins(spec, key, total_steps, step, settings)
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it says on stderr that there is no GPU
        from torch.profiler import ProfilerActivity, profile, schedule

        self.title = spec.task
        self._is_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        self.steps = -UNTIMED
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._is_gpu else [])]
        when = schedule(wait=UNTIMED, warmup=WARM, active=TRACED, repeat=1)
        self._trace = profile(activities=kinds, schedule=when, on_trace_ready=self._write)
        self._trace.start()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase."""
        began = time.perf_counter()
        with torch.profiler.record_function(name), super().phase(name):
            yield
        if self._is_gpu:
            torch.cuda.synchronize()
        if self.steps >= 0:
            self.seconds[name] += time.perf_counter() - began

    def step_done(self, step: int, loss: float | None, images_per_second: float) -> None:
        """Count a step."""
        super().step_done(step, loss, images_per_second)
        self.steps += 1
        if self.steps == 0:
            self._began = time.perf_counter()
        if self._trace is not None:
            self._trace.step()

    def _write(self, trace: Any) -> None:
        write_whole(self.path, lambda temporary: trace.export_chrome_trace(str(temporary)))

    def end(self) -> None:
        """Say where the time went."""
        if self._trace is None:
            return
        self._trace.stop()
        if self.steps < 1:
            return
        total = time.perf_counter() - self._began
        rest = max(0.0, total - sum(self.seconds.values()))
        parts = [(name, seconds) for name, seconds in self.seconds.items() if seconds] + [("everything else", rest)]
        shown = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in parts)
        trace = f"; trace of {TRACED} steps: {self.path}" if self.path.is_file() else ""
        self.report.note(f"{self.title}: {1000 * total / self.steps:.1f} ms a step over {self.steps}: {shown}{trace}")
