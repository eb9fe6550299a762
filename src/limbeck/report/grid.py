"""Image grids: one row of the picture per method, one column per class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def blank_figure(width: float, height: float, **options: Any) -> Any:
    """A matplotlib figure of so many inches, drawn without a display, that takes no class's name for a formula."""
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rcParams["text.parse_math"] = False
    figure = Figure(figsize=(width, height), **options)
    FigureCanvasAgg(figure)
    return figure


def montage(images: np.ndarray, columns: int) -> np.ndarray:
    """(N, H, W, C) uint8 tiled row by row with a one-pixel gap; (H', W', C)."""
    n, h, w, c = images.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1, c), 96, np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        canvas[y * (h + 1) : y * (h + 1) + h, x * (w + 1) : x * (w + 1) + w] = image
    return canvas


def method_strip(images: np.ndarray, labels: np.ndarray, per_class: int) -> np.ndarray:
    """The first ``per_class`` images of every class: classes as columns."""
    classes = np.unique(labels)
    picked = [images[labels == c][:per_class] for c in classes]
    rows = min(map(len, picked))
    return montage(np.concatenate([np.stack([column[r] for column in picked]) for r in range(rows)]), len(classes))


def save_grid(path: Path, strips: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """All methods' strips under one another, with their names and the classes'."""
    heights = [strip.shape[0] for strip in strips.values()]
    width = max(strip.shape[1] for strip in strips.values())
    # an inch per image of 32 pixels, at most two for larger ones
    inch = max(32.0, width / len(classes) / 2)
    figure = blank_figure(width / inch + 2, sum(heights) / inch + 0.6 * len(heights) + 1, dpi=72)
    axes = figure.subplots(len(strips), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, (name, strip) in zip(axes, strips.items(), strict=True):
        axis.imshow(strip.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
        axis.set_title(name, loc="left", fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
    step = list(strips.values())[-1].shape[1] / len(classes)
    axes[-1].set_xticks([(i + 0.5) * step for i in range(len(classes))], classes, rotation=30, ha="right", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, format="png", metadata={"Software": None})
