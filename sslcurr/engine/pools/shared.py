"""This process is the only worker; others, on any machine, work beside it on the same store."""

from __future__ import annotations

import time

from sslcurr.engine.graph import Job
from sslcurr.engine.jobs import Event, carry_out
from sslcurr.engine.store import Store
from sslcurr.progress import Reporter
from sslcurr.spec.runtime import Pooling, Runtime


class SharedPool:
    """See `sslcurr.engine.pool.Pool`. A job is carried out while its events are waited for."""

    names = ("this process",)

    def __init__(self, pooling: Pooling, store: Store, runtime: Runtime, report: Reporter) -> None:
        self.store = Store(store.root, waits=False, lease=pooling.lease)
        self.runtime = runtime
        self.report = report
        self._job: Job | None = None

    def free(self) -> bool:
        """Whether there is nothing to do."""
        return self._job is None

    def submit(self, job: Job) -> int:
        """Note what to do next."""
        self._job = job
        return 0

    def events(self, timeout: float) -> list[Event]:
        """Do it."""
        job, self._job = self._job, None
        if job is None:
            time.sleep(timeout)
            return []
        return [carry_out(job, self.store, self.runtime, self.report)]

    def cancel(self) -> list[Event]:
        """Nothing runs between two calls."""
        self._job = None
        return []

    def close(self) -> None:
        """Nothing is left."""
