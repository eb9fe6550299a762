"""Faults of the machine that a user can mend: a full disk, missing permissions, too little memory. One line each, with the file."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limbeck.errors import LimbeckError

PART = ".part"  # how the names of temporary files and folders end
FULL = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "the file system or a limit (ulimit -f) takes no files of this size",
    errno.EROFS: "mount it for writing, or set 'results' to another folder",
}
REMEDIES = FULL | {
    errno.EACCES: "give yourself access (chmod, chown)",
    errno.EPERM: "give yourself access (chown, chattr)",
    errno.EMFILE: "raise the limit (ulimit -n)",
    errno.ENFILE: "raise the machine's limit (fs.file-max)",
    errno.ENOMEM: "give the job more memory (--set-resources RULE:mem_mb=N)",
    errno.ENAMETOOLONG: "set 'results' to a shorter path, or shorten the name",
    errno.EIO: "look after the disk or network file system",
    errno.ESTALE: "look after the network file system",
    errno.ENOTCONN: "look after the network file system",
    errno.ETIMEDOUT: "look after the network file system",
    errno.ELOOP: "mend the link",
    errno.ENOENT: "if it was removed while this ran, leave it alone",
    errno.ENOTDIR: "move the file that is where a folder belongs",
    errno.EEXIST: "move the file that is where a folder belongs",
    errno.EISDIR: "move the folder that is where a file belongs",
}
# how safetensors and torch say it
NUMBERED = re.compile(r"\(os error (\d+)\)")
NO_MEMORY = "can't allocate memory"


def explained(error: BaseException) -> str | None:
    """One line: which file, what is wrong, what to do; None where that is no fault of the machine."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY in str(error)):
        said = " ".join(str(error).split())
        return f"not enough memory{said and f' ({said[:200]})'}; {REMEDIES[errno.ENOMEM]}, then run again"
    if not isinstance(error, OSError) or error.errno not in REMEDIES:
        return None
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{where}{os.strerror(error.errno).lower()}; {REMEDIES[error.errno]}, then run again"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Faults while a file or folder is written get its name, where they have none or that of a temporary one.

    Raises
    ------
    OSError: also for what safetensors raises.
    """
    try:
        yield
    except OSError as error:
        # a copy names what it read first
        if error.errno in FULL or PART in f"{error.filename}{error.filename2}":
            error.filename, error.filename2 = str(path), None
        raise
    except Exception as error:
        if found := NUMBERED.search(str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
        raise


def check_writable(results: Path) -> None:
    """Before the first job: a results folder in which files can be written; it is made where there is none.

    Raises
    ------
    LimbeckError: the key, the folder and what is wrong.
    """
    try:
        with writing(results):
            results.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".", suffix=PART, dir=results) as file:
                file.write(bytes(4096))
    except OSError as error:
        raise LimbeckError(f"results: {explained(error) or error}") from None
