"""report: the table of a dataset at an IPC as csv, markdown and a self-contained page, with a grid of images."""

import base64
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from limbeck.artifacts import DISTILLED
from limbeck.report.grid import method_strip, save_grid
from limbeck.report.statistics import summarise
from limbeck.report.table import (
    Row,
    cells,
    differences,
    differences_markdown,
    every_metric,
    headings,
    label,
    percent,
    to_csv,
    to_markdown,
)
from limbeck.stages.common import Spec, classes_of, read_all
from limbeck.stages.diagnostics import gather
from limbeck.store import read_json, replacing, write_text

REFERENCES = ("full", "subset")
GRID_ROWS = 3


def run(spec: Spec, folder: Path) -> None:
    """Write summary.csv, summary.md, summary.html and grid.png into ``folder``, from the artifacts that the spec names."""
    rows, per_class, test_images = _rows(spec)
    students, extractor = spec["students"], spec["extractors"][0]
    classes = classes_of(next(iter(spec["distilled"].values()))[0])
    with replacing(folder / "grid.png") as part:
        _grid(spec, classes, part)
    pairs = {student: differences(rows, student) for student in students}
    write_text(folder / "summary.csv", to_csv(rows, spec["protocol"]))
    write_text(folder / "summary.md", _markdown(spec, rows, pairs, test_images))
    last = rows[-1].summary[students[0]]
    page = Environment(loader=PackageLoader("limbeck", "report"), autoescape=True, undefined=StrictUndefined).get_template(
        "page.html.jinja"
    )
    html = page.render(
        dataset=spec["dataset"],
        ipc=spec["ipc"],
        protocol=spec["protocol"],
        extractor=extractor,
        test_images=test_images,
        binomial=percent(last.binomial),
        seeds=last.seeds,
        repeats=last.repeats,
        first_seed=spec["first_seed"],
        headings=headings(students),
        metrics=every_metric(rows),
        differences=pairs,
        classes=classes,
        diagnostics=gather(spec, {row.name: row.summary[students[0]].mean for row in rows}),
        grid=base64.b64encode((folder / "grid.png").read_bytes()).decode(),
        rows=[
            {
                "label": label(row),
                "reference": row.reference,
                "cells": cells(row, students, extractor),
                "accuracy": f"{percent(row.summary[students[0]].mean)} %",
                "prior": row.prior,
                "options": row.options,
                "per_class": per_class[row.name],
            }
            for row in rows
        ],
    )
    write_text(folder / "summary.html", html)


def _rows(spec: Spec) -> tuple[list[Row], dict[str, list[float]], int]:
    rows, per_class, test_images = [], {}, 0
    for name in spec["order"]:
        folders = spec["cells"][name]
        accuracies: dict[str, dict[int, list[float]]] = {student: {} for student in spec["students"]}
        by_class: list[list[float]] = []
        metrics: list[dict[str, Any]] = []
        for seed, folder in folders.items():
            metrics.append({})
            for extractor in spec["extractors"]:
                metrics[-1] |= read_json(Path(folder) / f"metrics/{extractor}.json", "metrics")
            for student in spec["students"]:
                found: dict[str, Any] = read_json(Path(folder) / "students" / spec["protocol"] / f"{student}.json", "student")
                accuracies[student][int(seed)] = [r["accuracy"] for r in found["repeats"]]
                test_images = found["test_images"]
                if student == spec["students"][0]:
                    by_class += [r["per_class"] for r in found["repeats"]]
        per_class[name] = [statistics.fmean(column) for column in zip(*by_class, strict=True)]
        means = {key: _mean([m[key] for m in metrics]) for key in metrics[0] if key != "images"}
        described = spec["rows"][name]
        rows.append(
            Row(
                name=name,
                prior=described["prior"],
                reference=name in REFERENCES,
                images=int(metrics[0]["images"]),
                accuracies=accuracies,
                summary={student: summarise(a, test_images) for student, a in accuracies.items()},
                metrics=means,
                options=json.dumps(described["options"], sort_keys=True),
            )
        )
    return rows, per_class, test_images


def _mean(values: Sequence[float | None]) -> float:
    """Over seeds; nan where any is undefined."""
    return statistics.fmean(math.nan if value is None else value for value in values)


def _grid(spec: Spec, classes: Sequence[str], path: Path) -> None:
    strips = {}
    for name in spec["order"]:
        if name in spec["distilled"]:
            images, labels = read_all(spec["distilled"][name], DISTILLED, "images", "labels")
            strips[name] = method_strip(images, labels, GRID_ROWS)
    save_grid(path, strips, classes)


def _markdown(spec: Spec, rows: list[Row], pairs: dict, test_images: int) -> str:
    a = rows[-1].summary[spec["students"][0]]
    text = [
        f"## {spec['dataset']}, {spec['ipc']} images per class\n",
        f"Protocol {spec['protocol']}, {test_images} test images, {a.seeds} generation seeds × {a.repeats} training repeats, "
        f"accuracy at the last step, mean ± sd; binomial standard error {percent(a.binomial)} points. "
        f"Metrics with the extractor `{spec['extractors'][0]}`.\n",
        to_markdown(rows, spec["students"], spec["extractors"][0]),
    ]
    for student, found in pairs.items():
        if found:
            text += [f"Paired differences over shared seeds, {student}:\n", differences_markdown(found)]
    return "\n".join(text)
