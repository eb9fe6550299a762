"""report: the tables of a dataset at an IPC as csv, markdown and a self-contained page, with a grid of images."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from limbeck.artifacts import DISTILLED
from limbeck.commit import replacing, write_text
from limbeck.records import SIDECAR, read_json, read_sidecar
from limbeck.report.cells import Cell, Column, cell, percent
from limbeck.report.comparisons import compare, difference_table, differences_markdown, standings, standings_markdown
from limbeck.report.ddranking import HARD, Kinds
from limbeck.report.diagnostics import styles_of
from limbeck.report.grid import method_strip, save_grid
from limbeck.report.page import render
from limbeck.report.pictures import confusion, thumbnail, thumbnails
from limbeck.report.table import (
    ACCURACY,
    REFERENCES,
    Row,
    Table,
    every_metric,
    further_table,
    label,
    main_table,
    markdown,
    title,
    to_csv,
)
from limbeck.stages.common import Spec, classes_of
from limbeck.stages.diagnostics import gather
from limbeck.store import Artifact

GRID_ROWS, GRID_CLASSES = 3, 20
LISTED_CONFUSIONS = 3
READABLE = 20  # classes up to which a confusion matrix is also given in numbers
# what of the spec is paths
PATHS = (
    *("cells", "distilled", "prototypes", "statistics", "subgroups", "features", "embedding", "scores", "real_features"),
    *("sampling", "tangents", "weights"),  # sidecars
)


def run(spec: Spec, folder: Path) -> None:
    """Write summary.csv, summary.md, summary.html and grid.png into ``folder``, from the artifacts that the spec names.

    folder: ``<results>/<dataset>/ipc<N>``; the spec's paths are below ``<results>``.
    """
    cells = spec["cells"]
    spec = {key: below(folder.parents[1], value) if key in PATHS else value for key, value in spec.items()}
    rows, columns = _rows(spec), columns_of(spec)
    kinds: Kinds = {name: (labels, augmented) for name, (labels, augmented) in spec["protocol_kinds"].items()}
    classes = classes_of(next(iter(spec["distilled"].values()))[0])
    chosen = np.unique(np.linspace(0, len(classes) - 1, GRID_CLASSES).round().astype(int))
    pictures = _pictures(spec, chosen)
    with replacing(folder / "grid.png") as part:
        _grid(pictures, [classes[c] for c in chosen], part)
    outcomes = {row.name: (last.mean, last.sd) for row in rows if (last := row.cells[columns[0]].last) is not None}
    compared = {column: found for column in columns if (found := compare(rows, column))}
    styles = styles_of(spec["order"], list(REFERENCES))
    main = main_table(rows, columns, spec["extractors"][0], spec["dataset"], spec["ipc"])
    shown: dict[str, Any] = {
        "spec": spec,
        "tested": _tested(rows, columns[0]),
        "main": main,
        "further": further_table(rows, columns, kinds),
        "failures": _failures(rows, columns),
        "compared": {title(column, columns): found for column, found in compared.items()},
        "standings": standings(rows, compared),
        "diagnostics": gather(spec, outcomes, _label_bytes(rows), styles, [classes[c] for c in chosen]),
    }
    write_text(folder / "summary.csv", to_csv(rows, kinds))
    write_text(folder / "summary.md", _markdown(shown))
    html = render(
        "page.html.jinja",
        {
            **shown,
            "rows": rows,
            "names": {label(row): row.name for row in rows},
            "labels": {row.name: label(row) for row in rows},
            "colours": {row: colour for row, (colour, _) in styles.items()},
            "spans": _spans(rows, columns, main),
            "differences": {name: difference_table(found) for name, found in shown["compared"].items()},
            "metrics": every_metric(rows),
            "per_class": {title(column, columns): _per_class(rows, column, classes) for column in columns},
            "confusions": {title(column, columns): _confusions(rows, column, classes) for column in columns},
            "classes": [classes[c] for c in chosen],
            "every": len(classes),
            "gallery": _gallery(pictures, len(chosen)),
            "made_by": {name: _origin(spec, cells, name) for name in spec["order"]},
        },
    )
    write_text(folder / "summary.html", html)


def below(results: Path, found: Any) -> Any:
    """Nested lists and mappings of paths, with where the results are."""
    if isinstance(found, Mapping):
        return {key: below(results, value) for key, value in found.items()}
    return str(results / found) if isinstance(found, str) else [below(results, value) for value in found]


def columns_of(spec: Spec) -> list[Column]:
    """(protocol, student) of every accuracy that a table has."""
    return [(protocol, student) for protocol in spec["protocols"] for student in spec["students"]]


def _rows(spec: Spec) -> list[Row]:
    rows = []
    for name in spec["order"]:
        folders = spec["cells"][name]
        metrics: list[dict[str, Any]] = [_metrics(Path(folder), spec["extractors"]) for folder in folders.values()]
        means = {key: _mean([m[key] for m in metrics]) for key in metrics[0] if key != "images"}
        described = spec["rows"][name]
        options = described["options"]
        rows.append(
            Row(
                name=name,
                prior=described["prior"],
                reference=name in REFERENCES,
                images=int(metrics[0]["images"]),
                cells={column: read_cell(folders, column) for column in columns_of(spec)},
                metrics=means,
                options="\n".join(f"{part}: {json.dumps(how, sort_keys=True)}" for part, how in options.items() if how),
                paper=described["paper"],
            )
        )
    return rows


def read_cell(folders: Mapping[str, str], column: Column) -> Cell:
    """A row's results under a protocol and student, from seed -> its folder."""
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


def _pictures(spec: Spec, chosen: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Row -> (images, labels): the first of every chosen class in the first seed's set, as many as the page can show."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in (row for row in spec["order"] if row in spec["distilled"]):
        images: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for shard in spec["distilled"][name]:
            with Artifact(shard, DISTILLED) as source:
                own = source["labels"]
                most = thumbnails(source.shape("images")[1:], len(chosen) * len(spec["distilled"]))
                rows = [np.flatnonzero(own == c)[: max(most, GRID_ROWS)] for c in chosen if c in own]
                images += [source.take("images", each) for each in rows]
                labels += [own[each] for each in rows]
        found[name] = np.concatenate(images), np.concatenate(labels)
    return found


def _grid(pictures: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str], path: Path) -> None:
    strips = {name: method_strip(images, labels, GRID_ROWS) for name, (images, labels) in pictures.items()}
    save_grid(path, strips, classes)


@dataclass(frozen=True)
class Gallery:
    """Row -> for every shown class its images as data URIs; their width and height in pixels, and how many an overview shows."""

    rows: Mapping[str, Sequence[Sequence[str]]]
    width: int
    height: int
    few: int


def _gallery(pictures: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: int) -> Gallery:
    height, width, channels = next(iter(pictures.values()))[0].shape[1:]
    most = thumbnails((height, width, channels), classes * len(pictures))
    rows = {
        name: [[thumbnail(image) for image in images[labels == c][:most]] for c in np.unique(labels)]
        for name, (images, labels) in pictures.items()
    }
    return Gallery(rows, width, height, GRID_ROWS if max(height, width) <= 48 else 1)


def _spans(rows: Sequence[Row], columns: Sequence[Column], main: Table) -> dict[int, list[tuple[float, float, float] | None]]:
    """Of every column of accuracies, for each row where in the column's range its mean - sd, mean and mean + sd are, in percent."""
    headings = [at for at, heading in enumerate(main.headings) if heading.endswith(ACCURACY)]
    out: dict[int, list[tuple[float, float, float] | None]] = {}
    for at, column in zip(headings, columns, strict=True):
        found = [(last.mean, 0.0 if math.isnan(last.sd) else last.sd) if (last := row.cells[column].last) else None for row in rows]
        ends = [mean + side * sd for mean, sd in filter(None, found) for side in (-1, 1)]
        low, high = min(ends, default=0.0), max(ends, default=1.0)
        scale = 100 / max(high - low, 1e-9)
        out[at] = [
            None
            if each is None
            else (scale * (each[0] - each[1] - low), scale * (each[0] - low), scale * (each[0] + each[1] - low))
            for each in found
        ]
    return out


@dataclass(frozen=True)
class Confusion:
    """Of a row's students: the matrix as a picture and, of few classes, in numbers; what is taken for what most often."""

    row: Row
    picture: str
    numbers: Table | None
    most: Sequence[tuple[str, str, str]]


def _confusions(rows: Sequence[Row], column: Column, classes: Sequence[str]) -> list[Confusion]:
    """Of the rows whose students have matrices, in shares of each class's test images."""
    out = []
    for row in rows:
        counts = row.cells[column].confusion
        if counts is None:
            continue
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        wrong = np.where(np.eye(len(classes), dtype=bool), 0, shares)
        worst = np.argsort(-wrong, axis=None, kind="stable")[:LISTED_CONFUSIONS]
        most = [(classes[i], classes[j], percent(wrong[i, j])) for i, j in zip(*np.unravel_index(worst, wrong.shape), strict=True)]
        numbers = None
        if len(classes) <= READABLE:
            lines = [
                [name, *(percent(share) if share else "" for share in line)] for name, line in zip(classes, shares, strict=True)
            ]
            numbers = Table(["taken for →", *classes], lines)
        out.append(Confusion(row, confusion(shares), numbers, [each for each in most if each[2] != "0.0"]))
    return out


@dataclass(frozen=True)
class Origin:
    """Where the numbers of a row come from: links to its files, seed by seed, and what its jobs' sidecars say."""

    links: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    jobs: Table
    versions: str


def _origin(spec: Spec, cells: Mapping[str, Mapping[str, str]], name: str) -> Origin:
    """Of a row: jobs of a set's shards are added up."""
    links, lines, versions = [], [], set()
    for seed, at in cells[name].items():
        link = lambda path, at=at: quote(f"../../{at}/{path}")  # noqa: E731
        shards = [Path(path).name for path in spec["distilled"].get(name, [])]
        made = {"distilled set": [shard.removesuffix(".zarr.zip") for shard in shards]} if shards else {}
        results = [(p, s) for p in spec["protocols"] for s in spec["students"]]
        made |= {f"students {s}, {p}": [f"students/{p}/{s}"] for p, s in results}
        own = [(shard, link(shard)) for shard in shards] + ([("images", link("images/"))] if shards else [])
        own += [(f"metrics {extractor}", link(f"metrics/{extractor}.json")) for extractor in spec["extractors"]]
        links.append((seed, [*own, *((f"students {s}, {p}", link(f"students/{p}/{s}.json")) for p, s in results)]))
        for what, stems in made.items():
            found = [read_sidecar(Path(spec["cells"][name][seed]) / f"{stem}{SIDECAR}") for stem in stems]
            versions |= {f"limbeck {one['package']}, torch {one['torch']}, Python {one['python']}" for one in found}
            sums = [f"{sum(one[key] for one in found):.1f}" for key in ("seconds", "cpu_seconds")]
            machines, sources = (", ".join(sorted({one[key] for one in found})) for key in ("machine", "source"))
            peak, finished = max(one["peak_mb"] for one in found), max(one["finished"] for one in found)
            lines.append([what, seed, *sums, f"{peak}", finished.replace("T", " "), machines, sources])
    jobs = Table(["job", "seed", "seconds", "CPU seconds", "peak memory, MB", "finished", "machine", "code"], lines)
    return Origin(links, jobs, "; ".join(sorted(versions)))


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
        storage = Table(["storage, kB", "images", "soft labels"], [line[:3] for line in shown["diagnostics"].storage.lines])
        text.append(markdown(storage))
    for name, pairs in shown["compared"].items():
        text += [f"Paired differences over shared seeds, {name}:\n", differences_markdown(pairs)]
    if shown["standings"].lines:
        text += ["Mean rank and wins/ties/losses, a win being a resolved difference:\n", standings_markdown(shown["standings"])]
    return "\n".join(text)
