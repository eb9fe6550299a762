"""paper: a paper's table as it is printed with our numbers beside it, as csv, markdown and a self-contained page."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.commit import write_text
from limbeck.records import read_json
from limbeck.report.cells import cell
from limbeck.report.page import render
from limbeck.report.statistics import summarise
from limbeck.report.table import Table, markdown
from limbeck.stages.common import Spec
from limbeck.stages.report import below

CSV_COLUMNS = ("row", "column", "paper", "paper_sd", "ours", "ours_sd", "difference", "missing", "not_ours")
FAILED = "failed trainings: in the cell's results, students/<protocol>/<student>.json"
KINDS = {"datasets": "data", "priors": "prior", "teachers": "teacher", "extractors": "extractor"}


@dataclass(frozen=True)
class Shown:
    """A cell: the printed number and ours in percent, as text; "" where there is none.

    missing: what ours lacks; why: why it is none of ours.
    """

    row: str
    column: str
    paper: str
    paper_sd: str
    ours: str
    ours_sd: str
    difference: str
    missing: Sequence[str]
    why: str

    @property
    def lacks(self) -> list[str]:
        """What is missing in as few words as a cell has room for: the kind and the name, of which the key in the config begins."""
        keys = (each.partition(":")[0].split(".") for each in self.missing)
        return list(dict.fromkeys(f"{KINDS.get(key[0], key[0])} {' '.join(key[1:2])}".strip() for key in keys))


def run(spec: Spec, page: Path) -> None:
    """Write ``page`` and the same as csv and markdown beside it, from the results that the spec names below ``<results>``.

    page: ``<results>/papers/<paper>/<table>.html``.
    """
    cells = [_shown(number, page.parents[2], spec["missing"]) for number in spec["numbers"]]
    by_place = {(each.row, each.column): each for each in cells}
    columns, rows = spec["columns"], spec["rows"]
    lines = [[row, *(_text(by_place[row, column]) for column in columns)] for row in rows]
    missing = list(dict.fromkeys(line for each in cells for line in each.missing))
    shown = {
        "spec": spec,
        "cells": by_place,
        "missing": missing,
        "reasons": _reasons(cells),
        "ours": sum(bool(each.ours) for each in cells),
        "asked": sum(bool(each.paper) and not each.why for each in cells),
    }
    write_text(page, render("paper.html.jinja", shown))
    write_text(page.with_suffix(".csv"), _csv(cells))
    head, table = f"{spec['paper']}, {spec['title']}: {spec['caption']}\n", markdown(Table([spec["title"], *columns], lines))
    notes = "".join(f"- {line}\n" for line in missing)
    write_text(page.with_suffix(".md"), "\n".join(filter(None, (head, table, notes))))


def _reasons(cells: Sequence[Shown]) -> dict[str, list[str]]:
    """Why a number is none of ours -> the columns that are so throughout, and the rows of other such places."""
    whole = {each.column for each in cells} - {each.column for each in cells if each.paper and not each.why}
    found: dict[str, list[str]] = {}
    for each in cells:
        if each.why and each.paper:
            found.setdefault(each.why, []).append(each.column if each.column in whole else each.row)
    return {why: list(dict.fromkeys(names)) for why, names in found.items()}


def _shown(number: Mapping[str, Any], results: Path, missing: Sequence[str]) -> Shown:
    found = _ours(below(results, number["files"]), number["class"]) if "files" in number else None
    digits = max(len(number["value"].partition(".")[2]), 1)
    mean, sd = (100 * each for each in found) if found else (math.nan, math.nan)
    lacks = [FAILED] if "files" in number and found is None else [missing[place] for place in number["missing"]]
    return Shown(
        row=number["row"],
        column=number["column"],
        paper=number["value"],
        paper_sd=number["sd"],
        ours=_printed(mean, digits),
        ours_sd=_printed(sd, digits),
        difference=_printed(mean - float(number["value"]), f"+.{digits}f") if number["value"] else "",
        missing=lacks,
        why=number.get("why", ""),
    )


def _printed(value: float, form: int | str) -> str:
    return "" if math.isnan(value) else format(value, f".{form}f" if isinstance(form, int) else form)


def _ours(files: Mapping[str, Sequence[Sequence[str]]], class_: int | None) -> tuple[float, float] | None:
    """Mean and sd over seeds and repeats, of the mean of students, the higher of protocols; of a class, where it names one."""
    every = []
    for place in range(len(next(iter(files.values())))):
        read = {int(seed): [read_json(path, "student") for path in found[place]] for seed, found in files.items()}
        students = [cell({seed: found[each] for seed, found in read.items()}) for each in range(len(next(iter(read.values()))))]
        if any(each.failures for each in students):
            return None
        if class_ is not None:
            every.append(students[0].per_class[class_])
        else:
            means = {seed: np.mean([each.accuracies[seed] for each in students], axis=0).tolist() for seed in read}
            last = summarise(means, students[0].test_images)
            every.append((last.mean, last.sd))
    return max(every)


def _text(shown: Shown) -> str:
    """A cell in a line: the paper's, then ours with the difference, or what is missing."""
    paper = _with_sd(shown.paper, shown.paper_sd) or "–"
    if shown.ours:
        return f"{paper}; ours {_with_sd(shown.ours, shown.ours_sd)} ({shown.difference})"
    return f"{paper}; missing: {', '.join(shown.lacks)}" if shown.missing else paper


def _with_sd(mean: str, sd: str) -> str:
    return f"{mean} ± {sd}" if sd else mean


def _csv(cells: Sequence[Shown]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for each in cells:
        fixed = [each.row, each.column, each.paper, each.paper_sd, each.ours, each.ours_sd, each.difference]
        writer.writerow([*fixed, "; ".join(each.missing), each.why])
    return text.getvalue()
