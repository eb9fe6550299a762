"""Running whole commands and reading their time and peak memory."""

import contextlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

WATCHED = 0.2  # seconds between two looks at a command's processes
# A process starts with the peak of the one that started it, so this small one does, and says on a pipe how many kB it was.
BETWEEN = """
import os, sys
os.set_inheritable(int(sys.argv[1]), False)
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
os.write(int(sys.argv[1]), str(usage.ru_maxrss).encode())
sys.exit(bool(status))
"""


Line = dict[str, Any]  # of the table, see benchmarks.__main__


def judged(line: Line, **limits: tuple[float | None, float | None]) -> Line:
    """The line with its target in words and whether it is met. limits: the least and the most that its numbers may be, by name."""
    words, met = [], True
    for name, (least, most) in limits.items():
        for limit, sign, good in ((least, "≥", line[name] >= (least or 0)), (most, "≤", line[name] <= (most or 0))):
            if limit is not None:
                words.append(f"{name.replace('_', ' ')} {sign} {limit:,g}")
                met &= bool(good)
    return line | {"target": ", ".join(words), "met": met}


@dataclass(frozen=True)
class Usage:
    """seconds of wall time; peak resident set in MB, that of worker processes added, each with what it shares."""

    seconds: float
    peak_mb: float


def together(*commands: list[str], module: str = "limbeck") -> list[Usage]:
    """Start ``python -m module`` with each list of arguments at once and wait for all; times count from the common start.

    Raises
    ------
    RuntimeError: one of them fails.
    """
    started = time.monotonic()
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda command: _run([sys.executable, "-m", module, *command], started), commands))


def _run(command: list[str], started: float) -> Usage:
    read, write = os.pipe()
    with open(read) as pipe:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", BETWEEN, str(write), *command], stderr=subprocess.DEVNULL, pass_fds=[write]
        )
        os.close(write)
        peaks: dict[int, float] = {}
        while True:
            try:
                status = process.wait(WATCHED)
                break
            except subprocess.TimeoutExpired:
                _look(process.pid, peaks)
        seconds = time.monotonic() - started
        if status:
            raise RuntimeError(f"a benchmarked command failed: {' '.join(command[1:])}")
        return Usage(seconds, int(pipe.read()) / 1024 + sum(peaks.values()))


def _look(pid: int, peaks: dict[int, float]) -> None:
    """Keep the peaks in MB of every process below the command that ``pid`` started."""
    with contextlib.suppress(psutil.NoSuchProcess, OSError):  # one ended meanwhile
        for worker in [below for own in psutil.Process(pid).children() for below in own.children(recursive=True)]:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines())
            peaks[worker.pid] = int(status.get("VmHWM", "0").split()[0]) / 1024


def alone(command: list[str], module: str = "limbeck") -> Usage:
    """One command."""
    return together(command, module=module)[0]
