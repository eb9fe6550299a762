"""A finished cell of the results: the distilled set in it, and what is known of it."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.artifacts import DISTILLED
from limbeck.commit import digest
from limbeck.errors import LimbeckError
from limbeck.records import SUFFIX, read_json, read_sidecar, recorded, sidecar_of
from limbeck.report.cells import Cell, cell
from limbeck.store import Artifact

LAYOUT = "results/<dataset>/<prior>/<method>/ipc<N>/seed<S>"
MADE = ("package", "source", "torch", "finished")  # what of a sidecar is told of a shard


@dataclass(frozen=True)
class Distilled:
    """A distilled set: every class's images, in shards of whole classes.

    shards: its artifacts in class order. classes: names in canonical order. counts: images of each. shape: (H, W, C).
    params: the config slice that made it. names: dataset, prior, method and seed, as far as they are known. labels: stored soft
    labels, as <protocol>/<repeat>.
    """

    folder: Path
    shards: tuple[Path, ...]
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    shape: tuple[int, int, int]
    params: dict[str, Any]
    names: dict[str, Any]
    labels: dict[str, Path]

    @property
    def images(self) -> int:
        """How many."""
        return sum(self.counts)

    @property
    def ipc(self) -> int | None:
        """Images of every class; None where they differ."""
        return self.counts[0] if len(set(self.counts)) == 1 else None

    def provenance(self) -> list[dict[str, Any]]:
        """Of every shard its hash, those of what it was made from, and when and by which sources that was."""
        found = []
        for path in self.shards:
            with Artifact(path, DISTILLED) as shard:
                inputs = shard.attrs["inputs"]
            sidecar = sidecar_of(path)
            made = read_sidecar(sidecar) if sidecar.is_file() else {}
            about = {key: made[key] for key in MADE if key in made}
            found.append({"file": path.name, "sha256": digest(path), "inputs": inputs, **about})
        return found

    def made_from(self) -> dict[str, dict[str, Any]]:
        """The parameters of what its first shard was made from, e.g. of prototypes, as far as that is still among the results."""
        sidecar, above = sidecar_of(self.shards[0]), self.folder.absolute().parents
        results = above[min(4, len(above) - 1)]
        with Artifact(self.shards[0], DISTILLED) as shard:
            hashes = shard.attrs["inputs"]
        listed = read_sidecar(sidecar).get("inputs", {}) if sidecar.is_file() else {}
        found = {}
        for name in sorted(set(hashes) & set(listed)):
            parts = Path(str(listed[name])).parts  # as its job saw it, perhaps on another machine
            paths = (results.joinpath(*parts[start:]) for start in range(len(parts)))
            path = next((path for path in paths if path.name.endswith(SUFFIX) and path.is_file()), None)
            if path is not None and recorded(path).get("sha256") == hashes[name]:
                with Artifact(path) as artifact:
                    found[name] = artifact.attrs["params"]
        return found

    def accuracies(self) -> dict[tuple[str, str], Cell]:
        """(protocol, student) -> what its trainings on this set gave; empty where there were none."""
        found = sorted(path for path in self.folder.glob("students/*/*.json") if not path.name.endswith(".prov.json"))
        return {(path.parent.name, path.stem): cell({self.names.get("seed", 0): read_json(path, "student")}) for path in found}


def distilled_set(source: Path) -> Distilled:
    """The set of a cell's folder, or of one of the files that stand for it: ``images/classes.json``, ``images.zip``, a shard.

    Raises
    ------
    LimbeckError: there is none, or only part of one; ArtifactError: it is damaged.
    """
    folder = _folder(source)
    shards = sorted(folder.glob(f"distilled-*{SUFFIX}"), key=_number)
    if not shards:
        raise LimbeckError(f"{source}: no distilled set there; name the folder of a finished cell, {LAYOUT}")
    params, counts, covered, shapes = [], Counter[int](), list[int](), set[tuple[int, ...]]()
    for path in shards:
        with Artifact(path, DISTILLED) as shard:
            params.append(shard.attrs["params"])
            counts.update(shard["labels"].tolist())
            classes = tuple(shard.attrs["classes"])
            covered += range(*shard.attrs["class_range"])
            shapes.add(shard.shape("images")[1:])
    again = "run snakemake for it again"
    if covered != list(range(len(classes))) or set(counts) != set(covered):
        absent = next((classes[c] for c in range(len(classes)) if not counts[c]), classes[0])
        raise LimbeckError(f"{folder}: its shards are not those of all its classes (e.g. {absent!r}); {again}")
    if len(shapes) > 1 or any(each != params[0] for each in params):
        raise LimbeckError(f"{folder}: its shards were made with different parameters; {again}")
    height, width, channels = next(iter(shapes))
    return Distilled(
        folder,
        tuple(shards),
        classes,
        tuple(counts[c] for c in covered),
        (height, width, channels),
        params[0],
        _names(folder, params[0]),
        {f"{path.parent.name}/{path.name}": path for path in sorted(folder.glob(f"labels/*/*{SUFFIX}"))},
    )


def _folder(source: Path) -> Path:
    """The cell that a path stands for, below the current folder as Snakemake names it."""
    path = Path(os.path.abspath(source))
    if not path.exists():
        raise LimbeckError(f"{source}: no such folder or file; name the folder of a finished cell, {LAYOUT}")
    if path.name == "classes.json":
        path = path.parent
    path = path.parent if path.is_file() or path.name == "images" else path
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _number(path: Path) -> int:
    found = re.fullmatch(r"distilled-(\d+)", path.name.removesuffix(SUFFIX))
    if found is None:
        raise LimbeckError(f"{path}: no shard of a distilled set has this name; move it away")
    return int(found[1])


def _names(folder: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """What the stage ``pngs`` was told, and the prior from where the cell lies, if it lies there still.

    Without its table it is all from there; of what lies elsewhere, e.g. what ``limbeck generate`` made, the seed is known alone.
    """
    *_, dataset, prior, method, ipc, seed = ("", "", "", "", "", *folder.absolute().parts)
    number = re.fullmatch(r"seed(\d+)", seed)
    placed = {"dataset": dataset, "prior": prior, "method": method, "seed": int(number[1])} if number else {}
    try:
        said = json.loads((folder / "images/classes.json").read_text(encoding="utf-8"))["params"]
        told = {key: said[key] for key in ("dataset", "method", "seed")}
    except (OSError, ValueError, KeyError, TypeError):
        told = {}
    if placed and re.fullmatch(r"ipc\d+", ipc) and all(placed[key] == value for key, value in told.items()):
        return placed
    return told or {key: params[key] for key in ("seed",) if key in params}
