"""``python -m benchmarks [NAME …]``: every figure as a ratio against a reference measured in the same run, with peak memory.

NAME: modules of this folder, all of ALL where none is named. *floor*: the share of the time that the counted arithmetic takes at
the rates measured in the same run. *products*: the share of a network's time inside torch's products. *growth*: exponents, how the
time grows with each size. *target*: what was asked of it before it was written, and whether it is met.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    coresets,
    decode,
    discovery,
    encode_memory,
    group_sampling,
    kernels,
    manifold_cost,
    memory,
    metrics,
    overhead,
    pinned_threads,
    planning,
    rates,
    replicas,
    subgroup,
    tangent_kernel,
    typicality,
)
from benchmarks.measure import Line

ALL = (
    *(rates, planning, pinned_threads, replicas, decode, encode_memory, memory, tangent_kernel, manifold_cost),
    *(discovery, group_sampling, subgroup, coresets, typicality, metrics, kernels, overhead),
)


HEADER = ("benchmark", "case", "seconds", "peak MB", "ratio", "of", "target", "floor", "products", "growth")
RIGHT = {"seconds", "peak MB", "ratio", "floor", "products"}


def row(line: Line) -> list[str]:
    """A line's cells, as HEADER has them."""
    seconds = line["seconds"]
    numbers = (f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}", f"{line['peak_mb']:.0f}", f"{line['ratio']:.2f}")
    shares = (f"{100 * line[name]:.0f} %" if name in line else "" for name in ("floor", "products"))
    target = f"{line['target']}: {'met' if line['met'] else 'missed'}" if "target" in line else ""
    growth = ", ".join(f"{size} {exponent:.1f}" for size, exponent in line.get("growth", {}).items())
    return [line["benchmark"], line["case"], *numbers, line["of"], target, *shares, growth]


def markdown(lines: Sequence[Line]) -> str:
    """The same table for docs/PERFORMANCE.md."""
    rule = ["--:" if name in RIGHT else "---" for name in HEADER]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (list(HEADER), rule, *map(row, lines)))


def main(names: list[str]) -> None:
    """Run them, print the table, write results/benchmarks.json and .md."""
    known = {module.__name__.rpartition(".")[2]: module for module in ALL}
    if unknown := set(names) - set(known):
        raise SystemExit(f"no benchmark {sorted(unknown)}; choose of {sorted(known)}")
    lines: list[Line] = []
    out = Path("results/benchmarks.json")
    out.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for module in [known[name] for name in names] or ALL:
            lines += module.run(Path(folder))
            out.write_text(json.dumps(lines, indent=1) + "\n")  # a later one may fail
            out.with_suffix(".md").write_text(markdown(lines))
    table = Table(*HEADER)
    for line in lines:
        table.add_row(*row(line), style=None if line.get("met", True) else "red")
    Console(width=180).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
