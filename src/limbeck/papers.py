"""A paper's table as cells of ours: by which overlays, from which files, and what of it cannot be made on this machine."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.errors import LimbeckError
from limbeck.methods import DISCOVERY, FULL, METHODS
from limbeck.report.published import Number, listed, table

if TYPE_CHECKING:
    from limbeck.plan import Plan

ROOT = Path(__file__).parents[2]
FOLDER = "workflow/configs"
ASSUMED = "ASSUME"
WRAPPED = 116  # characters of a line that is full


def overlay_of(paper: str, name: str) -> Path:
    """The overlay that has a table's run.

    Raises
    ------
    LimbeckError: there is none.
    """
    table(paper, name)
    path = ROOT / FOLDER / "papers" / f"{paper}-{name}.yaml"
    if not path.is_file():
        raise LimbeckError(f"papers/{paper}/{name}: no overlay {path}")
    return path


def overlays(paper: str, name: str) -> list[Path]:
    """The overlays of a table's benchmarks, each named as its data set, and its own over them."""
    from limbeck.listing import overlaid  # Snakemake's own merging; no job needs it

    own = overlay_of(paper, name)
    named = (ROOT / FOLDER / f"{each}.yaml" for each in overlaid([own])["run"]["datasets"])
    return [*(path for path in named if path.is_file()), own]  # what the table makes of a benchmark is in its own overlay


def config(paper: str, name: str) -> dict[str, Any]:
    """config.yaml with them over it."""
    from limbeck.listing import overlaid

    return overlaid([ROOT / "config.yaml", *overlays(paper, name)])


def command(paper: str, name: str, results: str = "results") -> str:
    """What builds a table's cells, and its page."""
    files = " ".join(str(path.relative_to(ROOT)) for path in overlays(paper, name))
    return f"snakemake --configfile {files} -- {results}/papers/{paper}/{name}.html"


def assumptions(paper: str, name: str) -> list[tuple[str, list[str]]]:
    """What its overlays mark as assumed: a file and the lines that say so, with what they say it of."""
    return [(path.name, found) for path in overlays(paper, name) if (found := _assumed(path.read_text(encoding="utf-8")))]


def _assumed(text: str) -> list[str]:
    """Its lines that say so, and those that a comment goes on in."""
    found: list[str] = []
    before = ""  # the comment that may go on
    for line in (line.strip() for line in text.splitlines()):
        words = line.strip("# ")
        goes_on = bool(before and words) and line.startswith("#") and (not words[0].isupper() or len(before) > WRAPPED)
        if goes_on:
            found[-1] += f" {words}"
        elif ASSUMED in line:
            found.append(" ".join(words.split()))
        before = line if line.startswith("#") and (goes_on or ASSUMED in line) else ""
    return list(dict.fromkeys(found))


def files(plan: "Plan", where: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Seed -> for every protocol the result of each of its students."""
    found = {}
    for seed in (0,) if where["method"] == FULL else plan.seeds(where["ipc"]):
        cell = _folder(plan, where, seed)
        found[str(seed)] = [[f"{cell}/students/{p}/{s}.json" for s in listed(where["student"])] for p in listed(where["protocol"])]
    return found


def _folder(plan: "Plan", where: Mapping[str, Any], seed: int) -> str:
    name = where["method"]
    if of_run(plan, where):
        return plan.cell(where["dataset"], name, where["ipc"], seed)
    own = plan.config.methods.get(name, {}).get("prior") or where["prior"]
    return f"{plan.root}/{where['dataset']}/{own}/{name}/ipc{where['ipc']}/seed{seed}"


def planned(plan: "Plan", number: Number) -> bool:
    """Whether a plan makes a number's cell."""
    return bool(number.value) and not number.why and of_run(plan, number.where) and not missing(plan, number.where)


def of_run(plan: "Plan", where: Mapping[str, Any]) -> bool:
    """Whether a cell is of a run from this prior: it is its own, or it has none."""
    if where["prior"] == plan.run.prior or where["method"] == FULL:
        return True
    base = METHODS[plan.config.methods.get(where["method"], {"base": where["method"]})["base"]]
    found = DISCOVERY.get(base["discovery"] or "")
    return not base["generate"] and found is not None and not found.needs_latents and found.judge != "prior"


def missing(plan: "Plan", where: Mapping[str, Any]) -> list[str]:
    """What a number's cell lacks here, a line each."""
    return plan.missing(where["dataset"], where["ipc"], where["method"], tuple(listed(where["protocol"])))


def inputs(plan: "Plan", paper: str, name: str) -> list[str]:
    """The results that a table's page waits for: of a run of another config none, of its own all that can be made here."""
    found = table(paper, name)
    if plan.run.table != f"{paper}/{name}":
        return []
    cells = [files(plan, number.where) for number in found.numbers if planned(plan, number)]
    return list(dict.fromkeys(path for cell in cells for seed in cell.values() for each in seed for path in each))


def spec(plan: "Plan", paper: str, name: str) -> dict[str, Any]:
    """What its page shows."""
    from limbeck.plan import Plan

    shown, own = table(paper, name), plan.run.table == f"{paper}/{name}"
    of_table = plan if own else Plan(config(paper, name) | {"results": plan.root})
    run, numbers = of_table.run, [_number(of_table, number, own) for number in shown.numbers]
    lines = list(dict.fromkeys(line for number in numbers for line in number.get("missing", [])))
    return {
        "paper": shown.paper,
        "title": shown.title,
        "name": name,
        "caption": shown.caption,
        "columns": list(shown.columns),
        "rows": list(shown.rows),
        "missing": lines,
        # by their places among these: a command line is no longer than 128 kB
        "numbers": [number | {"missing": [lines.index(line) for line in number.get("missing", [])]} for number in numbers],
        "command": command(paper, name, plan.root),
        "assumed": assumptions(paper, name),
        "about": {key: list(getattr(run, key)) for key in ("datasets", "protocols", "students")}
        | {"prior": run.prior, "repeats": run.repeats, "seeds": {ipc: list(of_table.seeds(ipc)) for ipc in run.ipc}},
    }


def _number(plan: "Plan", number: Number, own: bool) -> dict[str, Any]:
    """A printed number, and of ours its files, or why there are none."""
    found: dict[str, Any] = {key: getattr(number, key) for key in ("row", "column", "value", "sd")}
    if not number.value or number.why:
        return found | {"why": number.why}
    paths = files(plan, number.where)
    every = [path for seed in paths.values() for each in seed for path in each]
    below = {seed: [[p.removeprefix(f"{plan.root}/") for p in each] for each in of_seed] for seed, of_seed in paths.items()}
    found |= {"class": number.where.get("class")}
    if own and planned(plan, number):
        return found | {"files": below}
    if all(Path(path).is_file() for path in every):  # no inputs of the page, so that it tells them by their content
        content = b"".join(Path(path).read_bytes() for path in every)
        return found | {"files": below, "digest": hashlib.sha256(content).hexdigest()[:12]}
    if not of_run(plan, number.where):
        prior = number.where["prior"]
        return found | {"missing": [f'priors.{prior}: of a run of its own, --config \'run={{"prior": "{prior}"}}\'']}
    return found | {"missing": missing(plan, number.where) or ["not built: the command at the head builds it"]}
