"""What a benchmark measures of a command: its own time and memory, and its workers'."""

import numpy as np
import pytest

from benchmarks.measure import alone, together

MB = 1 << 20


def holding(megabytes: int) -> list[str]:
    """Arguments of timeit, that hold so much."""
    return ["-n", "1", "-r", "1", f"x = bytearray({megabytes * MB}); x[::4096] = b'1' * len(x[::4096])"]


def test_memory_is_the_commands_own_whatever_this_process_has_had():
    np.ones(700 * MB, np.uint8)
    small = alone(holding(1), module="timeit").peak_mb
    assert small < 100
    assert 290 < alone(holding(300), module="timeit").peak_mb - small < 330


def test_commands_run_beside_each_other_and_are_told_apart():
    wait = ["-n", "1", "-r", "1", "import time; time.sleep(1)"]
    first, second = together(wait, holding(300), module="timeit")
    assert first.peak_mb < 100 < 300 < second.peak_mb
    assert first.seconds >= 1


def test_workers_count_too():
    worker = "import time; x = bytes(range(256)) * (1 << 20); time.sleep(1)"
    work = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{worker}'])"
    assert alone(["-n", "1", "-r", "1", work], module="timeit").peak_mb > 256


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(RuntimeError, match="failed"):
        alone(["-n", "1", "1 / 0"], module="timeit")
