"""Jobs on several GPUs: each has one of its own, the next waits until one is free, however its job ended."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck import gpus

HOLD = "from limbeck import gpus; print(gpus.take('sample'), flush=True); input()"


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_GPUS", "2, 5")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(gpus.__file__).parents[1]))
    started = []

    def start() -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", HOLD], **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_jobs_have_distinct_devices_and_the_next_has_that_of_a_killed_one(job):
    first, second = job(), job()
    taken = {process: process.stdout.readline().strip() for process in (first, second)}
    assert sorted(taken.values()) == ["2", "5"]
    third = job()
    assert select.select([third.stdout], [], [], 2.0)[0] == []
    second.kill()
    assert third.stdout.readline().strip() == taken[second]


def test_others_take_none(monkeypatch, tmp_path):
    monkeypatch.setenv("LIMBECK_GPUS", "0")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus.take("ingest") is gpus.take(None) is None
    monkeypatch.delenv("LIMBECK_GPUS")
    assert gpus.take("sample") is None
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.usefixtures("job")
def test_a_command_sees_its_device_alone():
    """By the command itself: its environment before it fails for want of a file."""
    code = "import os, sys; from limbeck.cli import main; sys.argv = ['limbeck', 'sample', '--spec', '{}']\ntry: main()\n"
    code += "except SystemExit: print(os.environ.get('CUDA_VISIBLE_DEVICES'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("2"), done.stderr
