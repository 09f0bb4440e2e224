"""What must hold to the bit holds on other processors, too: arithmetic is asked for that an older one has."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests import REPOSITORY

# Read when torch is imported, so that only another process can ask for it. Each library has a name of its own for it.
OLDER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}

# Gram matrices that are symmetric to the bit, curves as they are noted, and a resume that is exact.
FILES = ["tests/analysis/measures/test_cka.py", "tests/tasks/test_task_suite.py"]
CHOSEN = "test_products or (loss_curve and (simsiam or vicreg)) or (killed and odc)"


@pytest.mark.long
def test_checks_to_the_bit_pass_with_the_arithmetic_of_an_older_processor():
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=-q", *FILES, "-k", CHOSEN],
        cwd=REPOSITORY, env={**plain, **OLDER}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 13, result.stdout
