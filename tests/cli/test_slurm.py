"""`sslcurr slurm` with programs that stand for SLURM's: what is planned, submitted, printed and refused."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import jsonschema
import pytest

from sslcurr.analysis.results.kinds import json_schema
from sslcurr.api import clusters
from sslcurr.api.lab import Lab
from sslcurr.engine.pools import slurm
from sslcurr.errors import SpecError

OPTIONS = ("--partition", "gpu", "--workers", "2", "--gpus-per-worker", "1")
# Keeps the script that it was given, and runs it for each worker as SLURM would.
SBATCH = """#!/bin/bash
cp "$1" "$(dirname "$0")/script.sh"
export SLURM_JOB_ID=4242 SLURM_ARRAY_JOB_ID=4242
for task in $RUN; do SLURM_ARRAY_TASK_ID=$task bash "$1" </dev/null >/dev/null 2>&1 & done
echo Submitted batch job 4242
"""
# srun --unbuffered --output FILE --cpus-per-task N COMMAND
SRUN = """#!/bin/bash
file=${3//%A/4242}; file=${file//%a/$SLURM_ARRAY_TASK_ID}; file=${file//%t/0}
exec "${@:6}" >>"$file" 2>&1
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with SLURM's programs, first on the path; the script that was submitted is `script.sh` in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": "#!/bin/bash\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("RUN", "")
    return folder


@pytest.fixture
def planned(monkeypatch):
    """The commands that were planned."""
    commands = []
    monkeypatch.setattr(clusters, "planned_by", lambda command, runs: commands.append((command, runs)) or {"stages": 3})
    return commands


@pytest.mark.parametrize(
    "words",
    [
        ("rank", "rotation", "mocov2", "--seeds", "2", "--set", "rotation.epochs=1", *OPTIONS),
        ("rank", *OPTIONS, "rotation", "mocov2", "--seeds", "2", "--set", "rotation.epochs=1"),
        (*OPTIONS, "rank", "rotation", "mocov2", "--seeds", "2", "--set", "rotation.epochs=1"),
        ("rank", "rotation", *OPTIONS[:2], "mocov2", "--seeds", "2", *OPTIONS[2:], "--set", "rotation.epochs=1"),
    ],
)
def test_options_may_be_mixed(sslcurr, cluster, planned, words):
    document = sslcurr.json("slurm", *words)
    command = ["rank", "rotation", "mocov2", "--seeds", "2", "--set", "rotation.epochs=1"]
    assert planned == [(command, sslcurr.runs)]
    assert (document["job"], document["num_workers"], document["planned"]) == ("4242", 2, {"stages": 3})
    assert document["results"] == shlex.join(["sslcurr", *command])
    assert document["logs"] == str(sslcurr.runs / "slurm" / "4242_*_0_log.out")
    assert document["script"] == (cluster / "script.sh").read_text()
    jsonschema.validate(document, json_schema("slurm"))


def test_what_is_submitted_can_be_watched_and_cancelled(sslcurr, cluster, planned, tmp_path):
    runs, logs = tmp_path / "other runs", tmp_path / "logs"
    result = sslcurr("slurm", "chain", "rotation", "--runs", str(runs), *OPTIONS, "--logs", str(logs))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "submitted: job 4242, 2 workers",
        "watch:     squeue --job 4242",
        f"           sslcurr runs --live --runs '{runs}'",
        f"           tail -f {logs}/4242_*_0_log.out",
        "cancel:    scancel 4242",
        f"results:   sslcurr chain rotation --runs '{runs}'",
    ]
    assert planned == [(["chain", "rotation", "--runs", str(runs)], runs)]
    submitted = {path.name for path in logs.iterdir() if not path.name.startswith(".")}
    assert submitted == {"4242_submission.sh", "4242_0_submitted.pkl", "4242_1_submitted.pkl"}


def test_a_dry_run_prints_the_script_and_does_nothing(sslcurr, planned, monkeypatch):
    monkeypatch.setenv("PATH", "")  # and needs no SLURM
    words = ("slurm", "grid", "rotation", *OPTIONS, "--dry-run")
    result = sslcurr(*words)
    assert result.exit_code == 0, result.stderr
    assert "#SBATCH --array=0-1%2" in result.stdout.splitlines()
    assert result.stdout == sslcurr.json(*words)["script"]
    assert sslcurr.json(*words)["job"] is None
    assert planned == []
    assert not sslcurr.runs.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("cka", "a", "b"), 1, "SLURM workers train for rank, grid and chain, not for 'cka'"),
        (("--seeds", "3", "rank"), 1, "hint: name it first, such as: sslcurr slurm rank"),
        (("rank", "rotation", "--seedz", "3"), 2, "No such option: --seedz"),
        (("rank", "rotation", "--seeds", "many"), 2, "Invalid value for '--seeds'"),
        (("grid",), 2, "Missing argument 'TASK'"),
        (("rank", "rotation", "--time", "1"), 1, "error: --time must be at least 10, got 1"),
    ],
)
def test_mistakes_are_said_before_anything_is_submitted(sslcurr, cluster, planned, words, code, message):
    result = sslcurr("slurm", *words, *OPTIONS)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert planned == []
    assert not (cluster / "script.sh").exists()


def test_a_plan_that_fails_passes_on_its_exit_code(sslcurr, cluster, monkeypatch):
    """The command says itself, on stderr, what is wrong."""
    asked = []

    def run(words, **how):
        asked.append(words)
        return subprocess.CompletedProcess(words, 2, "")

    monkeypatch.setattr(clusters.subprocess, "run", run)
    result = sslcurr("slurm", "rank", "rotation", *OPTIONS)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: rank could not be planned, and nothing was submitted",
        "hint: what it says is above",
    ]
    assert asked == [
        [sys.executable, "-m", "sslcurr", "rank", "rotation", "--runs", str(sslcurr.runs), "--plan-only", "--json"]
    ]
    assert not (cluster / "script.sh").exists()


def test_what_a_plan_prints_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(
        clusters.subprocess, "run", lambda words, **how: subprocess.CompletedProcess(words, 0, '{"stages": 3}')
    )
    assert clusters.planned_by(["rank", "rotation"], tmp_path) == {"stages": 3}


def test_what_sbatch_refuses_is_one_line(sslcurr, cluster, planned):
    (cluster / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n")
    result = sslcurr("slurm", "rank", "rotation", *OPTIONS)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: sbatch did not take the workers: sbatch: error: invalid partition specified: gpu",
        "hint: the same command with --dry-run prints the script",
    ]


def test_without_slurm_or_submitit_it_is_one_line(sslcurr, planned, monkeypatch):
    monkeypatch.setenv("PATH", "")
    result = sslcurr("slurm", "rank", "rotation", *OPTIONS)
    assert result.exit_code == 1
    assert "error: there is no SLURM on this machine: sbatch is not found" in result.stderr
    monkeypatch.setitem(sys.modules, "submitit", None)
    for more in ((), ("--dry-run",)):
        result = sslcurr("slurm", "rank", "rotation", *OPTIONS, *more)
        assert result.exit_code == 1
        assert result.stderr.splitlines() == [
            "error: SLURM needs the package submitit",
            "hint: pip install 'sslcurr[slurm]'",
        ]
    assert planned == []


def test_a_lab_submits_workers_for_what_was_planned_before(cluster, planned, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")  # within a job, whose variables would change what is asked for
    lab = Lab(tmp_path / "runs")
    document = lab.slurm(partition="gpu", num_workers=1, setup=["module load cuda"])
    assert (document.job, document.planned, document.results) == ("4242", None, None)
    assert document.logs.endswith("/4242_0_log.out")
    assert planned == []
    assert "\nmodule load cuda\n" in (cluster / "script.sh").read_text()
    assert lab.plan_slurm(partition="gpu", num_workers=1, setup=["module load cuda"]).script == document.script
    with pytest.raises(SpecError, match="there is no option 'num_wokers'"):
        lab.slurm(partition="gpu", num_wokers=1)


def test_waiting_tells_which_workers_failed(sslcurr, cluster, planned, monkeypatch):
    """The workers run, as submitit's jobs under the stand-in for SLURM; the second one fails."""
    monkeypatch.setenv("RUN", "0 1")
    end = "import os, sys; sys.exit(3 * int(os.environ['SLURM_ARRAY_TASK_ID']))"
    monkeypatch.setattr(slurm.Allocation, "worker", lambda self, runs: [sys.executable, "-S", "-c", end])
    result = sslcurr("slurm", "rank", "rotation", *OPTIONS, "--wait")
    assert result.exit_code == 3, result.stderr
    assert "submitted as job 4242; scancel 4242 cancels it" in result.stderr
    assert result.stdout.splitlines() == [
        "job 4242: 2 workers ended, 1 failed",
        "failed: worker 4242_1: the worker ended with exit code 3",
        f"logs: {sslcurr.runs}/slurm/4242_*_0_log.out",
        "results:   sslcurr rank rotation",
    ]
    assert "Job completed successfully" in (sslcurr.runs / "slurm" / "4242_0_0_log.out").read_text()


def test_a_wait_that_is_interrupted_leaves_the_workers(sslcurr, cluster, planned, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("submitit.SlurmJob.exception", interrupted)
    result = sslcurr("slurm", "rank", "rotation", *OPTIONS, "--wait")
    assert result.exit_code == 130
    assert "stopped: the wait was interrupted; the workers go on\nhint: scancel 4242 cancels them" in result.stderr
