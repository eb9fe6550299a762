"""Jobs of the workflow tests without the seconds that every fresh process takes to import torch and diffusers.

A server imports them once. A script named ``python``, which the Snakefile's PATH finds first, hands it a job's arguments, folder,
environment and standard streams; the server forks, and the fork runs the job and no other. Snakemake, rules and commands are the
real ones; `make demo` runs them in processes of their own.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from limbeck.cli import THREAD_VARIABLES

SOURCES = Path(__file__).parents[1] / "src"
# what takes long; nothing of it starts a thread before it computes, so a fork is safe
PRELOADED = (
    *("limbeck.cli", "limbeck.stages.sample", "limbeck.stages.train", "limbeck.stages.finetune", "limbeck.stages.report"),
    *("limbeck.priors.dit", "limbeck.priors.unet", "limbeck.metrics.teacher", "limbeck.metrics.clip", "sklearn.cluster"),
)
SCRIPT = """#!{python} -ISE
import array, json, os, socket, sys
real = {python!r}
if sys.argv[1:3] != ["-m", "limbeck"] or not os.environ.get("PYTHONPATH", "").split(":")[-1] == {sources!r}:
    os.execv(real, [real, *sys.argv[1:]])
line = socket.socket(socket.AF_UNIX)
line.connect({path!r})
job = json.dumps([sys.argv[3:], os.getcwd(), dict(os.environ)]).encode()
line.sendmsg([len(job).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
line.sendall(job)
status = line.recv(1)
sys.exit(status[0] if status else 1)
"""


class Server:
    """A server of jobs, started when it is first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def prefix(self) -> str:
        """The folder in whose ``bin`` Snakemake's jobs find their ``python``."""
        if self.process is None:
            install(self.folder)
            one = dict.fromkeys(THREAD_VARIABLES, "1")
            path = {"PYTHONPATH": f"{SOURCES}:{SOURCES.parent}", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
            command = [sys.executable, "-m", "tests.warm", str(self.folder / "socket")]
            self.process = subprocess.Popen(command, env={**os.environ, **one, **path}, stdout=subprocess.PIPE, cwd=self.folder)
            assert self.process.stdout is not None
            assert self.process.stdout.readline() == b"ready\n"
        return str(self.folder)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def install(folder: Path) -> None:
    """Write ``folder``/bin/python for a server at ``folder``/socket."""
    (folder / "bin").mkdir(parents=True)
    script = folder / "bin/python"
    script.write_text(SCRIPT.format(python=sys.executable, sources=str(SOURCES), path=str(folder / "socket")))
    script.chmod(0o755)


def serve(path: str) -> None:
    """Until killed: a fork for every job, which ends when its script does."""
    for name in PRELOADED:
        import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # of the handlers, so that none is left as a zombie
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    print("ready", flush=True)
    while True:
        line, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _handle(line)
        line.close()


def _handle(line: socket.socket) -> None:
    """Run a job in a fork of its own and report its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(line, 4, 3)
    size, job = int.from_bytes(head, "big"), b""
    while len(job) < size:
        job += line.recv(size - len(job))
    child = os.fork()
    if child == 0:
        line.close()
        _run(*json.loads(job), streams)
    watched = os.pidfd_open(child)
    ready, _, _ = select.select([line, watched], [], [])
    if watched not in ready:  # the script was killed
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        line.send(bytes([status if 0 <= status < 256 else 128 - status]))
    os._exit(0)


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    status = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["limbeck", *arguments]
        from limbeck.cli import main

        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
