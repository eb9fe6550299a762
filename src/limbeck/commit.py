"""How files come to stand where others look for them: whole or not at all, and remembered with their hashes.

A killed process leaves what it was writing under a hidden name that ends in ``.part``. As long as the process lives its file is
locked, so that ``sweep`` can tell what is left over from what is being written, on other machines of a shared file system too.
"""

import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from limbeck.faults import PART, writing

# path -> SHA-256 of what this process has committed since the journal was opened; None: nobody asks
_journal: dict[Path, str] | None = None


def digest(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def journal() -> Iterator[dict[Path, str]]:
    """The hashes of all files committed meanwhile, by path."""
    global _journal
    before, _journal = _journal, {}
    try:
        yield _journal
    finally:
        _journal = before


def committed(path: Path) -> None:
    """Remember a file that has been put in its place."""
    if _journal is not None:
        _journal[path] = digest(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A fresh name beside ``path``; on success it is synced and renamed onto it, on an exception removed."""
    with writing(path):
        _make_way(path)
        part, handle = _locked(lambda: tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)[::-1])
        try:
            yield part
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(part, 0o644)
            os.replace(part, path)
            committed(path)
        finally:
            part.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder beside ``folder``, to be filled and moved from; what is left of it is removed."""

    def made() -> tuple[str, int]:
        name = tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PART, dir=folder.parent)
        return name, os.open(name, os.O_RDONLY)

    with writing(folder):
        _make_way(folder)
        part, handle = _locked(made)
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
            os.close(handle)


def _locked(make: Callable[[], tuple[str, int]]) -> tuple[Path, int]:
    """A new temporary, locked; one that was swept away before it was is made again."""
    while True:
        name, handle = make()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            swept = not os.path.lexists(name)
        except BlockingIOError:
            swept = True
        except OSError:  # a file system without locks, where nothing is swept
            swept = False
        if not swept:
            return Path(name), handle
        os.close(handle)


def sweep(root: Path) -> list[Path]:
    """Remove the temporaries below ``root`` whose processes have ended; returns them."""
    found = []
    for folder, folders, files in os.walk(root):
        left = [Path(folder, name) for name in (*folders, *files) if name.startswith(".") and name.endswith(PART)]
        found += [path for path in left if _removed(path)]
        folders[:] = [name for name in folders if not name.endswith(PART)]
    return found


def _make_way(path: Path) -> None:
    """A folder for ``path``, without what killed processes have left of it: a job may be tried again before the next sweep."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????{PART}"):  # tempfile's names have eight letters
        _removed(left)


def _removed(part: Path) -> bool:
    """Whether a temporary was left over and is gone now."""
    with suppress(OSError), _opened(part) as handle:  # committed or removed just now; in use; no locks there
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()
        return True
    return False


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def write_text(path: Path | str, text: str) -> None:
    """Write a small text file whole or not at all."""
    with replacing(Path(path)) as part:
        part.write_text(text, encoding="utf-8")
