"""``python -m benchmarks``: every figure as a ratio against a reference measured in the same run, with peak memory."""

import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    coresets,
    decode,
    discovery,
    encode_memory,
    group_sampling,
    manifold_cost,
    memory,
    metrics,
    pinned_threads,
    planning,
    rates,
    replicas,
    subgroup,
    tangent_kernel,
    typicality,
)

ALL = (
    *(rates, planning, pinned_threads, replicas, decode, encode_memory, memory, tangent_kernel, manifold_cost),
    *(discovery, group_sampling, subgroup, coresets, typicality, metrics),
)


def main() -> None:
    """Run all, print the table, write results/benchmarks.json."""
    lines: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for module in ALL:
            lines += module.run(Path(folder))
    table = Table("benchmark", "case", "seconds", "peak MB", "ratio", "of")
    for line in lines:
        numbers = (f"{line['seconds']:.3g}", f"{line['peak_mb']:.0f}", f"{line['ratio']:.2f}")
        table.add_row(str(line["benchmark"]), str(line["case"]), *numbers, str(line["of"]))
    Console(width=110).print(table)
    out = Path("results/benchmarks.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
