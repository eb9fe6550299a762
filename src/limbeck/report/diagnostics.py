"""What the methods did on their way: planes of features, trajectories, angles, cost. Arrays in, SVG out.

The SVG is part of the page: its text and lines have the page's colour, and what belongs to a row of the table says so
(``data-row``), so that the page's filter finds it.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from limbeck.metrics.trajectories import variance_of_norms
from limbeck.report.grid import blank_figure
from limbeck.report.table import printed_name

MAP_REAL, MAP_SET = 1000, 100  # points of the coverage map: its time grows with them
TYPICAL_CLASSES = 10
# seen on white and on black; the lines of more rows are dashed and dotted
COLOURS = ("#3f86c8", "#e0752b", "#35995a", "#d4504a", "#9170c4", "#a4775f", "#d465a5", "#6b74d6", "#98961f", "#21a5b3")
DASHES = ("-", "--", ":")
GREY = "#80868d"
# what matplotlib names in an SVG and nothing refers to
UNUSED = re.compile(r' id="[A-Za-z0-9.]+_\d+"')

Styles = Mapping[str, tuple[str, str]]  # row -> colour and dashes, in every figure the same


def styles_of(rows: Sequence[str], references: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A style for every row of the table."""
    methods = [row for row in rows if row not in references]
    styles = {row: (GREY, DASHES[-i % len(DASHES)]) for i, row in enumerate(references)}
    styles |= {row: (COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i, row in enumerate(methods)}
    return {row: styles[row] for row in rows}


@dataclass(frozen=True)
class Cloud:
    """One class in the plane of its two first principal components.

    points (N, 2); by row, prototypes (IPC, 2) and distilled images (IPC, 2).
    """

    name: str
    points: np.ndarray
    prototypes: Mapping[str, np.ndarray]
    images: Mapping[str, np.ndarray] = field(default_factory=dict)


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


def coverage_plane(real: np.ndarray, sets: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The real images' features and every set's own in one t-SNE plane: (N, D) features to (N, 2) points (IMS3 Fig. 1)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    parts = [real, *sets.values()]
    points = np.concatenate(parts)
    reduced = PCA(min(30, *points.shape), random_state=0).fit_transform(points)
    plane = TSNE(init="pca", perplexity=min(30, (len(points) - 1) / 3), max_iter=500, random_state=0, n_jobs=1).fit_transform(
        reduced
    )
    cloud, *own = np.split(plane, np.cumsum([len(part) for part in parts])[:-1])
    return cloud, dict(zip(sets, own, strict=True))


def origin_figure(shares: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """Where each set's representatives come from, as stacked shares (CoDA Fig. 4)."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        left = np.zeros(len(shares))
        for name, part, colour in zip(names, np.array(list(shares.values())).T, COLOURS, strict=False):
            axis.barh(list(shares), 100 * part, left=100 * left, label=name, height=0.6, color=colour)
            left += part
        axis.invert_yaxis()
        axis.set(xlabel="share of the representatives, %", xlim=(0, 100))
        axis.legend(ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return svg("origins", draw, 7, 0.45 * len(shares) + 1.2)


def trajectory_figure(norms: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], styles: Styles) -> str:
    """Mean |x0_hat| over the solver's steps, as a share of them, and its variance within classes."""

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for name, values in norms.items():
            # a method that starts late has no norms before
            values = np.where(values.any(axis=0), values, np.nan)
            along = np.arange(1, values.shape[1] + 1) / values.shape[1]
            _line(left, name, along, values.mean(axis=0), styles)
            spread = variance_of_norms(values, labels[name])
            final = "" if np.isnan(spread[-1]) else f"{name} (v = {spread[-1]:.2f})"
            _line(right, name, along, spread, styles, final or name)
        left.set(xlabel="share of the solver's steps done", ylabel="mean of |x0_hat|, scaled latent")
        right.set(xlabel="share of the solver's steps done", ylabel="variance of |x0_hat| within a class")
        _legend(figure, right, list(norms))

    return svg("trajectories", draw, 11, 3.6)


def angle_figure(shares: Mapping[str, np.ndarray], chance: Mapping[str, float], styles: Styles) -> str:
    """Mean share of the mode guidance's norm inside the tangent space per guided step, and the angle between the two."""

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for name, values in shares.items():
            angles, steps = np.degrees(np.arccos(np.clip(values, 0, 1))), np.arange(1, values.shape[1] + 1)
            _line(left, name, steps, values.mean(axis=0), styles)
            _line(right, name, steps, angles.mean(axis=0), styles)
            left.axhline(chance[name], ls=":", lw=0.9, c=styles[name][0], gid=of_row(name))
        left.set(xlabel="guided step", ylabel="share of |g_mode| in the tangent space", ylim=(0, 1))
        right.set(xlabel="guided step", ylabel="angle to the tangent space, degrees", ylim=(0, 90))
        _legend(figure, right, list(shares))

    return svg("angles", draw, 11, 3.2)


def normality_figure(rejected: Mapping[str, np.ndarray], styles: Styles) -> str:
    """Share of dimensions that are not Gaussian on every rung of an inversion, clean latents first (D3HR Fig. 1)."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for name, values in rejected.items():
            _line(axis, name, np.arange(len(values)), 100 * values, styles, marker=".", ms=4)
        axis.axhline(5, ls=":", lw=0.9, c=GREY)
        axis.set(xlabel="inversion steps", ylabel="dimensions not Gaussian, %", ylim=(0, None))
        _legend(figure, axis, list(rejected))

    return svg("normality", draw, 7, 3.2)


def subgroup_figure(found: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> str:
    """Every candidate group by the two terms of IMS3's Eq. 10, the chosen ones filled; near, apart (C, G), groups (C,)."""

    def draw(figure: Any) -> None:
        axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axis, (name, (near, apart, groups)) in zip(axes, found.items(), strict=True):
            for label, (x, y, chosen) in enumerate(zip(near, apart, groups, strict=True)):
                colour = COLOURS[label % len(COLOURS)]
                axis.scatter(x, y, s=22, facecolors="none", edgecolors=colour, linewidths=0.9)
                axis.scatter(x[chosen], y[chosen], s=22, color=colour)
            axis.set_gid(of_row(name))
            axis.set_title(name)
            axis.set(xlabel="log(1 - cos) to the class's centroid", ylabel="mean log(1 - cos) to other classes")

    return svg("subgroups", draw, 4.6 * len(found), 3.6)


@dataclass(frozen=True)
class Scored:
    """An image (H, W, channels), its typicality map (h, w), its best patch's score and box (top, left, side) in pixels."""

    image: np.ndarray
    map: np.ndarray
    score: float
    box: tuple[int, int, int]


def typicality_figure(found: Mapping[str, tuple[Scored, Scored]]) -> str:
    """Of every class the image with the most and the one with the least typical patch, framed, over their maps."""
    limit = max(float(np.abs(each.map).max()) for pair in found.values() for each in pair) or 1.0

    def draw(figure: Any) -> None:
        axes = figure.subplots(4, len(found), squeeze=False)
        for column, (name, pair) in enumerate(found.items()):
            axes[0, column].set_title(name)
            for row, each in zip((0, 2), pair, strict=True):
                image, below = axes[row, column], axes[row + 1, column]
                image.imshow(
                    each.image.squeeze(-1) if each.image.shape[-1] == 1 else each.image,
                    cmap="gray",
                    vmin=0,
                    vmax=255,
                    interpolation="none",
                )
                top, left, side = each.box
                if side < max(each.image.shape[:2]):
                    image.plot(
                        np.array([0, 1, 1, 0, 0]) * side + left - 0.5, np.array([0, 0, 1, 1, 0]) * side + top - 0.5, "r", lw=1
                    )
                below.imshow(each.map, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="none")
                below.set_xlabel(f"R {each.score:.2f}")
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)

    return svg("typicality", draw, max(3, 1.15 * len(found)), 4.8)


def cost_figure(seconds: Mapping[str, float], accuracies: Mapping[str, tuple[float, float]], styles: Styles) -> str:
    """Accuracy, (mean, sd) as fractions, against seconds per image (ManifoldGD Fig. 11)."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        for name, value in seconds.items():
            mean, sd = (100 * part for part in accuracies[name])
            bars = axis.errorbar([value], [mean], [0 if math.isnan(sd) else sd], fmt="o", ms=5, lw=1, capsize=2, c=styles[name][0])
            for part in _parts(bars):
                part.set_gid(of_row(name))
        axis.set(xlabel="seconds per image (logarithmic)", ylabel="accuracy, %", xscale="log")
        low, high = min(seconds.values()), max(seconds.values())
        axis.set_xlim(low / 1.3, high * 1.3)
        axis.xaxis.set_major_locator(_locator(low, high))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(_no_locator())
        figure.canvas.draw()
        _name_points(axis, {name: (value, 100 * accuracies[name][0], 100 * accuracies[name][1]) for name, value in seconds.items()})

    return svg("cost", draw, 8, 4.2)


def _locator(low: float, high: float) -> Any:
    from matplotlib.ticker import FixedLocator, LogLocator

    if high > 20 * low:
        return LogLocator(subs=(1, 2, 5))
    digits = 2 - math.ceil(math.log10(high))
    return FixedLocator(sorted({round(value, digits) for value in np.geomspace(low, high, 6)}))


def _no_locator() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _name_points(axis: Any, points: Mapping[str, tuple[float, float, float]], size: float = 8) -> None:
    """The name of every point (x, y, sd) beside it, moved up off bars and other names, with a line to its point where it is far."""
    unit = axis.figure.dpi / 72  # pixels
    half, width = 0.6 * size * unit, 0.62 * size * unit
    place = axis.transData.transform
    boxes = []  # left, right, bottom, top
    for x, y, sd in points.values():
        left, low = place((x, y - np.nan_to_num(sd))) - 4 * unit
        right, high = place((x, y + np.nan_to_num(sd))) + 4 * unit
        boxes.append((left, right, low, high))

    def taken(left: float, right: float, at: float) -> bool:
        return any(left < b[1] and b[0] < right and b[2] < at + half and at - half < b[3] for b in boxes)

    for name, (x, y, _) in sorted(points.items(), key=lambda item: (item[1][1], item[1][0])):
        start, middle = place((x, y))
        left = start + 7 * unit
        right, at = left + width * len(name), middle
        while taken(left, right, at):
            at += 1
        boxes.append((left, right, at - half, at + half))
        line = {"arrowstyle": "-", "lw": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": 2} if at - middle > half else None
        offset = (7, (at - middle) / unit)
        text = axis.annotate(name, (x, y), offset, textcoords="offset points", va="center", fontsize=size, arrowprops=line)
        text.set_gid(of_row(name))


def curve_figure(title: str, curves: Mapping[str, Mapping[int, tuple[float, float]]], styles: Styles) -> str:
    """Accuracy over images per class, a line per row: IPC -> (mean, sd) as fractions. title: no other figure's of the page."""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        every = sorted({ipc for curve in curves.values() for ipc in curve})
        for i, (name, curve) in enumerate(curves.items()):
            colour, dashes = styles[name]
            # points of one IPC beside one another, so that their bars can be told apart
            at = np.array(list(curve)) * 1.2 ** (i / len(curves) - 0.5)
            mean, sd = (100 * np.array(list(curve.values()))).T
            axis.errorbar(
                at, mean, np.nan_to_num(sd), c=colour, ls=dashes, lw=1.3, marker="o", ms=3.5, capsize=2, label=printed_name(name)
            )
            for part in _parts(axis.containers[-1]):
                part.set_gid(of_row(name))
        axis.set(xscale="log", xlabel="images per class (logarithmic)", ylabel="accuracy, %")
        axis.set_xticks(every, list(map(str, every)))
        axis.xaxis.set_minor_locator(_no_locator())
        _legend(figure, axis, list(curves))

    return svg(title, draw, 9, 4.6)


def _parts(container: Any) -> list[Any]:
    line, caps, bars = container.lines
    return [*([line] if line else []), *caps, *bars]


def _line(axis: Any, name: str, x: np.ndarray, y: np.ndarray, styles: Styles, label: str = "", **options: Any) -> None:
    colour, dashes = styles[name]
    axis.plot(x, y, c=colour, ls=dashes, lw=1.3, label=label or name, gid=of_row(name), **options)


def _legend(figure: Any, axis: Any, names: Sequence[str]) -> None:
    """Right of the figure, an entry per row in the order of ``names``."""
    handles, labels = axis.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside right center", handlelength=2.2)
    for name, handle, text in zip(names, legend.legend_handles, legend.get_texts(), strict=True):
        for part in _parts(handle) if hasattr(handle, "lines") else [handle]:
            part.set_gid(of_row(name))
        text.set_gid(of_row(name))


def of_row(name: str) -> str:
    """The id of what belongs to a row, until ``svg`` makes ``data-row`` of it."""
    return f"row:{name}"


def svg(name: str, draw: Callable[[Any], None], width: float, height: float) -> str:
    """A figure of so many inches as part of an HTML page: text as text, black as the page's own colour, ids that no other has."""
    from matplotlib import rc_context

    options: dict[Any, Any] = {
        f"{part}size": 8 for part in ("xtick.label", "ytick.label", "legend.font", "axes.label", "axes.title")
    }
    options |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "axes.linewidth": 0.7}
    options |= {"svg.fonttype": "none", "svg.hashsalt": name, "image.composite_image": False}
    with rc_context(options):
        figure = blank_figure(width, height, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'id="row:([\w.-]+)"', r'data-row="\1"', UNUSED.sub("", text))
    text = re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" style="--natural: {96 * width:.0f}px">', text, count=1)
    text = text.replace("#000000", "currentColor")
    return re.sub(r"\n\s*", "\n", text)
