"""What a config knows, as tables: what ``limbeck methods``, ``priors`` and ``datasets`` print."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from limbeck.errors import LimbeckError
from limbeck.lookup import Lookup
from limbeck.methods import METHODS
from limbeck.priors.files import INDEX
from limbeck.priors.weights import cache_alone

BASE = Path("config.yaml")  # as the Snakefile names it, in the current folder
ABOUT = {
    "random": "random real images",
    "subset": "as random, of other draws: the table's reference row",
    "kmeans": "the real image nearest to each k-means centroid",
    "herding": "real images whose mean stays nearest to the class's",
    "kcenter": "greedy k-center: real images that leave none far away",
    "dit": "unguided samples of the prior",
    "mgd": "mode guidance towards k-means centroids",
    "manifoldgd": "divisive prototypes; mode guidance projected onto the local tangent space",
    "coda_real": "CoDA's representatives, real images: UMAP and HDBSCAN",
    "coda": "images generated towards CoDA's representatives",
    "d3hr": "images from class Gaussians of inverted latents, the best of many groups",
    "ims3": "the best of several groups of samples per class",
    "patches": "the most typical parts of real images, by the prior",
    "rded": "of random crops of real images those that the teacher is surest of",
    "kmeans_decoded": "k-means centroids, decoded as they are",
    "d4m": "mini-batch k-means centroids, noised and denoised",
    "imported": "another method's ready-made images",
}
Section = tuple[tuple[str, ...], list[tuple[str, ...]]]  # titles of the columns, rows; a name first


def overlaid(configfiles: Sequence[Path]) -> dict[str, Any]:
    """config.yaml of the current folder with files laid over it, as Snakemake does.

    Raises
    ------
    LimbeckError: a file is missing or no YAML.
    """
    config: dict[str, Any] = {}
    for path in (*([BASE] if BASE.is_file() or not configfiles else []), *configfiles):
        if not path.is_file():
            raise LimbeckError(f"{path}: no such file" + ("; run this where the Snakefile is" if path == BASE else ""))
        try:
            update_config(config, load_configfile(str(path)))
        except (WorkflowError, ValueError) as error:  # of bytes that are no text the second
            raise LimbeckError(f"{path}: {' '.join(str(error).split())}") from None
    return config


def show(section: str, configfiles: Sequence[Path], names: Sequence[str]) -> None:
    """Print a section of the config: a table on a terminal, and where it is piped a line per name with tabs between the columns."""
    title, rows = SECTIONS[section](Lookup(overlaid(configfiles)))
    known = {row[0]: row for row in rows}
    for name in names:
        if name not in known:
            raise LimbeckError(f"{section}: unknown name {name!r}; known: {', '.join(sorted(known))}")
    console = Console(highlight=False)
    rows = [tuple(map(_printable, known[name])) for name in names or known]
    if not console.is_terminal:
        print(*("\t".join(row) for row in (title, *rows)), sep="\n")
        return
    table = Table(*(Column(name, overflow="fold") for name in title), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(Text(row[0], "cyan"), *map(Text, row[1:]))
    console.print(table)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _methods(found: Lookup) -> Section:
    rows: list[tuple[str, ...]] = []
    for name, spec in {**{name: {"base": name} for name in METHODS}, **found.config.methods}.items():
        base = str(spec.get("base"))
        at = ", ".join(str(ipc) for ipc in found.run.ipc if name in found.methods(ipc))
        options = ", ".join(f"{key}: {json.dumps(value)}" for key, value in spec.items() if key != "base")
        rows.append((name, base, at, ABOUT.get(base, f"unknown base; choose one of {', '.join(METHODS)}"), options))
    return ("method", "base", "IPC of the run", "what it is", "options set"), sorted(rows)


def _priors(found: Lookup) -> Section:
    rows: list[tuple[str, ...]] = []
    for name, spec in found.config.priors.items():
        tuned, trained = spec.finetune, spec.train
        origin = spec.weights or ""
        if tuned is not None:
            origin = f"{spec.base}, tuned on {tuned.dataset} ({tuned.criterion})"
        elif trained is not None:
            origin = f"trained on {trained.dataset}"
        rows.append((name, spec.family, spec.view, "yes" if name == found.run.prior else "", origin, _weights(found, name)))
    return ("prior", "family", "view", "of the run", "from", "weights"), rows


def _weights(found: Lookup, name: str) -> str:
    """Whether a prior's weights are there."""
    spec = found.config.priors[name]
    if Path(f"{found.root}/priors/{name}/{INDEX}").is_file():
        return "stored among the results"
    if spec.weights is None:
        return "made by the run"
    if found.weights_at(name) is None:
        return "not here; offline: false fetches it" if cache_alone(found.config.offline) else "to be fetched"
    if complaint := found.weights_complaint(name) or found.vae_complaint(name):
        return complaint
    if found.local_weights(name) is None:
        return "in the hub's cache"
    return "in the package" if spec.weights.startswith("package:") else "there"


def _datasets(found: Lookup) -> Section:
    rows: list[tuple[str, ...]] = []
    for name, spec in found.config.datasets.items():
        views = ", ".join(f"{view} ({each.size} px)" for view, each in spec.views.items())
        where = f"of {spec.of}" if spec.of else spec.path
        try:
            classes, there = str(len(found.source(name).classes)), "yes"
        except LimbeckError as error:
            classes, there = "", str(error).removeprefix(f"datasets.{name}: ")
        rows.append(
            (name, spec.source, "yes" if name in found.run.datasets else "", classes, str(spec.channels), views, where, there)
        )
    return ("dataset", "source", "of the run", "classes", "channels", "views", "path", "there"), rows


SECTIONS = {"methods": _methods, "priors": _priors, "datasets": _datasets}


def names(section: str, configfiles: Sequence[Path]) -> list[str]:
    """What a shell may complete; nothing where there is no config that can be read."""
    try:
        named = overlaid(configfiles).get(section)
    except LimbeckError:
        return []
    return sorted({*(named if isinstance(named, dict) else ()), *(METHODS if section == "methods" else ())})
