"""overview: a dataset's accuracies over all IPCs of a run, as one self-contained page."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.commit import write_text
from limbeck.report import published
from limbeck.report.cells import Cell, Column, outcome
from limbeck.report.diagnostics import curve_figure, styles_of
from limbeck.report.page import render
from limbeck.report.table import REFERENCES, Table, printed_name, title
from limbeck.stages.common import Spec
from limbeck.stages.report import below, columns_of, read_cell

Cells = dict[int, dict[str, Cell]]  # IPC -> row


def run(spec: Spec, page: Path) -> None:
    """Write ``page``, ``<results>/<dataset>/summary.html``, from the student results that the spec names below ``<results>``."""
    folders = below(page.parents[1], spec["cells"])
    columns, styles = columns_of(spec), styles_of(spec["order"], list(REFERENCES))
    parts = []
    for column in columns:
        found: Cells = {int(ipc): {row: read_cell(at, column) for row, at in rows.items()} for ipc, rows in folders.items()}
        curves = {
            row: {ipc: (last.mean, last.sd) for ipc, rows in found.items() if row in rows and (last := rows[row].last)}
            for row in spec["order"]
        }
        drawn = {row: curve for row, curve in curves.items() if curve}
        name = title(column, columns)
        parts.append((name, curve_figure("-".join(column), drawn, styles) if drawn else "", _table(spec, found, column)))
    first = next(iter(found.values()))[spec["order"][0]]
    shown = {
        "spec": spec,
        "parts_of_page": parts,
        "ipcs": list(found),
        "names": {printed_name(row): row for row in spec["order"]},
        "colours": {row: colour for row, (colour, _) in styles.items()},
        "test_images": first.test_images,
    }
    write_text(page, render("overview.html.jinja", shown))


def _table(spec: Spec, found: Cells, column: Column) -> Table:
    """A line per row: its accuracy at every IPC, and what papers say of it there."""
    headings, lines = ["method"], [[printed_name(row)] for row in spec["order"]]
    for ipc, rows in found.items():
        papers = [_papers(spec, ipc, column, row) for row in spec["order"]]
        headings.append(f"IPC {ipc}")
        for line, row in zip(lines, spec["order"], strict=True):
            line.append(outcome(rows[row]) if row in rows else "–")
        if set(papers) != {"–"}:
            headings.append(f"IPC {ipc}, published")
            for line, said in zip(lines, papers, strict=True):
                line.append(said)
    return Table(headings, lines)


def _papers(spec: Spec, ipc: int, column: Column, row: str) -> str:
    known: Sequence[published.Published] = published.lookup(spec["dataset"], ipc, *column, spec["papers"][str(ipc)].get(row, ""))
    return "; ".join(map(str, known)) or "–"
