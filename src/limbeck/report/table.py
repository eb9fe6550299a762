"""The summary tables, as csv and as rows of text for markdown and page."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limbeck.methods import FULL
from limbeck.report import ddranking, published
from limbeck.report.cells import Cell, Column, outcome, percent, printed
from limbeck.report.ddranking import Kinds
from limbeck.report.statistics import Accuracy

SUBSET = "subset"
REFERENCES = {FULL: "real training set", SUBSET: "real subset, same size"}  # rows that are no methods, as printed
ACCURACY = " accuracy %"  # ends the headings of accuracies at the last epoch
# metric, heading, digits; lower or higher is better
SHOWN = (
    ("fd", "FD ↓", 2),
    ("l2", "L2 ↓", 2),
    ("mmd", "MMD ↓", 4),
    ("rep_class", "Rep ↑", 3),
    ("div_class", "Div ↑", 3),
    ("agreement", "agree", 3),
)

# accuracy and its spreads are fractions; the metrics' names follow
CSV_COLUMNS: tuple[str, ...] = (
    *("method", "reference", "prior", "images", "protocol", "student", "seeds", "repeats"),
    *("accuracy", "sd", "sd_seed", "sd_repeat", "binomial_se"),
    *("selected", "selected_sd", "best_on_test", "best_on_test_sd", "failed", "failure"),
    *("test_images", "labels", "teacher", "label_bytes", "lrs", "ars"),
)


@dataclass(frozen=True)
class Row:
    """One line of the table. ``reference`` rows are not methods; ``paper``: what papers call it, where they have it."""

    name: str
    prior: str
    reference: bool
    images: int
    cells: Mapping[Column, Cell]
    metrics: Mapping[str, float | None]
    options: str
    paper: str


@dataclass(frozen=True)
class Scores:
    """DD-Ranking's two scores of a row and student, and the higher of its accuracies under hard and soft labels."""

    lrs: float | None
    ars: float | None
    highest: tuple[float, str] | None


@dataclass(frozen=True)
class Table:
    """Titles and lines of text."""

    headings: Sequence[str]
    lines: list[list[str]]


def markdown(table: Table) -> str:
    """In GitHub's markdown."""
    lines = [table.headings, ["---"] + ["--:"] * (len(table.headings) - 1), *table.lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def label(row: Row) -> str:
    """The row's name as printed."""
    return printed_name(row.name) if row.reference else row.name


def printed_name(row: str) -> str:
    """A reference's name in words, a method's as it is."""
    return REFERENCES.get(row, row)


def title(column: Column, columns: Sequence[Column]) -> str:
    """A column's name: the student's, with the protocol where a table has several."""
    protocol, student = column
    return student if len({protocol for protocol, _ in columns}) == 1 else f"{student}, {protocol}"


def main_table(rows: Sequence[Row], columns: Sequence[Column], extractor: str, dataset: str, ipc: int) -> Table:
    """Accuracy at the last epoch with both spreads apart, the papers' own where they have the cell, and the metrics."""
    found: list[tuple[str, list[str]]] = [("method", list(map(label, rows))), ("images", [str(row.images) for row in rows])]
    for column in columns:
        name, last = title(column, columns), [row.cells[column].last for row in rows]
        found.append((f"{name}{ACCURACY}", [outcome(row.cells[column]) for row in rows]))
        found.append(("sd seeds", [percent(each.sd_seed if each else None) for each in last]))
        found.append(("sd repeats", [percent(each.sd_repeat if each else None) for each in last]))
        papers = ["; ".join(map(str, published.lookup(dataset, ipc, *column, row.paper))) or "–" for row in rows]
        found += [(f"{name}, published", papers)] if set(papers) != {"–"} else []
    found += [(heading, [_metric(row, name, extractor, digits) for row in rows]) for name, heading, digits in SHOWN]
    return Table([heading for heading, _ in found], [list(line) for line in zip(*(values for _, values in found), strict=True)])


def _metric(row: Row, name: str, extractor: str, digits: int) -> str:
    """A metric as printed; a dash where it is undefined, or the extractor has none of that name."""
    fid = row.metrics.get(f"fid_{extractor}") if name == "fd" else None
    return _number(row.metrics.get(f"{name}_{extractor}", fid), f".{digits}f") or "–"


def every_metric(rows: Sequence[Row]) -> Table:
    """All metrics of all extractors, a line each."""
    names = sorted(rows[0].metrics)
    lines = [[name, *(_number(row.metrics[name], ".4g") or "–" for row in rows)] for name in names]
    return Table(["metric", *map(label, rows)], lines)


def _number(value: float | None, form: str) -> str:
    """A number as text; "" where it is undefined."""
    return "" if value is None or math.isnan(value) else f"{value:{form}}"


def further_table(rows: Sequence[Row], columns: Sequence[Column], kinds: Kinds) -> Table:
    """Percentages at the epoch picked on held-out images and at the best on test, hard or soft; and DD-Ranking.

    A column in which no row has anything is left out.
    """
    found: list[tuple[str, list[str]]] = []
    for column in columns:
        name = title(column, columns)
        found.append((f"{name}, selected", [printed(row.cells[column].selected) for row in rows]))
        found.append((f"{name}, best on test", [printed(row.cells[column].best) for row in rows]))
    for student in dict.fromkeys(student for _, student in columns):
        own = scores(rows, student, kinds)
        higher = [f"{percent(best[0])} ({best[1]})" if (best := own[row.name].highest) else "–" for row in rows]
        found.append((f"{student}, higher of hard and soft", higher))
        found.append((f"{student}, LRS", [_number(own[row.name].lrs, ".1f") or "–" for row in rows]))
        found.append((f"{student}, ARS", [_number(own[row.name].ars, ".1f") or "–" for row in rows]))
    kept = [(name, values) for name, values in found if set(values) != {"–"}]
    lines = zip(map(label, rows), *(values for _, values in kept), strict=True)
    return Table(["method", *(name for name, _ in kept)], [list(line) for line in lines])


def scores(rows: Sequence[Row], student: str, kinds: Kinds) -> dict[str, Scores]:
    """Of every row. The whole training set is no set of its size, so it has neither of DD-Ranking's."""
    means = {row.name: {name: mean for name in kinds if (mean := row.cells[name, student].mean) is not None} for row in rows}
    full, random = means.get(FULL, {}), means.get(SUBSET, {})
    out = {}
    for name, own in means.items():
        ranked = {} if name == FULL else own
        found = ddranking.lrs(ranked, full, random, kinds), ddranking.ars(ranked, random, kinds)
        out[name] = Scores(*found, ddranking.highest(own, kinds))
    return out


def to_csv(rows: Sequence[Row], kinds: Kinds) -> str:
    """One line per row, protocol and student, every number in full; what there is not is left blank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = sorted(rows[0].metrics)
    writer.writerow([*CSV_COLUMNS, *names])
    ranked = {student: scores(rows, student, kinds) for _, student in rows[0].cells}
    for row in rows:
        for (protocol, student), cell in row.cells.items():
            own = ranked[student][row.name]
            fixed = [row.name, int(row.reference), row.prior, row.images, protocol, student, cell.seeds, cell.repeats]
            values = [_number(value, ".6f") for value in (*_accuracies(cell), own.lrs, own.ars)]
            reasons = "; ".join(f"seed {each.seed}, repeat {each.repeat}: {each.reason}" for each in cell.failures)
            labels = [cell.labels["kind"], cell.labels.get("teacher", ""), cell.labels.get("bytes")]
            told = [len(cell.failures), reasons, cell.test_images, *labels]
            writer.writerow([*fixed, *values[:-2], *told, *values[-2:], *(_number(row.metrics[name], ".6g") for name in names)])
    return text.getvalue()


def _accuracies(cell: Cell) -> list[float | None]:
    """In the csv's order."""
    last, selected, best = cell.last, cell.selected, cell.best
    spreads: list[float | None] = [last.sd, last.sd_seed, last.sd_repeat, last.binomial] if last else [None] * 4
    return [cell.mean, *spreads, *_mean_sd(selected), *_mean_sd(best)]


def _mean_sd(accuracy: Accuracy | None) -> tuple[float | None, float | None]:
    return (None, None) if accuracy is None else (accuracy.mean, accuracy.sd)
