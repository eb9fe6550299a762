"""localize: the most typical patch of every scored image, from its typicality maps."""

from collections.abc import Iterator
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
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        factor = places(pixels, source)
        for label, own in maps_of_images(pixels, source):
            best = [_best(whole, side, factor) for _, whole in own]
            found["rows"].append(np.array([row for row, _ in own]))
            found["boxes"].append(np.array([box for _, box in best]))
            found["scores"].append(np.array([score for score, _ in best]))
            found["labels"].append(np.full(len(own), label))
    write_joined(patches, PATCHES, found, params(spec), {"images": images, "scores": scores}, **header)


def places(pixels: Artifact, source: Artifact) -> float:
    """Pixels per place of a map."""
    return float(pixels.shape("images")[1] / source.shape("maps")[1])


def maps_of_images(pixels: Artifact, source: Artifact) -> Iterator[tuple[int, list[tuple[int, np.ndarray]]]]:
    """Per class its label, and of every scored image its first row in the shard and its map (H, W), joined from its windows'."""
    factor, starts = places(pixels, source), {label: at.start for label, at in class_rows(pixels["labels"])}
    windows = {name: pixels[name] for name in ("windows", "corners")} if "windows" in pixels else None
    for label, at in class_rows(source["labels"]):
        rows = source.read("rows", at.start, at.stop) + starts[label]
        maps = source.read("maps", at.start, at.stop)
        corners = np.zeros((len(rows), 2), np.int64) if windows is None else windows["corners"][rows]
        first = np.arange(len(rows)) if windows is None else np.flatnonzero(windows["windows"][rows] == 0)
        # a corner between two places goes to the nearest one
        at_places = np.round(corners / factor).astype(np.int64)
        ends = [*first[1:], len(rows)]
        yield label, [(int(rows[a]), merged(maps[a:b], at_places[a:b])) for a, b in zip(first, ends, strict=True)]


def _best(whole: np.ndarray, side: int, factor: float) -> tuple[float, tuple[int, int, int]]:
    """Score and box (top, left, side) in pixels of an image's best patch."""
    score, *place = best_patch(whole, max(1, round(side / factor)))
    # where a place is no whole number of pixels, the box must still end inside the image
    top, left = (min(round(p * factor), round(n * factor) - side) for p, n in zip(place, whole.shape, strict=True))
    return score, (top, left, side)
