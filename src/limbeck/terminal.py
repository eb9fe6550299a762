"""What people should see at once, while a job's standard error goes to its log."""

import sys
from contextlib import suppress
from typing import TextIO

stream: TextIO | None = None  # the terminal, once standard error goes elsewhere


def say(line: str) -> None:
    """A line on standard error, which may be the log, and on the terminal."""
    for each in (sys.stderr, stream):
        # the log may be on the disk that is full
        with suppress(OSError):
            if each is not None:
                each.write(line + "\n")
                each.flush()
