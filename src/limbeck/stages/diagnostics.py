"""The page's diagnostics, read from the first seed's artifacts of every row."""

import base64
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.artifacts import DISTILLED, EMBEDDING, PROTOTYPES
from limbeck.report.diagnostics import Cloud, angle_figure, chance_share, cost_figure, hull_ratio, map_figure, trajectory_figure
from limbeck.stages.common import Spec, class_rows
from limbeck.store import SUFFIX, Artifact


@dataclass
class Diagnostics:
    """Figures as base64 PNG, empty where there is nothing to show, and the numbers of the tables beside them."""

    map: str = ""
    hulls: list[tuple[str, str]] = field(default_factory=list)
    trajectories: str = ""
    angles: str = ""
    cost: str = ""
    times: list[tuple[str, str, str]] = field(default_factory=list)


def gather(spec: Spec, accuracies: Mapping[str, float]) -> Diagnostics:
    """All of them. accuracies: row -> mean accuracy of the first student."""
    out = Diagnostics()
    _map(spec, out)
    _trajectories(spec, out)
    _cost(spec, out, accuracies)
    return out


def _encoded(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _map(spec: Spec, out: Diagnostics) -> None:
    clouds, ratios = [], {}
    for shard, path in enumerate(spec["embedding"]):
        clouds += _clouds(path, {name: paths[shard] for name, paths in spec["prototypes"].items()}, spec["targets"])
    if not clouds:
        return
    for name in clouds[0].prototypes:
        found = [hull_ratio(cloud.prototypes[name], cloud.points) for cloud in clouds]
        ratios[name] = f"{100 * statistics.fmean(found):.1f}" if spec["ipc"] >= 3 else "–"
    out.hulls = list(ratios.items())
    out.map = _encoded(map_figure(clouds))


def _clouds(embedding: str, prototypes: Mapping[str, str], targets: Mapping[str, str]) -> list[Cloud]:
    with Artifact(embedding, EMBEDDING) as source:
        points, axes, centres = source["coordinates"], source["axes"], source["centres"]
        rows, classes = list(class_rows(source["labels"])), source.attrs["classes"]
    placed: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, path in prototypes.items():
        with Artifact(path, PROTOTYPES) as found:
            labels, where = found["labels"], points[found["indices"]]
            if targets[name] == "centroid":  # a mean is no image: onto the plane through the class's own axes
                means = found["centroids"].reshape(len(labels), -1)
                own = labels - labels[0]
                where = np.einsum("pcf,pf->pc", axes[own], means - centres[own])
        placed[name] = (labels, where)
    return [Cloud(classes[c], points[at], {name: where[labels == c] for name, (labels, where) in placed.items()}) for c, at in rows]


def _trajectories(spec: Spec, out: Diagnostics) -> None:
    norms, labels, shares, chance = {}, {}, {}, {}
    for name in spec["order"]:
        parts: dict[str, list[np.ndarray]] = {}
        for path in _first_seed(spec, name):
            with Artifact(path, DISTILLED) as found:
                for key in ("x0_norms", "labels", "tangent_share", "latents"):
                    if key in found:
                        parts.setdefault(key, []).append(found[key])
        if "x0_norms" not in parts:
            continue
        norms[name], labels[name] = np.concatenate(parts["x0_norms"]), np.concatenate(parts["labels"])
        if "tangent_share" in parts:
            shares[name] = np.concatenate(parts["tangent_share"])
            chance[name] = chance_share(spec["tangent_dims"][name], int(np.prod(parts["latents"][0].shape[1:])))
    if norms:
        out.trajectories = _encoded(trajectory_figure(norms, labels))
    if shares:
        out.angles = _encoded(angle_figure(shares, chance))


def _first_seed(spec: Spec, name: str) -> list[Path]:
    folder = Path(next(iter(spec["cells"][name].values())))
    return sorted(folder.glob(f"distilled-*{SUFFIX}"), key=lambda p: int(p.name.removesuffix(SUFFIX).split("-")[-1]))


def _cost(spec: Spec, out: Diagnostics, accuracies: Mapping[str, float]) -> None:
    """From the sidecars: times are not results, so they stand on the page alone and in none of the reproducible files."""
    seconds = {}
    for name in spec["order"]:
        sampling = _seconds([path.with_name(path.name.removesuffix(SUFFIX) + ".prov.json") for path in _first_seed(spec, name)])
        if sampling is None:
            continue
        stage = _seconds([Path(path.removesuffix(SUFFIX) + ".prov.json") for path in spec["tangents"].get(name, [])])
        seconds[name] = sampling + (stage or 0.0)
        out.times.append((name, f"{sampling:.3f}", "–" if stage is None else f"{stage:.3f}"))
    if seconds:
        out.cost = _encoded(cost_figure(seconds, accuracies))


def _seconds(sidecars: Sequence[Path]) -> float | None:
    found: list[float] = []
    for path in sidecars:
        try:
            body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if "seconds_per_image" in body:
            found.append(float(body["seconds_per_image"]))
    return statistics.fmean(found) if found else None
