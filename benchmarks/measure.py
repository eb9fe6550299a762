"""Running whole commands and reading their time and peak memory."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

WATCHED = 0.2  # seconds between two looks at a command's processes


@dataclass(frozen=True)
class Usage:
    """seconds of wall time; peak resident set in MB, that of worker processes added, each with what it shares."""

    seconds: float
    peak_mb: float


def together(*commands: list[str], module: str = "limbeck") -> list[Usage]:
    """Start ``python -m module`` with each list of arguments at once and wait for all; times count from the common start."""
    started = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-m", module, *command], stderr=subprocess.DEVNULL) for command in commands]
    workers: dict[int, dict[int, float]] = {process.pid: {} for process in running}
    threading.Thread(target=_watch, args=(workers,), daemon=True).start()
    found = {}
    for _ in running:
        pid, status, usage = os.wait4(-1, 0)
        if status:
            raise RuntimeError(f"a benchmarked command failed with status {status}")
        seconds, below = time.monotonic() - started, workers.pop(pid)
        found[pid] = Usage(seconds, usage.ru_maxrss / 1024 + sum(below.values()))
    for process in running:
        process.returncode = 0  # reaped above
    return [found[process.pid] for process in running]


def _watch(workers: dict[int, dict[int, float]]) -> None:
    """Keep the peaks in MB of every process below those of ``workers``, until none of them is left."""
    while workers:
        for pid, peaks in list(workers.items()):
            try:
                for child in psutil.Process(pid).children(recursive=True):
                    status = dict(line.split(":", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
                    peaks[child.pid] = int(status.get("VmHWM", "0").split()[0]) / 1024
            except (psutil.NoSuchProcess, OSError):
                continue  # ended meanwhile
        time.sleep(WATCHED)


def alone(command: list[str], module: str = "limbeck") -> Usage:
    """One command."""
    return together(command, module=module)[0]
