"""Commands that a server runs are commands: same output, status, folder, environment and end; without it they run themselves."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from limbeck import warm

SOURCES = str(Path(warm.__file__).parents[1])
NAME = f"limbeck-test-{os.getpid()}"
# a command of its own, in every Python that has the folder on its path
TELL = """
import os, signal, sys
from limbeck import cli

@cli.app.command()
def tell(wait: bool = False, end: int = 0):
    print(os.getpid(), os.getppid(), os.getcwd(), os.environ.get("ASKED"), os.environ["OMP_NUM_THREADS"], flush=True)
    print("an error", file=sys.stderr)
    if wait:
        signal.pause()
    if end < 0:
        os.kill(os.getpid(), -end)
    sys.exit(end)
"""
SERVER = "__package__ = 'limbeck'; from limbeck import warm; warm.main({name!r}, {parent}, ['limbeck.cli'])"


class Started:
    """Processes of a test; all are over after it."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[str]] = []

    def python(self, *arguments: str, **options) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.all.append(subprocess.Popen([sys.executable, *arguments], **{**pipes, **options}))
        return self.all[-1]

    def tell(self, *arguments: str, threads: int = 1, **options) -> subprocess.Popen[str]:
        return self.python("-m", "limbeck", "--threads", str(threads), "tell", *arguments, **options)

    def server(self, parent: int) -> subprocess.Popen[str]:
        found = self.python("-c", SERVER.format(name=NAME, parent=parent))
        while f"@{NAME}" not in listening():
            assert found.poll() is None, found.stderr.read()
        return found


def listening() -> str:
    """Of the machine's sockets those that take connections."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return "\n".join(line for line in lines if line.split()[3] == "00010000")


@pytest.fixture
def started(tmp_path, monkeypatch) -> Iterator[Started]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(TELL)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{SOURCES}")
    monkeypatch.setenv(warm.VARIABLE, NAME)
    found = Started()
    yield found
    for process in found.all:
        process.kill()
        process.communicate()


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process, which need not be ours, ends in time."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    return bool(select.select([watched], [], [], seconds)[0])


def test_a_server_runs_what_the_command_would(started, tmp_path):
    cold = started.tell("--end", "3", cwd=tmp_path, env={**os.environ, "ASKED": "a b"})
    out, err = cold.communicate()
    assert out.split() == [str(cold.pid), str(os.getpid()), str(tmp_path), "a", "b", "1"]
    server = started.server(os.getpid())
    job = started.tell("--end", "3", cwd=tmp_path, env={**os.environ, "ASKED": "a b"})
    forked, told = job.communicate()
    assert forked.split()[1:] == [str(server.pid), *out.split()[2:]]
    assert (told, job.returncode) == (err, cold.returncode) == ("an error\n", 3)
    # user errors and misuse too
    for arguments in (["show", "no.zarr.zip"], ["nonsense"]):
        status = {}
        for name in ("", NAME):
            done = started.python("-m", "limbeck", "--threads", "1", *arguments, env={**os.environ, warm.VARIABLE: name})
            status[name] = (*done.communicate(), done.returncode)
        assert status[""] == status[NAME]
        assert status[NAME][2] != 0


def test_jobs_run_side_by_side(started):
    started.server(os.getpid())
    waiting = started.tell("--wait")
    pid = int(waiting.stdout.readline().split()[0])
    assert started.tell().wait(20) == 0
    os.kill(pid, signal.SIGTERM)
    assert waiting.wait(10) == 128 + signal.SIGTERM


@pytest.mark.parametrize("how", ["command", "server", "parent"])
def test_a_job_ends_with_its_command_its_server_and_snakemake(started, how):
    parent = started.python("-c", "input()")
    server = started.server(parent.pid)
    environment = {**os.environ, "LIMBECK_DIE_WITH_PARENT": "1"}
    first, second = (started.tell("--wait", env=environment) for _ in range(2))
    pids = [int(job.stdout.readline().split()[0]) for job in (first, second)]
    {"command": first, "server": server, "parent": parent}[how].kill()
    assert gone(pids[0])
    if how == "command":
        assert not gone(pids[1], 0.2)
        assert started.tell().wait(20) == 0
    else:
        assert gone(pids[1])
        assert gone(server.pid)
        assert "the server that ran this job was ended" in second.communicate()[1]
        assert second.returncode == 1
        # the next one does without
        alone = started.tell()
        assert alone.communicate()[0].split()[:2] == [str(alone.pid), str(os.getpid())]


@pytest.mark.parametrize("other", ["threads", "sources", "name"])
def test_others_run_themselves(started, tmp_path, other):
    started.server(os.getpid())
    environment = dict(os.environ)
    if other == "sources":
        environment["PYTHONPATH"] = f"{environment['PYTHONPATH']}:{tmp_path}"
    if other == "name":
        environment[warm.VARIABLE] = ""
    job = started.tell(threads=2 if other == "threads" else 1, env=environment)
    assert job.communicate()[0].split()[:2] == [str(job.pid), str(os.getpid())]


def test_an_interrupt_ends_a_job_and_no_server(started):
    server = started.server(os.getpid())
    job = started.tell("--wait")
    pid = int(job.stdout.readline().split()[0])
    for each in (server.pid, pid):
        os.kill(each, signal.SIGINT)
    assert job.wait(10) != 0
    assert started.tell().wait(20) == 0
