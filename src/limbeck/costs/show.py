"""The plan of a run on the terminal."""

import math
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from limbeck.costs.rates import Rates
from limbeck.costs.summary import Line, Summary

WIDTH = 100
NUMBERS = ("jobs", "core hours", "GPU hours", "largest job", "on disk")


def show(found: Summary, rates: Rates, source: Path, console: Console | None = None) -> None:
    """Print a summary, in 100 columns, and what its hours are by."""
    out = console or Console(width=WIDTH, highlight=False, soft_wrap=False)
    table = Table("stage", *(_right(name) for name in NUMBERS), box=None, pad_edge=False)
    for line in found.lines:
        table.add_row(*_cells(line))
    table.add_section()
    table.add_row(*_cells(found.total), style="bold")
    out.print(table)
    machine = f"{found.cores} {_plural('core', found.cores)} and {found.gpus or 'no'} {_plural('GPU', found.gpus)}"
    out.print(f"\nOn {machine}: {hours(found.makespan_hours)}, each job as soon as there is room for it.")
    out.print(f"Longest chain of jobs: {hours(found.critical_hours)}, {_chain(found.critical)}.")
    for about, what in ((rates.cpu, "core"), *(((rates.cuda, "GPU"),) if found.gpus and rates.cuda else ())):
        out.print(f"A {what}: {about.name} ({'measured' if about.measured else 'NOT MEASURED HERE'}; {about.source}).")
    out.print(f"Rates are those of {source}; python -m benchmarks.rates measures this machine's.")
    if found.printed:
        papers = Table("figure", "the paper", "on", *map(_right, ("here: core hours", "GPU hours")), box=None, pad_edge=False)
        for each in found.printed:
            here = (number(each["cpu_hours"]), number(each["gpu_hours"])) if each["jobs"] else ("done", "")
            papers.add_row(f"{each['base']}: {each['what']}", each["hours"], each["hardware"], *here)
        out.print("\nOf one generation seed at the paper's IPC, here with this config's prior:")
        out.print(papers)
        out.print("; ".join(dict.fromkeys(each["where"] for each in found.printed)) + ".")


def number(value: float) -> str:
    """Of hours."""
    return "" if not value else "<0.01" if value < 0.01 else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def hours(value: float) -> str:
    """Days, hours, minutes or seconds, whichever is read best."""
    for limit, unit, name in ((48, 24.0, "days"), (1, 1.0, "h"), (1 / 60, 1 / 60, "min")):
        if value >= limit:
            return f"{value / unit:.3g} {name}"
    return f"{value * 3600:.2g} s"


def size(count: float) -> str:
    """Bytes in the largest unit of which there is one."""
    power = min(4, int(math.log10(max(count, 1)) / 3))
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _right(name: str) -> Column:
    return Column(name, justify="right")


def _cells(line: Line) -> tuple[str, ...]:
    largest, left = (size(value) if value else "" for value in (line.peak_mb * 2**20, line.disk_bytes))
    return (line.name, f"{line.jobs:,}", number(line.cpu_hours), number(line.gpu_hours), largest, left)


def _chain(steps: list[tuple[str, int, float]]) -> str:
    """The rules that it goes through, with their jobs and hours."""
    parts = (f"{rule}{f' x {count}' if count > 1 else ''} {hours(took)}" for rule, count, took in steps)
    return ", ".join(parts) or "nothing is to be done"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
