"""What the methods did on their way: prototypes over the feature cloud, trajectories, angles, cost. Arrays in, PNG bytes out."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from limbeck.metrics.trajectories import variance_of_norms
from limbeck.report.grid import blank_figure

MAP_CLASSES = 10
MAP_REAL, MAP_SET = 1000, 100  # points of the coverage map: its time grows with them


@dataclass(frozen=True)
class Cloud:
    """One class in the plane of its two first principal components: points (N, 2) and, by label, prototypes (IPC, 2)."""

    name: str
    points: np.ndarray
    prototypes: Mapping[str, np.ndarray]


def hull(points: np.ndarray) -> np.ndarray | None:
    """Corners of the convex hull of (N, 2) points in order; None where it has no area."""
    try:
        found = ConvexHull(np.asarray(points, float))
    except (QhullError, ValueError):  # fewer than three points, or all on a line
        return None
    return points[found.vertices]


def hull_area(points: np.ndarray) -> float:
    """Area of the convex hull; 0 where it has none."""
    corners = hull(points)
    if corners is None:
        return 0.0
    x, y = corners.astype(np.float64).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def hull_ratio(prototypes: np.ndarray, cloud: np.ndarray) -> float:
    """A_CH: the prototypes' hull area over the cloud's (ManifoldGD Fig. 6)."""
    whole = hull_area(cloud)
    return hull_area(prototypes) / whole if whole else 0.0


def chance_share(d: int, dims: int) -> float:
    """Root mean square share of a vector's norm inside a random d-dimensional subspace of ``dims`` dimensions."""
    return math.sqrt(min(d, dims) / dims)


def map_figure(clouds: Sequence[Cloud]) -> bytes:
    """One line of panels per set of prototypes, one panel per class (the first MAP_CLASSES)."""
    shown = list(clouds[:MAP_CLASSES])
    labels = list(shown[0].prototypes)

    def draw(figure: Any) -> None:
        axes = figure.subplots(len(labels), len(shown), squeeze=False)
        for line, label in zip(axes, labels, strict=True):
            line[0].set_ylabel(label, fontsize=8)
            for axis, cloud in zip(line, shown, strict=True):
                axis.scatter(*cloud.points.T, s=1, c="0.75", linewidths=0, rasterized=True)
                _outline(axis, cloud.points, "0.6")
                _outline(axis, cloud.prototypes[label], "tab:red")
                axis.scatter(*cloud.prototypes[label].T, s=9, c="tab:red", linewidths=0)
                axis.set_xticks([])
                axis.set_yticks([])
        for axis, cloud in zip(axes[0], shown, strict=True):
            axis.set_title(cloud.name, fontsize=8)

    return _png(draw, 1.25 * len(shown) + 0.5, 1.2 * len(labels) + 0.4)


def _outline(axis: Any, points: np.ndarray, colour: str) -> None:
    corners = hull(points)
    if corners is not None:
        axis.plot(*np.vstack([corners, corners[:1]]).T, c=colour, lw=0.8)


def coverage_figure(real: np.ndarray, sets: Mapping[str, np.ndarray]) -> bytes:
    """The density of the real images' features and every set's own, in one t-SNE plane; features (N, D) (IMS3 Fig. 1)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    parts = [real, *sets.values()]
    points = np.concatenate(parts)
    reduced = PCA(min(30, *points.shape), random_state=0).fit_transform(points)
    plane = TSNE(init="pca", perplexity=min(30, (len(points) - 1) / 3), max_iter=500, random_state=0, n_jobs=1).fit_transform(
        reduced
    )
    cloud, *own = np.split(plane, np.cumsum([len(part) for part in parts])[:-1])
    across = min(4, len(own))

    def draw(figure: Any) -> None:
        axes = figure.subplots(math.ceil(len(own) / across), across, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, name, values in zip(axes, sets, own, strict=False):
            axis.hexbin(*cloud.T, gridsize=40, bins="log", cmap="Blues", linewidths=0, mincnt=1)
            axis.scatter(*values.T, s=5, c="tab:red", linewidths=0)
            axis.set_title(name, fontsize=8)

    return _png(draw, 2.6 * across, 2.5 * math.ceil(len(own) / across))


def origin_figure(shares: Mapping[str, Sequence[float]], names: Sequence[str]) -> bytes:
    """Where each set's representatives come from, as stacked shares (CoDA Fig. 4)."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        left = np.zeros(len(shares))
        for name, part in zip(names, np.array(list(shares.values())).T, strict=True):
            axis.barh(list(shares), 100 * part, left=100 * left, label=name, height=0.6)
            left += part
        axis.invert_yaxis()
        axis.set(xlabel="share of the representatives, %", xlim=(0, 100))
        axis.legend(fontsize=7, ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return _png(draw, 8, 0.5 * len(shares) + 1.1)


def trajectory_figure(norms: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> bytes:
    """Mean |x0_hat| over the solver's steps, as a share of them, and its variance within classes."""

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for name, values in norms.items():
            along = np.arange(1, values.shape[1] + 1) / values.shape[1]
            left.plot(along, values.mean(axis=0), lw=1.2, label=name)
            spread = variance_of_norms(values, labels[name])
            final = "" if np.isnan(spread[-1]) else f"{name} (v = {spread[-1]:.2f})"
            right.plot(along, spread, lw=1.2, label=final or name)
        left.set(xlabel="share of steps done", ylabel="|x0_hat|, mean")
        right.set(xlabel="share of steps done", ylabel="variance of |x0_hat| within a class")
        right.legend(fontsize=7)

    return _png(draw, 10, 3.6)


def angle_figure(shares: Mapping[str, np.ndarray], chance: Mapping[str, float]) -> bytes:
    """Mean share of the mode guidance's norm inside the tangent space per guided step, and the angle between the two."""

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for name, values in shares.items():
            angles = np.degrees(np.arccos(np.clip(values, 0, 1)))
            (line,) = left.plot(np.arange(1, values.shape[1] + 1), values.mean(axis=0), lw=1.2, label=name)
            right.plot(np.arange(1, values.shape[1] + 1), angles.mean(axis=0), lw=1.2, label=name)
            left.axhline(chance[name], ls=":", lw=0.8, c=line.get_color())
        left.set(xlabel="guided step", ylabel="share of |g_mode| in the tangent space", ylim=(0, 1))
        right.set(xlabel="guided step", ylabel="angle to the tangent space, degrees", ylim=(0, 90))
        right.legend(fontsize=7)

    return _png(draw, 10, 3.4)


def normality_figure(rejected: Mapping[str, np.ndarray]) -> bytes:
    """Share of dimensions that are not Gaussian on every rung of an inversion, clean latents first (D3HR Fig. 1)."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for name, values in rejected.items():
            axis.plot(np.arange(len(values)), 100 * values, lw=1.2, marker=".", ms=4, label=name)
        axis.axhline(5, ls=":", lw=0.8, c="0.4")
        axis.set(xlabel="inversion steps", ylabel="dimensions not Gaussian, %", ylim=(0, None))
        axis.legend(fontsize=7)

    return _png(draw, 6, 3.4)


def subgroup_figure(found: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> bytes:
    """Every candidate group by the two terms of IMS3's Eq. 10, the chosen ones filled; near, apart (C, G), groups (C,)."""

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axis, (name, (near, apart, groups)) in zip(axes, found.items(), strict=True):
            for label, (x, y, chosen) in enumerate(zip(near, apart, groups, strict=True)):
                colour = f"C{label % 10}"
                axis.scatter(x, y, s=22, facecolors="none", edgecolors=colour, linewidths=0.8)
                axis.scatter(x[chosen], y[chosen], s=22, color=colour)
            axis.set_title(name, fontsize=9)
            axis.set(xlabel="log(1 - cos) to the class's centroid", ylabel="mean log(1 - cos) to other classes")

    return _png(draw, 5 * len(found), 3.6)


@dataclass(frozen=True)
class Scored:
    """An image (H, W, channels), its typicality map (h, w), its best patch's score and box (top, left, side) in pixels."""

    image: np.ndarray
    map: np.ndarray
    score: float
    box: tuple[int, int, int]


def typicality_figure(found: Mapping[str, tuple[Scored, Scored]]) -> bytes:
    """Of every class the image with the most and the one with the least typical patch, framed, over their maps."""
    limit = max(float(np.abs(each.map).max()) for pair in found.values() for each in pair) or 1.0

    def draw(figure: Any) -> None:
        axes = figure.subplots(4, len(found), squeeze=False)
        for column, (name, pair) in enumerate(found.items()):
            axes[0, column].set_title(name, fontsize=7)
            for row, each in zip((0, 2), pair, strict=True):
                image, below = axes[row, column], axes[row + 1, column]
                image.imshow(each.image.squeeze(-1) if each.image.shape[-1] == 1 else each.image, cmap="gray", vmin=0, vmax=255)
                top, left, side = each.box
                if side < max(each.image.shape[:2]):
                    image.plot(
                        np.array([0, 1, 1, 0, 0]) * side + left - 0.5, np.array([0, 0, 1, 1, 0]) * side + top - 0.5, "r", lw=1
                    )
                below.imshow(each.map, cmap="RdBu_r", vmin=-limit, vmax=limit)
                below.set_xlabel(f"R {each.score:.2f}", fontsize=7)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])

    return _png(draw, max(3, 1.1 * len(found)), 4.6)


def cost_figure(seconds: Mapping[str, float], accuracies: Mapping[str, float]) -> bytes:
    """Accuracy against seconds per image (ManifoldGD Fig. 11)."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for name, value in seconds.items():
            axis.scatter([value], [100 * accuracies[name]], s=18)
            axis.annotate(name, (value, 100 * accuracies[name]), xytext=(4, 4), textcoords="offset points", fontsize=7)
        axis.set(xlabel="seconds per image", ylabel="accuracy, %", xlim=(0, 1.25 * max(seconds.values())))

    return _png(draw, 6, 3.6)


def _png(draw: Callable[[Any], None], width: float, height: float) -> bytes:
    figure = blank_figure(width, height, dpi=110, layout="constrained")
    draw(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
