"""localize: the most typical patch of every scored image, from its typicality maps."""

from pathlib import Path

import numpy as np

from limbeck.artifacts import IMAGES, PATCHES, SCORES
from limbeck.selection.patches import best_patch, merged
from limbeck.stages.common import Spec, class_rows, params, write_joined
from limbeck.store import Artifact


def run(spec: Spec, images: Path, scores: Path, patches: Path) -> None:
    """Write ``patches``. patch_size: pixels; the whole image where it is the view's side and the view has no windows."""
    side = spec["patching"]["patch_size"]
    found: dict[str, list[np.ndarray]] = {"rows": [], "boxes": [], "scores": [], "labels": []}
    with Artifact(images, IMAGES) as pixels, Artifact(scores, SCORES) as source:
        starts = {label: at.start for label, at in class_rows(pixels["labels"])}
        windows = {name: pixels[name] for name in ("windows", "corners")} if "windows" in pixels else None
        factor = pixels.shape("images")[1] / source.shape("maps")[1]  # pixels per place of a map
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        for label, at in class_rows(source["labels"]):
            rows = source.read("rows", at.start, at.stop) + starts[label]
            maps = source.read("maps", at.start, at.stop)
            corners = np.zeros((len(rows), 2), np.int64) if windows is None else windows["corners"][rows]
            first = np.arange(len(rows)) if windows is None else np.flatnonzero(windows["windows"][rows] == 0)
            best = [_best(maps[a:b], corners[a:b], side, factor) for a, b in zip(first, [*first[1:], len(rows)], strict=True)]
            found["rows"].append(rows[first])
            found["boxes"].append(np.array([box for _, box in best]))
            found["scores"].append(np.array([score for score, _ in best]))
            found["labels"].append(np.full(len(first), label))
    write_joined(patches, PATCHES, found, params(spec), {"scores": scores}, **header)


def _best(maps: np.ndarray, corners: np.ndarray, side: int, factor: float) -> tuple[float, tuple[int, int, int]]:
    """Score and box (top, left, side) in pixels of an image's best patch, from the maps of its windows."""
    # a map's place stands for factor pixels; corners between places go to the nearest one
    whole = merged(maps, np.round(corners / factor).astype(np.int64))
    score, *place = best_patch(whole, max(1, round(side / factor)))
    last = corners.max(axis=0) + round(maps.shape[1] * factor) - side  # the box must stay inside the image
    top, left = (int(min(round(p * factor), most)) for p, most in zip(place, last, strict=True))
    return score, (top, left, side)
