"""Jobs without the seconds that every fresh Python takes to import torch and diffusers, on the machine that Snakemake runs on.

Snakemake starts a server beside its jobs (`start`), which imports them once. ``python -m limbeck`` hands its arguments, folder,
environment and standard streams over (`hand_over`); the server forks, and the fork is the job. It ends when the command that asked
for it does, and all end with Snakemake. A command that finds no server, or one of another Python, folder of sources or number of
threads, is a process of its own as always, so is every job on a cluster's nodes. What a job computes does not depend on it.

Linux only: it needs process descriptors and names of sockets that are no files.
"""

import array
import contextlib
import gc
import json
import os
import secrets
import selectors
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, NoReturn

VARIABLE = "LIMBECK_WARM"  # the server's name; empty: no server is wanted
# what takes long; none of it starts a thread, or looks for a GPU, before it computes, so that forking is safe
PRELOADED = (
    *("limbeck.cli", "limbeck.stages.sample", "limbeck.stages.train", "limbeck.stages.finetune", "limbeck.stages.report"),
    *("limbeck.priors.dit", "limbeck.priors.unet", "limbeck.metrics.teacher", "limbeck.metrics.clip", "sklearn.cluster"),
    "limbeck.students.fused",
)
ONE_THREAD = ["--threads", "1"]  # what a library read of the environment when it was imported holds for one thread
TAKEN, PATIENCE = b"y", 5.0


def start() -> str:
    """Start a server that ends with this process, and name it in the environment that jobs inherit."""
    if sys.platform != "linux" or VARIABLE in os.environ:
        return os.environ.get(VARIABLE, "")
    from limbeck.cli import THREAD_VARIABLES

    name = f"limbeck-{os.getpid()}-{secrets.token_hex(16)}"
    path = os.environ.get("PYTHONPATH", "")
    sources = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, "1"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": f"{path}:{sources}" if path else sources,
    }
    command = [sys.executable, "-m", "limbeck.warm", name, str(os.getpid())]
    os.posix_spawn(sys.executable, command, environment, file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)])
    os.environ[VARIABLE] = name
    return name


def hand_over(arguments: list[str]) -> int | None:
    """The exit status of a command that a server ran; None where none takes it."""
    name = os.environ.get(VARIABLE)
    if not name or arguments[:2] != ONE_THREAD:
        return None
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect("\0" + name)
        if _user(line) != os.getuid():
            return None
        job = json.dumps([arguments, os.getcwd(), dict(os.environ), _identity()]).encode()
        streams = array.array("i", [0, 1, 2])
        line.sendmsg([len(job).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        line.sendall(job)
        if line.recv(1) != TAKEN:
            return None
    except OSError:  # it has not begun, or has ended
        return None
    status = line.recv(1)
    if not status:
        sys.stderr.write("limbeck: error: the server that ran this job was ended; start Snakemake again\n")
    return status[0] if status else 1


def _identity() -> list[object]:
    """Where modules come from. The first entry of the path is the folder that a command was started in."""
    return [sys.executable, sys.path[1:]]


def _user(line: socket.socket) -> int:
    """Who is at the other end: such sockets have no permissions."""
    _, uid, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid


class Server:
    """Forks jobs until the process ``parent`` ends. One thread, as only what forks of itself may be forked."""

    def __init__(self, name: str, parent: int):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("\0" + name)
        self.events = selectors.DefaultSelector()
        # child's descriptor -> (its pid, the line to the command that asked for it), and the other way about
        self.jobs: dict[int, tuple[int, socket.socket]] = {}
        self.events.register(os.pidfd_open(parent), selectors.EVENT_READ, self._end)

    def serve(self) -> NoReturn:
        """Until the parent ends."""
        self.listener.listen(128)
        self.events.register(self.listener, selectors.EVENT_READ, self._accept)
        while True:
            for key, _ in self.events.select():
                if self.events.get_map().get(key.fd) is key:  # no event before it has closed it
                    key.data()

    def _end(self) -> NoReturn:
        for pid, _ in self.jobs.values():
            os.kill(pid, signal.SIGKILL)
        os._exit(0)

    def _accept(self) -> None:
        line, _ = self.listener.accept()
        line.settimeout(PATIENCE)
        job: list[Any] | None = None
        streams: list[int] = []
        with contextlib.suppress(OSError, ValueError):
            job, streams = _read(line)
        if job is None or _user(line) != os.getuid() or job[3] != _identity():
            line.close()
        elif (child := os.fork()) == 0:
            # else a command's end would not be seen while any other job holds its line too
            self._close()
            line.close()
            _run(job[0], job[1], job[2], streams)
        else:
            line.settimeout(None)
            watched = os.pidfd_open(child)
            self.jobs[watched] = child, line
            self.events.register(watched, selectors.EVENT_READ, lambda: self._finished(watched))
            self.events.register(line, selectors.EVENT_READ, lambda: os.kill(child, signal.SIGKILL))
            with contextlib.suppress(OSError):
                line.send(TAKEN)
        for stream in streams:
            os.close(stream)

    def _finished(self, watched: int) -> None:
        child, line = self.jobs.pop(watched)
        self.events.unregister(watched)
        self.events.unregister(line)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with contextlib.suppress(OSError):
            line.send(bytes([status if status >= 0 else 128 - status]))
        line.close()
        os.close(watched)

    def _close(self) -> None:
        """What a job has no business with."""
        for key in list(self.events.get_map().values()):
            os.close(key.fd)
        self.events.close()


def _read(line: socket.socket) -> tuple[list[Any], list[int]]:
    head, streams, _, _ = socket.recv_fds(line, 8, 3)
    size, job = int.from_bytes(head, "big"), bytearray()
    while len(job) < size:
        part = line.recv(size - len(job))
        if not part:
            raise ValueError("cut short")
        job += part
    return json.loads(job), streams


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        sys.path[0] = folder
        tempfile.tempdir = None  # found anew by the job's own variables
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [f"{os.path.dirname(__file__)}/__main__.py", *arguments]
        from limbeck.cli import main

        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        # no handlers of the server's own end
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What libraries say when they are imported belongs into no terminal."""
    kept, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    try:
        yield
    finally:
        for number, stream in enumerate(kept, 1):
            os.dup2(stream, number)
            os.close(stream)
        os.close(nowhere)


def main(name: str, parent: int, preloaded: Iterable[str] = PRELOADED) -> NoReturn:
    """Import, then serve. Before that a command finds nobody listening."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for Snakemake, and for jobs
    server = Server(name, parent)
    with _silent():
        for module in preloaded:
            import_module(module)
    gc.freeze()  # so that a job's collections do not copy the server's pages
    server.serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
