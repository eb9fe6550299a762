"""localize: the most typical patch of every scored image, from its typicality maps."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from limbeck.artifacts import IMAGES, PATCHES, SCORES
from limbeck.selection.patches import best_patch, merged
from limbeck.stages.common import Spec, class_rows, header_of, params, write_joined
from limbeck.store import Artifact

Mapped = tuple[int, np.ndarray, tuple[int, int]]  # first row in the shard, map (H, W), height and width in pixels


def run(spec: Spec, images: Path, scores: Path, patches: Path) -> None:
    """Write ``patches``. patch_size: pixels; the whole image where it is the view's side and the view has no windows."""
    side = spec["patching"]["patch_size"]
    found: dict[str, list[np.ndarray]] = {"rows": [], "boxes": [], "scores": [], "labels": []}
    with Artifact(images, IMAGES) as pixels, Artifact(scores, SCORES) as source:
        header = header_of(source)
        factor = places(pixels, source)
        for label, own in maps_of_images(pixels, source):
            best = [_best(whole, shape, side, factor) for _, whole, shape in own]
            found["rows"].append(np.array([row for row, *_ in own]))
            found["boxes"].append(np.array([box for _, box in best]))
            found["scores"].append(np.array([score for score, _ in best]))
            found["labels"].append(np.full(len(own), label))
    write_joined(patches, PATCHES, found, params(spec), {"images": images, "scores": scores}, **header)


def places(pixels: Artifact, source: Artifact) -> float:
    """Pixels per place of a map."""
    return float(pixels.shape("images")[1] / source.shape("maps")[1])


def maps_of_images(pixels: Artifact, source: Artifact) -> Iterator[tuple[int, list[Mapped]]]:
    """Per class its label and its scored images; the map of several windows is joined from theirs."""
    factor, starts = places(pixels, source), {label: at.start for label, at in class_rows(pixels["labels"])}
    windows = {name: pixels[name] for name in ("windows", "corners")} if "windows" in pixels else None
    for label, at in class_rows(source["labels"]):
        rows = source.read("rows", at.start, at.stop) + starts[label]
        maps = source.read("maps", at.start, at.stop)
        corners = np.zeros((len(rows), 2), np.int64) if windows is None else windows["corners"][rows]
        first = np.arange(len(rows)) if windows is None else np.flatnonzero(windows["windows"][rows] == 0)
        # a corner between two places goes to the nearest one
        at_places = np.round(corners / factor).astype(np.int64)
        size, found = pixels.shape("images")[1], []
        for a, b in zip(first, [*first[1:], len(rows)], strict=True):
            height, width = (corners[a:b].max(axis=0) + size).tolist()
            found.append((int(rows[a]), merged(maps[a:b], at_places[a:b]), (height, width)))
        yield label, found


def _best(whole: np.ndarray, shape: tuple[int, int], side: int, factor: float) -> tuple[float, tuple[int, int, int]]:
    """Score and box (top, left, side) in pixels of the best patch of an image of ``shape``."""
    score, *place = best_patch(whole, max(1, round(side / factor)))
    # where a place is no whole number of pixels, the box must still end inside the image
    top, left = (min(round(p * factor), most - side) for p, most in zip(place, shape, strict=True))
    return score, (top, left, side)
