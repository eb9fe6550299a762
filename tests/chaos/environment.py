"""Faults of the machine: a full or read-only disk, missing permissions and folders, too few descriptors.

The command says in one line which file, what is wrong and what to do, leaves nothing half-written, and succeeds afterwards.
"""

import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.commands import Command, base, run
from tests.chaos.outcome import Fault

NOBODY = 65534
PAGE = 4096


def needs_root() -> str | None:
    """Why faults that need mounts or other users cannot be tried; None where they can."""
    if os.geteuid():
        return "not root: cannot mount a small file system or become another user"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            return f"cannot mount: {done.stderr.strip()}"
        subprocess.run(["umount", folder], check=True)
    return None


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder that other users can read."""
    with tempfile.TemporaryDirectory(dir=base().folder) as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@contextmanager
def small_disk(size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    with scratch() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def refused(status: int, said: str, *words: str) -> None:
    """One line that has one of these words, and what to do."""
    assert status == 1, (status, said)
    lines = [line for line in said.splitlines() if line.startswith("limbeck: error: ")]
    assert len(lines) == 1, said
    assert "Traceback" not in said, said
    assert not words or any(word in lines[0] for word in words), lines[0]
    assert not words or "run again" in lines[0], lines[0]


def nothing_half_written(folder: Path, command: Command) -> None:
    """Of what the command writes each file is whole or not there; nothing else is."""
    whole = base().files(command)
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        # a checkpoint is where finetune goes on
        if path.is_file() and not name.endswith(".prov.json") and path.suffix != ".checkpoint":
            assert name in whole, f"{command.name} left {name}"
            assert path.read_bytes() == whole[name], f"{command.name} left a part of {name}"


def succeeds(command: Command, folder: Path) -> None:
    """With the bytes of an undisturbed run."""
    status, said = run(command.arguments(base().clean, folder))
    assert status == 0, said
    for name, content in base().files(command).items():
        assert (folder / name).read_bytes() == content, f"{command.name}: {name} has other bytes"
    left = [path for path in folder.rglob("*") if ".part" in path.name or path.suffix == ".checkpoint"]
    assert not left, left


def picked(count: int, seed: int) -> Iterator[tuple[Command, random.Random]]:
    """Commands in turn, each with its own random numbers; the first of all are different ones."""
    order = list(base().commands)
    random.Random(seed).shuffle(order)
    for number in range(count):
        yield order[number % len(order)], random.Random(f"{seed}.{number}")


def full_disk(count: int, seed: int) -> int:
    """A disk that is full before the command has written all."""
    for command, rng in picked(count, seed):
        needed = sum(map(len, base().files(command).values()))
        with small_disk(PAGE * rng.randint(1, max(1, needed // PAGE - 1))) as folder:
            status, said = run(command.arguments(base().clean, folder))
            refused(status, said, "no space left on device; free some space there")
            assert str(folder) in said, said
            nothing_half_written(folder, command)
            remount(folder, "size=64m")
            succeeds(command, folder)
    return count


def read_only(count: int, seed: int) -> int:
    """A file system that is mounted read-only, before or after the results were written."""
    for command, rng in picked(count, seed):
        with small_disk(64 << 20) as folder:
            if there := rng.random() < 0.5:
                succeeds(command, folder)
            before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
            remount(folder, "ro")
            status, said = run(command.arguments(base().clean, folder))
            refused(status, said, "read-only file system; mount it for writing")
            assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, there
            remount(folder, "rw")
            succeeds(command, folder)
    return count


def permissions(count: int, seed: int) -> int:
    """Results that this user may not write."""
    for command, rng in picked(count, seed):
        with scratch() as folder:
            results = folder / "results"
            results.mkdir()
            if rng.random() < 0.5:
                succeeds(command, results)  # another's files are there
            status, said = run(command.arguments(base().clean, results), ("become", NOBODY))
            refused(status, said, "permission denied; give yourself access", "operation not permitted")
            assert str(results) in said
            nothing_half_written(results, command)
            succeeds(command, results)
    return count


def unreadable(count: int, seed: int) -> int:
    """An input that this user may not read: a file, or the folder that it is in."""
    for command, rng in picked(count, seed):
        if not command.inputs:
            continue
        with scratch() as folder:
            read, results = folder / "read", folder / "results"
            shutil.copytree(base().clean, read)
            results.mkdir()
            os.chown(results, NOBODY, NOBODY)
            path = read / rng.choice(sorted(command.inputs.values()))
            closed = rng.choice([path, path.parent])
            mode = closed.stat().st_mode
            closed.chmod(0)
            status, said = run(command.arguments(read, results), ("become", NOBODY))
            if status != 2:
                refused(status, said, "permission denied; give yourself access")
            # the parser of arguments has its own words, in a frame
            assert str(closed) in "".join(re.findall(r"[^\s│]", said)).replace("isnotreadable", "")
            nothing_half_written(results, command)
            closed.chmod(mode)
            succeeds(command, results)
    return count


def open_files(count: int, seed: int) -> int:
    """Fewer descriptors than the command needs, or just enough."""
    for command, rng in picked(count, seed):
        with scratch() as folder:
            status, said = run(command.arguments(base().clean, folder), ("files", rng.randint(5, 16)))
            if status:
                refused(status, said, "oo many open files")
            nothing_half_written(folder, command)
            succeeds(command, folder)
    return count


def unwritable_homes(count: int, seed: int) -> int:
    """No home, no cache, no folder for temporary files: nothing that a command writes depends on them."""
    for command, rng in picked(count, seed):
        with scratch() as folder:
            home = rng.choice(["/proc/nowhere", "/proc", "/dev/null"])
            status, said = run(command.arguments(base().clean, folder), ("home", home))
            assert status == 0, said
            nothing_half_written(folder, command)
    return count


def links(count: int, seed: int) -> int:
    """Results behind a link, or one that leads nowhere, to a file or to itself."""
    for command, rng in picked(count, seed):
        with scratch() as folder:
            link, kind = folder / "results", rng.choice(["folder", "nowhere", "file", "itself"])
            (folder / "file").touch()
            (folder / "folder").mkdir()
            link.symlink_to(link if kind == "itself" else folder / kind)
            status, said = run(command.arguments(base().clean, link))
            if kind == "folder":
                assert status == 0, said
            else:
                refused(status, said, "not a directory", "file exists", "too many levels of symbolic links", "no such file")
                assert not (folder / "nowhere").exists()
                link.unlink()
                link.symlink_to(folder / "folder")
            succeeds(command, link)
    return count


def removed(count: int, seed: int) -> int:
    """The results are removed while the command writes them."""
    for command, rng in picked(count, seed):
        with scratch() as folder:
            results = folder / "results"
            stop = threading.Event()

            def remove(results: Path = results, stop: threading.Event = stop, wait: float = rng.random() / 20) -> None:
                while not stop.is_set():
                    if results.exists() and any(results.rglob("*.part*")):
                        time.sleep(wait)
                        shutil.rmtree(results, ignore_errors=True)
                        return

            remover = threading.Thread(target=remove)
            remover.start()
            status, said = run(command.arguments(base().clean, results))
            stop.set()
            remover.join()
            if status:
                refused(status, said)
            nothing_half_written(results, command)
            succeeds(command, results)
    return count


FAULTS: list[Fault] = [
    ("full disk", full_disk, 2, 60),
    ("read-only results", read_only, 1, 30),
    ("permissions", permissions, 1, 30),
    ("unreadable inputs", unreadable, 3, 40),
    ("too many open files", open_files, 2, 60),
    ("unwritable homes", unwritable_homes, 1, 30),
    ("linked results", links, 1, 30),
    ("removed results", removed, 1, 60),
]
