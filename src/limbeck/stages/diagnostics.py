"""The page's diagnostics, read from the first seed's artifacts of every row."""

import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from limbeck.artifacts import DISTILLED, EMBEDDING, FEATURES, ORIGINS, PATCHES, PROTOTYPES, SCORES, STATISTICS, SUBGROUPS
from limbeck.data.encoding import png
from limbeck.records import read_sidecar
from limbeck.report.diagnostics import (
    MAP_REAL,
    MAP_SET,
    TYPICAL_CLASSES,
    Cloud,
    Scored,
    Styles,
    angle_figure,
    chance_share,
    cost_figure,
    coverage_plane,
    hull,
    hull_ratio,
    normality_figure,
    origin_figure,
    subgroup_figure,
    trajectory_figure,
    typicality_figure,
)
from limbeck.report.pictures import Frame
from limbeck.report.table import Table, printed_name
from limbeck.stages.common import Spec, class_rows, read_all
from limbeck.stages.cut import Cutter
from limbeck.stages.localize import maps_of_images
from limbeck.store import Artifact

PNGS = 1000  # of a shard's images those whose size as PNG is measured; it stands for the others


@dataclass(frozen=True)
class Overlay:
    """Paths of an SVG over a cloud, "" where there is nothing: the prototypes' hull, the prototypes, the distilled images."""

    hull: str = ""
    prototypes: str = ""
    images: str = ""


@dataclass(frozen=True)
class Plane:
    """The density of real points as a picture (data URI), the outline of their hull, and what every row has over it."""

    name: str
    density: str
    outline: str
    overlays: Mapping[str, Overlay]


@dataclass
class Diagnostics:
    """Planes, figures as SVG, and the tables beside them; empty where there is nothing to show."""

    planes: list[Plane] = field(default_factory=list)
    hulls: Table = field(default_factory=lambda: Table(["prototypes", "hull ratio, %"], []))
    origins: str = ""
    trajectories: str = ""
    angles: str = ""
    normality: str = ""
    gaussians: Table = field(
        default_factory=lambda: Table(["inversion of", "rejected", "|skewness|", "|excess kurtosis|", "round trip"], [])
    )
    storage: Table = field(default_factory=lambda: Table(["method", "images", "soft labels", "latents", "statistics", "prior"], []))
    soft: bool = False  # whether the soft labels of that table are those that students were shown
    coverage: Plane | None = None
    subgroups: str = ""
    typicality: str = ""
    cost: str = ""
    times: Table = field(default_factory=lambda: Table(["method", "sampling, s", "tangents, s"], []))


def gather(
    spec: Spec,
    accuracies: Mapping[str, tuple[float, float]],
    labels: Mapping[str, int | None],
    styles: Styles,
    classes: Sequence[str],
) -> Diagnostics:
    """All of them.

    accuracies: row -> mean and sd of the first student's, where none of its trainings failed. labels: row -> bytes of the soft
    labels that its students were shown, None where a teacher is asked on the way; empty where all labels are hard. classes: those
    whose planes are shown.
    """
    out = Diagnostics(soft=bool(labels))
    _map(spec, out, classes)
    _origins(spec, out)
    _trajectories(spec, out, styles)
    _normality(spec, out, styles)
    _storage(spec, out, labels)
    _coverage(spec, out)
    _subgroups(spec, out)
    _typicality(spec, out)
    _cost(spec, out, accuracies, styles)
    return out


def _map(spec: Spec, out: Diagnostics, classes: Sequence[str]) -> None:
    clouds = []
    for shard, path in enumerate(spec["embedding"]):
        found = {name: spec["prototypes"][name][shard] for name in spec["order"] if name in spec["prototypes"]}
        images = {name: spec["distilled"][name][shard] for name in spec["placed"]}
        clouds += _clouds(path, found, spec["targets"], images)
    if not clouds:
        return
    for name in clouds[0].prototypes:
        areas = [hull_ratio(cloud.prototypes[name], cloud.points) for cloud in clouds]
        out.hulls.lines.append([printed_name(name), f"{100 * statistics.fmean(areas):.1f}" if spec["ipc"] >= 3 else "–"])
    out.planes = [_plane(cloud, spec["shared"]) for cloud in clouds if cloud.name in classes]


def _plane(cloud: Cloud, shared: Mapping[str, str]) -> Plane:
    """shared: row -> the row whose prototypes it has."""
    frame = Frame(cloud.points, *cloud.prototypes.values(), *cloud.images.values())
    overlays = {}
    for name in dict.fromkeys((*shared, *cloud.images)):
        own, images = cloud.prototypes.get(shared.get(name, "")), cloud.images.get(name)
        corners = None if own is None else hull(own)
        overlays[name] = Overlay(
            "" if corners is None else frame.outline(corners),
            "" if own is None else frame.crosses(own),
            "" if images is None else frame.dots(images),
        )
    corners = hull(cloud.points)
    return Plane(cloud.name, frame.density(cloud.points), "" if corners is None else frame.outline(corners), overlays)


def _clouds(
    embedding: str, prototypes: Mapping[str, str], targets: Mapping[str, str], images: Mapping[str, str] | None = None
) -> list[Cloud]:
    with Artifact(embedding, EMBEDDING) as source:
        points, axes, centres = source["coordinates"], source["axes"], source["centres"]
        rows, classes = list(class_rows(source["labels"])), source.attrs["classes"]

    def onto(latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Onto the plane through each class's own axes."""
        own = labels - rows[0][0]
        return np.einsum("pcf,pf->pc", axes[own], latents.reshape(len(latents), -1) - centres[own])

    placed: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, path in prototypes.items():
        with Artifact(path, PROTOTYPES) as found:
            labels, where = found["labels"], points[found["indices"]]
            if targets[name] == "centroid":  # a mean is no image
                where = onto(found["centroids"], labels)
        placed[name] = (labels, where)
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, path in (images or {}).items():
        with Artifact(path, DISTILLED) as found:
            labels = found["labels"]
            if "latents" in found and int(np.prod(found.shape("latents")[1:])) == axes.shape[-1]:
                made[name] = (labels, onto(found["latents"], labels))
            elif "indices" in found:
                made[name] = (labels, points[found["indices"]])

    def of(c: int, parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        return {name: where[labels == c] for name, (labels, where) in parts.items()}

    return [Cloud(classes[c], points[at], of(c, placed), of(c, made)) for c, at in rows]


def _origins(spec: Spec, out: Diagnostics) -> None:
    shares = {}
    for name in (row for row in spec["order"] if row in spec["prototypes"]):
        parts = []
        for path in spec["prototypes"][name]:
            with Artifact(path, PROTOTYPES) as found:
                parts += [found["origins"]] if "origins" in found else []
        if parts:
            origins = np.concatenate(parts)
            shares[name] = [float((origins == i).mean()) for i in range(len(ORIGINS))]
    if shares:
        out.origins = origin_figure(shares, ORIGINS)


def _trajectories(spec: Spec, out: Diagnostics, styles: Styles) -> None:
    norms, labels, shares, chance = {}, {}, {}, {}
    for name, paths in _in_order(spec):
        parts: dict[str, list[np.ndarray]] = {}
        for path in paths:
            with Artifact(path, DISTILLED) as found:
                for key in ("x0_norms", "labels", "tangent_share"):
                    if key in found:
                        parts.setdefault(key, []).append(found[key])
                latent = found.shape("latents")[1:] if "latents" in found else ()
        if "x0_norms" not in parts:
            continue
        norms[name], labels[name] = np.concatenate(parts["x0_norms"]), np.concatenate(parts["labels"])
        if "tangent_share" in parts:
            shares[name] = np.concatenate(parts["tangent_share"])
            chance[name] = chance_share(spec["tangent_dims"][name], int(np.prod(latent)))
    if norms:
        out.trajectories = trajectory_figure(norms, labels, styles)
    if shares:
        out.angles = angle_figure(shares, chance, styles)


def _normality(spec: Spec, out: Diagnostics, styles: Styles) -> None:
    """How Gaussian the classes are on every rung of each inversion (D3HR Fig. 1 as a number), and its round trip."""
    curves = {}
    for name in (row for row in spec["order"] if row in spec["statistics"]):
        read = ("rejected", "mean_skewness", "mean_kurtosis")
        *found, trips = read_all(spec["statistics"][name], STATISTICS, *read, "round_trip")
        found = [np.where(values < 0, np.nan, values) for values in found]  # -1: too few images to test
        with warnings.catch_warnings():  # no class could be tested
            warnings.simplefilter("ignore", RuntimeWarning)
            rejected, skewness, kurtosis = (np.nanmean(values, axis=0) for values in found)
        curves[name] = rejected
        ends = (f"{values[0]:.2f} → {values[-1]:.2f}" for values in (rejected, skewness, kurtosis))
        out.gaussians.lines.append([name, *ends, f"{100 * trips.mean():.1f} %"])
    if curves:
        out.normality = normality_figure(curves, styles)


def _storage(spec: Spec, out: Diagnostics, soft: Mapping[str, int | None]) -> None:
    """What each representation of a row takes (D3HR Sec. 6.7, Fig. A2), where any row has class statistics or soft labels."""
    if not spec["statistics"] and not soft:
        return
    for name, paths in _in_order(spec):
        images, labels, latents, statistics_bytes = 0, 0, 0, 0
        for path in paths:
            with Artifact(path, DISTILLED) as found:
                some = np.unique(np.linspace(0, len(found) - 1, PNGS).astype(int))
                images += round(sum(len(png(image)) for image in found.take("images", some)) * len(found) / len(some))
                labels += len(found) * len(found.attrs["classes"]) * 2
                latents += 2 * int(np.prod(found.shape("latents"))) if "latents" in found else 0
        for path in spec["statistics"].get(name, []):
            with Artifact(path, STATISTICS) as found:
                statistics_bytes += 2 * 4 * int(np.prod(found.shape("mean")))
        weights = int(read_sidecar(Path(spec["weights"][name]))["weights_bytes"]) if latents else 0
        sizes = (images, soft.get(name, labels), latents, statistics_bytes, weights)
        out.storage.lines.append([printed_name(name), *(_kilobytes(size) for size in sizes)])


def _kilobytes(size: int | None) -> str:
    return "online" if size is None else f"{size / 1000:,.1f}" if size else "–"


def _coverage(spec: Spec, out: Diagnostics) -> None:
    """Every distilled set over the real images, in the features of the metrics."""
    rng = np.random.default_rng(0)
    real = _some_features(spec["real_features"], MAP_REAL, rng)
    rows = [row for row in spec["order"] if row in spec["features"]]
    cloud, sets = coverage_plane(real, {row: _some_features(spec["features"][row], MAP_SET, rng) for row in rows})
    frame = Frame(cloud, *sets.values())
    overlays = {row: Overlay(images=frame.dots(points)) for row, points in sets.items()}
    out.coverage = Plane("", frame.density(cloud), "", overlays)


def _some_features(shards: Sequence[str], most: int, rng: np.random.Generator) -> np.ndarray:
    """At most ``most`` rows of all shards, in their order."""
    with ExitStack() as stack:
        found = [stack.enter_context(Artifact(path, FEATURES)) for path in shards]
        starts = np.cumsum([0, *map(len, found)])
        rows = np.arange(starts[-1])
        rows = rows if len(rows) <= most else np.sort(rng.permutation(len(rows))[:most])
        own = [rows[(rows >= a) & (rows < b)] - a for a, b in pairwise(starts)]
        return np.concatenate([shard.take("features", part) for shard, part in zip(found, own, strict=True)])


def _subgroups(spec: Spec, out: Diagnostics) -> None:
    """The candidate groups of every method that chooses among some."""
    found = {}
    for name in (row for row in spec["order"] if row in spec["subgroups"]):
        near, apart, groups = read_all(spec["subgroups"][name], SUBGROUPS, "near", "apart", "groups")
        found[name] = (near, apart, groups)
    if found:
        out.subgroups = subgroup_figure(found)


def _typicality(spec: Spec, out: Diagnostics) -> None:
    """The most and the least typical patch of the first classes, of the first row that has typicality maps."""
    if not spec["scores"]:
        return
    images, scores, patches = spec["scores"]
    shown: dict[str, tuple[Scored, Scored]] = {}
    with Cutter(Path(images)) as pixels, Artifact(scores, SCORES) as source, Artifact(patches, PATCHES) as best:
        values, boxes, where = best["scores"], best["boxes"], dict(class_rows(best["labels"]))
        for label, maps in islice(maps_of_images(pixels, source), TYPICAL_CLASSES):
            own, at = values[where[label]], boxes[where[label]]
            pair = []
            for i in (own.argmax(), own.argmin()):
                row, grid, _ = maps[i]
                top, left, side = at[i].tolist()
                pair.append(Scored(pixels.image(row), grid, float(own[i]), (top, left, side)))
            shown[source.attrs["classes"][label]] = (pair[0], pair[1])
    out.typicality = typicality_figure(shown)


def _cost(spec: Spec, out: Diagnostics, accuracies: Mapping[str, tuple[float, float]], styles: Styles) -> None:
    """From the sidecars: times are not results, so they stand on the page alone and in none of the reproducible files."""
    seconds = {}
    for name in (row for row in spec["order"] if row in spec["sampling"]):
        # per image that is kept: all candidate groups were sampled for it
        sampling = _sum(spec["sampling"][name])
        stage = _sum(spec["tangents"][name]) if name in spec["tangents"] else None
        seconds[name] = sampling + (stage or 0.0)
        out.times.lines.append([name, f"{sampling:.3f}", "–" if stage is None else f"{stage:.3f}"])
    if drawn := {name: value for name, value in seconds.items() if name in accuracies}:
        out.cost = cost_figure(drawn, accuracies, styles)


def _in_order(spec: Spec) -> Iterator[tuple[str, list[str]]]:
    """(row, first seed's distilled shards) in the table's order."""
    return ((name, spec["distilled"][name]) for name in spec["order"] if name in spec["distilled"])


def _sum(groups: Sequence[Sequence[str]]) -> float:
    """Seconds per image summed over sampled groups, of each the mean over its shards' sidecars."""
    return sum(statistics.fmean(float(read_sidecar(Path(path))["seconds_per_image"]) for path in group) for group in groups)
