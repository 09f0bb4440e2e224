"""How many CPU threads compute: torch's, and those of the BLAS and OpenMP libraries below NumPy and scikit-learn."""

from __future__ import annotations

import os

from sslcurr.errors import SpecError

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def use_threads(threads: int) -> None:
    """Compute with so many CPU threads from now on, in this process and in those that it starts.

    Args:
        threads: how many; 0 leaves all as it is.

    Raises:
        SpecError: it is negative, or no whole number.
    """
    if not isinstance(threads, int) or threads < 0:
        raise SpecError(
            f"{threads!r} is no number of threads", "give --threads 1 or more, or 0 for as many as torch chooses"
        )
    if not threads:
        return
    for name in VARIABLES:  # for libraries that are loaded later, and for child processes
        os.environ[name] = str(threads)
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def num_cores() -> int:
    """CPU cores that this process may use, by its affinity and by the limits of its container."""
    from joblib import cpu_count

    return int(cpu_count())


def threads_of_each(threads: int, workers: int) -> int:
    """CPU threads of each of some workers on this machine: those asked for, else the cores shared out."""
    return threads or max(1, num_cores() // workers)
