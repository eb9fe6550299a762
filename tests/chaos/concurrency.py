"""Two runs in one folder, clocks that are wrong, and no network."""

import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from limbeck.checking import check_folder
from limbeck.records import SUFFIX
from tests.chaos.kill import plain
from tests.chaos.outcome import Fault, Lost, Wrong
from tests.chaos.runs import SmallRun, clean_environment

DAY = 86_400
METHODS = ["random", "mgd"]
YEARS = (-40 * 365 * DAY, -DAY, -60, 60, DAY, 10 * 365 * DAY)


def two_runs(folder: Path) -> int:
    """A second run in the folder of a first one is refused and says why; the first goes on to its end."""
    run, env = SmallRun(folder / "w", METHODS), clean_environment()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(["bash", "-c", run.command], cwd=run.folder, env=env, **quiet) as one:
        while not list((run.folder / ".snakemake/locks").glob("*")) or not (run.results / "logs").exists():
            if one.poll() is not None:
                raise Lost(f"the first run ends with {one.returncode}")
            time.sleep(0.05)
        other = subprocess.run(["bash", "-c", run.command], cwd=run.folder, env=env, capture_output=True, text=True, check=False)
        said = other.stdout + other.stderr
        if one.poll() is not None or other.returncode == 0 or "cannot be locked" not in said or "Traceback" in said:
            raise Wrong(f"the second run ends with {other.returncode}: {said[-1500:]}")
        if one.wait():
            raise Lost(f"the first run ends with {one.returncode}")
    if damaged := check_folder(run.results).damaged:
        raise Wrong(damaged[0])
    return 1


def skewed(folder: Path, count: int, seed: int) -> int:
    """Files with times in the future or the past, or newer than what was made of them: nothing is run again, nothing hangs."""
    run, env, rng = SmallRun(folder / "w", METHODS), clean_environment(), random.Random(seed)
    plain(run.command, run.folder, env)
    arrays = sorted(run.results.rglob(f"*{SUFFIX}"))
    for number in range(count):
        path, shift = rng.choice(arrays), rng.choice(YEARS)
        os.utime(path, (time.time() + shift, time.time() + shift))
        done = subprocess.run(["bash", "-c", run.command], cwd=run.folder, env=env, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        if done.returncode or "Nothing to be done" not in said:
            raise Wrong(f"seed {seed}, {number}: {path} by {shift} s: {done.returncode}, {said[-1500:]}")
    return count


def without_network(folder: Path) -> int:
    """A run with local files alone, where there is no network at all."""
    run = SmallRun(folder / "w", METHODS)
    plain(f"unshare -n bash -c {_quoted(run.command)}", run.folder, clean_environment())
    return 1


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"


def cannot_unshare() -> str | None:
    """Why a run cannot be cut off here."""
    able = shutil.which("unshare") and subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode == 0
    return None if able else "a network of its own needs root (unshare -n)"


def _twice(count: int, seed: int) -> int:  # noqa: ARG001
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            two_runs(Path(folder))
    return count


def _skewed(count: int, seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return skewed(Path(folder), count, seed)


def _cut_off(count: int, seed: int) -> int:  # noqa: ARG001
    if cannot_unshare():
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return without_network(Path(folder))


FAULTS: list[Fault] = [
    ("two runs at once", _twice, 1, 3),
    ("clocks that are wrong", _skewed, 4, 40),
    ("no network", _cut_off, 1, 1),
]
