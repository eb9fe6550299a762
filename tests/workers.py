"""What tests run in worker processes: apart, so that these import little."""

import os
import signal
import time
from pathlib import Path


def slow_first(x: int) -> tuple[int, int]:
    """Late for 0."""
    time.sleep(0.5 if x == 0 else 0)
    return x, os.getpid()


def fail_at_2(kind: str, x: int) -> int:
    """By an exception, or by a killed process."""
    if x == 2:
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise {"value": ValueError, "other": KeyError}[kind]("two")
    return x


def write_pid_and_wait(folder: Path, x: int) -> None:
    """Longer than any test."""
    (folder / f"{x}.pid").write_text(str(os.getpid()))
    time.sleep(3600)
