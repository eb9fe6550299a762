"""``make chaos``: every fault, long. Prints how many were tried and survived, and what was lost or wrong: nothing may be.

``python -m tests.chaos [--short] [NAME …]``: only the faults whose names contain one of these; --short: as many as the tests try.
"""

import sys
import time
from importlib import import_module

from rich.console import Console
from rich.table import Table

from tests.chaos.outcome import Fault, Lost

# each has FAULTS
MODULES = ("kill", "determinism", "corruption", "concurrency", "environment", "bad_input")
SEED = 0


def faults() -> list[Fault]:
    """All of them, in the order in which they are run."""
    return [fault for name in MODULES for fault in import_module(f"tests.chaos.{name}").FAULTS]


def main(words: list[str]) -> int:
    """The exit status: 1 where anything was lost or wrong."""
    short, names = "--short" in words, [word for word in words if not word.startswith("-")]
    table = Table("fault", "tried", "survived", "lost", "wrong", "seconds")
    console, bad = Console(width=None if sys.stdout.isatty() else 120), []
    for what, function, few, many in faults():
        count = few if short else many
        if not count or (names and not any(name in what for name in names)):
            continue
        console.print(f"{what} …", highlight=False)
        started, lost, wrong = time.monotonic(), 0, 0
        try:
            tried = survived = function(count, SEED)
        except AssertionError as error:
            bad.append(f"{what}: {error}")
            tried, survived = 1, 0
            lost, wrong = (1, 0) if isinstance(error, Lost) else (0, 1)
        table.add_row(what, *(f"{n:,}" for n in (tried, survived, lost, wrong)), f"{time.monotonic() - started:.0f}")
    console.print(table)
    for line in bad:
        console.print(line, style="red", highlight=False)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
