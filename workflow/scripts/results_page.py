"""Parts of docs/RESULTS.md: ``table NAME …`` from the summaries of `make table`, ``sweeps NAME …`` from the cells of `make sweeps`.

``targets NAME`` prints the files that a sweep needs, for Snakemake.
"""

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from limbeck.artifacts import DISTILLED
from limbeck.plan import Plan
from limbeck.records import read_json
from limbeck.report.cells import Cell, cell, outcome
from limbeck.report.comparisons import points
from limbeck.report.statistics import paired
from limbeck.stages.common import read_all

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/RESULTS.md"
DATA, IPC = "fashion-mini", 10
# sweeps -> the row that its rows are paired with: by their base, or (None) any other
BASELINES: dict[str, dict[str | None, str]] = {
    "manifoldgd": {None: "manifoldgd_ddpm"},
    "d3hr": {None: "d3hr"},
    "ims3": {None: "ims3"},
    "patches": {None: "patches", "rded": "rded", "d4m": "d4m"},
    "coda": {None: "coda", "coda_real": "coda_real", "kmeans": "coda_real"},
}


def main() -> None:
    """Replace the named parts between their markers."""
    what, *names = sys.argv[1:]
    if what == "targets":
        plan = planned(f"{names[0]}_sweeps")
        print(*(path for name in plan.methods(IPC) for path in results(plan, name).values()))
        return
    made = {"table": ("-table", table), "sweeps": ("-sweeps", ablations)}
    ending, make_part = made[what]
    parts = {f"{name}{ending}": partial(make_part, name) for name in names}
    page = PAGE.read_text(encoding="utf-8")
    for part, make in parts.items():
        before, after = (page.index(f"<!-- {mark}{part} -->") for mark in ("", "/"))
        page = page[:before] + f"<!-- {part} -->\n" + "\n".join(make()) + "\n" + page[after:]
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE)


def table(name: str) -> Iterator[str]:
    """The markdown summaries of every dataset and IPC of a config."""
    plan = planned(name)
    yield f"Written by `make table TABLES={name}` (limbeck {version('limbeck')}).\n"
    for dataset in plan.run.datasets:
        for ipc in plan.run.ipc:
            yield Path(f"{plan.root}/{dataset}/ipc{ipc}/summary.md").read_text(encoding="utf-8")


def planned(name: str) -> Plan:
    """The plan of workflow/configs/``name``.yaml laid over config.yaml."""
    base, over = (yaml.safe_load((ROOT / path).read_text()) for path in ("config.yaml", f"workflow/configs/{name}.yaml"))
    return Plan({**base, **{key: {**base[key], **value} for key, value in over.items()}})


def results(plan: Plan, name: str) -> dict[int, str]:
    """seed -> the student's result file."""
    student = f"students/{plan.run.protocols[0]}/{plan.run.students[0]}.json"
    return {seed: f"{plan.cell(DATA, name, IPC, seed)}/{student}" for seed in plan.seeds(IPC)}


def ablations(sweep: str) -> Iterator[str]:
    """One table per swept key, every row paired with its baseline over the shared seeds."""
    plan = planned(f"{sweep}_sweeps")
    found = {name: _cell(results(plan, name)) for name in plan.methods(IPC)}
    seeds = len(plan.seeds(IPC))
    yield f"Written by `make sweeps` (limbeck {version('limbeck')}): one key is changed from the row above, {seeds} seeds.\n"
    groups: dict[str, list[str]] = {}
    for name in plan.methods(IPC):
        group, swept, _ = name.partition("__")
        groups.setdefault(group.removeprefix(f"{sweep}_") if swept else "reference", []).append(name)
    shares = {name: _share(plan, name) for name in plan.methods(IPC)}
    columns = ["method", "options", "accuracy %", "minus baseline (95 %)", "resolved", "tangent share"]
    columns = columns if any(share != "–" for share in shares.values()) else columns[:-1]
    for group, names in groups.items():
        yield f"### {group}\n"
        yield f"| {' | '.join(columns)} |"
        yield f"| --- | --- | --: | --: | --- |{' --: |' if len(columns) == 6 else ''}"
        for name in _with_baselines(plan, sweep, names):
            yield f"| {' | '.join([*_line(plan, sweep, name, found), shares[name]][: len(columns)])} |"
        yield ""


def _baseline(plan: Plan, sweep: str, name: str) -> str:
    table = BASELINES[sweep]
    return table.get(plan.config.methods[name]["base"], table[None])


def _with_baselines(plan: Plan, sweep: str, names: list[str]) -> list[str]:
    """Every row below the one it is paired with."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_baseline(plan, sweep, name), []).append(name)
    return [row for baseline, rows in groups.items() for row in dict.fromkeys([baseline, *rows])]


def _cell(paths: Mapping[int, str]) -> Cell:
    return cell({seed: read_json(path, "student") for seed, path in paths.items()})


def _line(plan: Plan, sweep: str, name: str, found: Mapping[str, Cell]) -> list[str]:
    baseline = _baseline(plan, sweep, name)
    difference = None if name == baseline else paired(found[name].accuracies, found[baseline].accuracies)
    delta = points(difference) if difference else "–"
    resolved = "–" if difference is None else "yes" if difference.resolved else "no"
    spec: dict[str, Any] = {key: value for key, value in plan.config.methods[name].items() if key != "base"}
    options = ", ".join(f"{key}: {value}" for key, value in spec.items()) or "–"
    return [name, options, outcome(found[name]), delta, resolved]


def _share(plan: Plan, name: str) -> str:
    """Mean share of the mode guidance inside the tangent space, over images and guided steps of the first seed."""
    if not plan.method(name, IPC, DATA).tangents:
        return "–"
    (shares,) = read_all(plan.distilled(DATA, name, IPC, plan.seeds(IPC)[0]), DISTILLED, "tangent_share")
    return f"{np.mean(shares):.2f}"


if __name__ == "__main__":
    main()
