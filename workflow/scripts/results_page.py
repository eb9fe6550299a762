"""Write one part of docs/RESULTS.md: ``table`` from the summaries of `make table`, ``sweeps`` from the cells of `make sweeps`.

``sweeps --targets`` prints the files that the sweeps need, for Snakemake.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from limbeck.artifacts import DISTILLED
from limbeck.plan import Plan
from limbeck.report.statistics import paired, summarise
from limbeck.report.table import percent
from limbeck.stages.common import read_all
from limbeck.store import read_json

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/RESULTS.md"
DATA, IPC, BASE = "fashion-mini", 10, "manifoldgd_ddpm"
SWEEPS = "workflow/configs/manifoldgd_sweeps.yaml"


def main() -> None:
    """Replace the named part between its markers."""
    part = sys.argv[1]
    if sys.argv[2:] == ["--targets"]:
        print(*(path for name in sweeps().run.methods for path in results(sweeps(), name).values()))
        return
    text = "\n".join(table() if part == "table" else ablations(sweeps()))
    page = PAGE.read_text(encoding="utf-8")
    marked = f"<!-- {part} -->\n{text}\n<!-- /{part} -->"
    PAGE.write_text(re.sub(rf"<!-- {part} -->.*?<!-- /{part} -->", lambda _: marked, page, flags=re.DOTALL), encoding="utf-8")
    print(PAGE)


def table() -> Iterator[str]:
    """The markdown summaries of both IPCs."""
    yield f"Written by `make table` (limbeck {version('limbeck')}).\n"
    for ipc in (10, 50):
        yield Path(f"results/{DATA}/ipc{ipc}/summary.md").read_text(encoding="utf-8")


def sweeps() -> Plan:
    """The sweeps' plan: their config laid over config.yaml."""
    base, over = (yaml.safe_load((ROOT / name).read_text()) for name in ("config.yaml", SWEEPS))
    return Plan({**base, **{key: {**base[key], **value} for key, value in over.items()}})


def results(plan: Plan, name: str) -> dict[int, str]:
    """seed -> the student's result file."""
    student = f"students/{plan.run.protocol}/{plan.run.students[0]}.json"
    return {seed: f"{plan.cell(DATA, name, IPC, seed)}/{student}" for seed in plan.seeds(IPC)}


def ablations(plan: Plan) -> Iterator[str]:
    """One table per swept key, every row paired with BASE over the shared seeds."""
    found = {name: {seed: _accuracies(path) for seed, path in results(plan, name).items()} for name in plan.run.methods}
    tested = int(plan.source(DATA).counts("test").sum())
    seeds = len(plan.seeds(IPC))
    yield f"Written by `make sweeps` (limbeck {version('limbeck')}): one key at a time is changed from `{BASE}`, {seeds} seeds.\n"
    groups: dict[str, list[str]] = {}
    for name in plan.run.methods:
        groups.setdefault(name.split("__")[0] if "__" in name else "reference", []).append(name)
    for group, names in groups.items():
        yield f"### {group}\n"
        yield "| method | options | accuracy % | minus base (95 %) | resolved | tangent share |"
        yield "| --- | --- | --: | --: | --- | --: |"
        yield from (_line(plan, name, found, tested) for name in (names if group == "reference" else [BASE, *names]))
        yield ""


def _accuracies(path: str) -> list[float]:
    return [repeat["accuracy"] for repeat in read_json(path, "student")["repeats"]]


def _line(plan: Plan, name: str, found: Mapping[str, Mapping[int, list[float]]], tested: int) -> str:
    accuracy = summarise(found[name], tested)
    difference = None if name == BASE else paired(found[name], found[BASE])
    delta = f"{100 * difference.difference:+.1f} ± {100 * difference.half_width:.1f}" if difference else "–"
    resolved = "–" if difference is None else "yes" if difference.resolved else "no"
    spec: dict[str, Any] = {key: value for key, value in plan.config.methods[name].items() if key != "base"}
    options = ", ".join(f"{key}: {value}" for key, value in spec.items()) or "–"
    return (
        f"| {name} | {options} | {percent(accuracy.mean)} ± {percent(accuracy.sd)} | {delta} | {resolved} | {_share(plan, name)} |"
    )


def _share(plan: Plan, name: str) -> str:
    """Mean share of the mode guidance inside the tangent space, over images and guided steps of the first seed."""
    if not plan.method(name, IPC, DATA).tangents:
        return "–"
    (shares,) = read_all(plan.distilled(DATA, name, IPC, plan.seeds(IPC)[0]), DISTILLED, "tangent_share")
    return f"{np.mean(shares):.2f}"


if __name__ == "__main__":
    main()
