"""report: the tables of a dataset at an IPC as csv, markdown and a self-contained page, with a grid of images."""

import base64
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from limbeck.artifacts import DISTILLED
from limbeck.commit import replacing, write_text
from limbeck.methods import FULL
from limbeck.records import read_json
from limbeck.report.cells import Cell, Column, cell, percent
from limbeck.report.comparisons import compare, difference_table, differences_markdown, standings, standings_markdown
from limbeck.report.ddranking import HARD, Kinds
from limbeck.report.grid import method_strip, save_grid
from limbeck.report.table import SUBSET, Row, Table, every_metric, further_table, label, main_table, markdown, title, to_csv
from limbeck.stages.common import Spec, classes_of
from limbeck.stages.diagnostics import gather
from limbeck.store import Artifact

GRID_ROWS, GRID_CLASSES = 3, 20
# what of the spec is paths
PATHS = (
    *("cells", "distilled", "prototypes", "statistics", "subgroups", "features", "embedding", "scores", "real_features"),
    *("sampling", "tangents", "weights"),  # sidecars
)


def run(spec: Spec, folder: Path) -> None:
    """Write summary.csv, summary.md, summary.html and grid.png into ``folder``, from the artifacts that the spec names.

    folder: ``<results>/<dataset>/ipc<N>``; the spec's paths are below ``<results>``.
    """
    spec = {key: _below(folder.parents[1], value) if key in PATHS else value for key, value in spec.items()}
    rows, columns = _rows(spec), _columns(spec)
    kinds: Kinds = {name: (labels, augmented) for name, (labels, augmented) in spec["protocol_kinds"].items()}
    classes = classes_of(next(iter(spec["distilled"].values()))[0])
    with replacing(folder / "grid.png") as part:
        _grid(spec, classes, part)
    means = {row.name: mean for row in rows if (mean := row.cells[columns[0]].mean) is not None}
    compared = {column: found for column in columns if (found := compare(rows, column))}
    shown: dict[str, Any] = {
        "spec": spec,
        "tested": _tested(rows, columns[0]),
        "main": main_table(rows, columns, spec["extractors"][0]),
        "further": further_table(rows, columns, kinds, spec["dataset"], spec["ipc"]),
        "failures": _failures(rows, columns),
        "compared": {title(column, columns): found for column, found in compared.items()},
        "standings": standings(rows, compared),
        "diagnostics": gather(spec, means, _label_bytes(rows)),
    }
    write_text(folder / "summary.csv", to_csv(rows, kinds))
    write_text(folder / "summary.md", _markdown(shown))
    html = _page().render(
        **shown,
        differences={name: difference_table(found) for name, found in shown["compared"].items()},
        metrics=every_metric(rows),
        per_class={title(column, columns): _per_class(rows, column, classes) for column in columns},
        grid=base64.b64encode((folder / "grid.png").read_bytes()).decode(),
        references=[label(row) for row in rows if row.reference],
        options=[(label(row), row.prior, row.options) for row in rows],
    )
    write_text(folder / "summary.html", html)


def _below(results: Path, found: Any) -> Any:
    """Nested lists and mappings of paths, with where the results are."""
    if isinstance(found, Mapping):
        return {key: _below(results, value) for key, value in found.items()}
    return str(results / found) if isinstance(found, str) else [_below(results, value) for value in found]


def _page() -> Any:
    loader = PackageLoader("limbeck", "report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("page.html.jinja")


def _columns(spec: Spec) -> list[Column]:
    return [(protocol, student) for protocol in spec["protocols"] for student in spec["students"]]


def _rows(spec: Spec) -> list[Row]:
    rows = []
    for name in spec["order"]:
        folders = spec["cells"][name]
        metrics: list[dict[str, Any]] = [_metrics(Path(folder), spec["extractors"]) for folder in folders.values()]
        means = {key: _mean([m[key] for m in metrics]) for key in metrics[0] if key != "images"}
        described = spec["rows"][name]
        rows.append(
            Row(
                name=name,
                prior=described["prior"],
                reference=name in (FULL, SUBSET),
                images=int(metrics[0]["images"]),
                cells={column: _cell(folders, column) for column in _columns(spec)},
                metrics=means,
                options=json.dumps(described["options"], sort_keys=True),
                paper=described["paper"],
            )
        )
    return rows


def _cell(folders: Mapping[str, str], column: Column) -> Cell:
    protocol, student = column
    return cell(
        {int(seed): read_json(Path(at) / "students" / protocol / f"{student}.json", "student") for seed, at in folders.items()}
    )


def _metrics(cell: Path, extractors: Sequence[str]) -> dict[str, Any]:
    """All metrics of a cell by name, None where one is undefined."""
    found: dict[str, Any] = {}
    for extractor in extractors:
        found |= read_json(cell / f"metrics/{extractor}.json", "metrics")
    return found


def _mean(values: Sequence[float | None]) -> float:
    """Over seeds; nan where any is undefined."""
    return statistics.fmean(math.nan if value is None else value for value in values)


def _grid(spec: Spec, classes: Sequence[str], path: Path) -> None:
    """The first images of every class, or of some at even distances; no others are read."""
    shown = np.unique(np.linspace(0, len(classes) - 1, GRID_CLASSES).round().astype(int))
    strips = {}
    for name in spec["order"]:
        if name in spec["distilled"]:
            images: list[np.ndarray] = []
            labels: list[np.ndarray] = []
            for shard in spec["distilled"][name]:
                with Artifact(shard, DISTILLED) as source:
                    found = source["labels"]
                    rows = [np.flatnonzero(found == c)[:GRID_ROWS] for c in shown if c in found]
                    images += [source.take("images", own) for own in rows]
                    labels += [found[own] for own in rows]
            strips[name] = method_strip(np.concatenate(images), np.concatenate(labels), GRID_ROWS)
    save_grid(path, strips, [classes[c] for c in shown])


def _tested(rows: Sequence[Row], column: Column) -> dict[str, Any]:
    """How the last row with an accuracy was tested."""
    found = next((row.cells[column] for row in reversed(rows) if row.cells[column].last), rows[-1].cells[column])
    binomial = percent(found.last.binomial if found.last else None)
    size = {"images": found.test_images, "seeds": found.seeds, "repeats": found.repeats}
    return {**size, "accuracy": percent(found.mean), "binomial": binomial}


def _failures(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """Every training that failed, and why."""
    lines = [
        [label(row), *column, str(each.seed), str(each.repeat), each.reason]
        for row in rows
        for column in columns
        for each in row.cells[column].failures
    ]
    return Table(["failed training of", "protocol", "student", "seed", "repeat", "reason"], lines)


def _label_bytes(rows: Sequence[Row]) -> dict[str, int | None]:
    """Row -> what the labels of its first soft protocol take, None where a teacher is asked on the way; hard ones take nothing."""
    soft = {row.name: [found.labels for found in row.cells.values() if found.labels["kind"] != HARD] for row in rows}
    return {name: labels[0]["bytes"] for name, labels in soft.items() if labels}


def _per_class(rows: Sequence[Row], column: Column, classes: Sequence[str]) -> Table:
    """Mean ± sd over all trainings (ManifoldGD, Table 6)."""
    lines = []
    for row in rows:
        found = row.cells[column].per_class
        lines.append([label(row), *(f"{percent(mean)} ± {percent(sd)}" for mean, sd in found or [])])
    return Table(["method", *classes], [line if len(line) > 1 else line + ["–"] * len(classes) for line in lines])


def _markdown(shown: Mapping[str, Any]) -> str:
    spec, tested = shown["spec"], shown["tested"]
    text = [
        f"## {spec['dataset']}, {spec['ipc']} images per class\n",
        f"Protocol {', '.join(spec['protocols'])}, {tested['images']} test images, {tested['seeds']} generation seeds × "
        f"{tested['repeats']} training repeats, accuracy at the last epoch, mean ± sd; binomial standard error "
        f"{tested['binomial']} points. Metrics with the extractor `{spec['extractors'][0]}`.\n",
        markdown(shown["main"]),
    ]
    if shown["failures"].lines:
        text += ["Failed trainings; their rows take no part in what follows:\n", markdown(shown["failures"])]
    if len(shown["further"].headings) > 1:
        rules = "*selected* at the epoch best on held-out real images, *best on test* as papers report"
        text += [f"By other rules than accuracy at the last epoch, in %: {rules}.\n", markdown(shown["further"])]
    if shown["diagnostics"].soft:
        storage = Table(["storage, kB", "images", "soft labels"], [line[:3] for line in shown["diagnostics"].storage])
        text.append(markdown(storage))
    for name, pairs in shown["compared"].items():
        text += [f"Paired differences over shared seeds, {name}:\n", differences_markdown(pairs)]
    if shown["standings"].lines:
        text += ["Mean rank and wins/ties/losses, a win being a resolved difference:\n", standings_markdown(shown["standings"])]
    return "\n".join(text)
