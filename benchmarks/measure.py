"""Running whole commands and reading their time and peak memory."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """seconds of wall time; peak resident set in MB."""

    seconds: float
    peak_mb: float


def together(*commands: list[str], module: str = "limbeck") -> list[Usage]:
    """Start ``python -m module`` with each list of arguments at once and wait for all; times count from the common start."""
    started = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-m", module, *command], stderr=subprocess.DEVNULL) for command in commands]
    found = {}
    for _ in running:
        pid, status, usage = os.wait4(-1, 0)
        if status:
            raise RuntimeError(f"a benchmarked command failed with status {status}")
        found[pid] = Usage(time.monotonic() - started, usage.ru_maxrss / 1024)
    for process in running:
        process.returncode = 0  # reaped above
    return [found[process.pid] for process in running]


def alone(command: list[str], module: str = "limbeck") -> Usage:
    """One command."""
    return together(command, module=module)[0]
