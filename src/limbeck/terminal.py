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


def complain(said: str) -> None:
    """An error's line, where ``say`` writes; in colour where that is a terminal."""
    for each in (sys.stderr, stream):
        with suppress(OSError):
            if each is not None and each.isatty():
                from rich.console import Console
                from rich.text import Text

                Console(file=each).print(Text.assemble(("limbeck: error: ", "bold red"), said), soft_wrap=True)
            elif each is not None:
                each.write(f"limbeck: error: {said}\n")
                each.flush()
