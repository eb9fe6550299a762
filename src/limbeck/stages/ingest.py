"""ingest: decode and resize one split and shard of a dataset into a class-major images artifact."""

from pathlib import Path
from typing import Any

import numpy as np

from limbeck.artifacts import IMAGES
from limbeck.config import Dataset, View
from limbeck.data.preprocessing import apply_view, cut_windows, window_corners
from limbeck.data.sources import Source, open_source
from limbeck.stages.common import Spec, params, progress
from limbeck.store import create

BLOCK = 500


def run(spec: Spec, images: Path) -> None:
    """Write ``images``; a file that cannot be decoded is an error naming it."""
    view = View.model_validate(spec["view"])
    channels = spec["source"]["channels"]
    source = open_source(spec["dataset"], Dataset.model_validate({**spec["source"], "views": {"view": view}}))
    split, (first, stop) = spec["split"], spec["classes"]
    labels = source.labels(split)
    chosen = np.concatenate([np.flatnonzero(labels == c) for c in range(first, stop)])
    places = _windows(source, split, chosen, view) if view.resize == "windows" else {}
    repeats = np.diff(np.flatnonzero(places["windows"] == 0), append=len(places["windows"])) if places else 1
    ids = [source.source_id(split, int(i)).encode() for i in chosen]
    width, n = max(map(len, ids)), len(places["windows"]) if places else len(chosen)
    padded = np.frombuffer(b"".join(i.ljust(width, b"\0") for i in ids), np.uint8).reshape(-1, width)
    arrays = {"labels": np.repeat(labels[chosen], repeats), "source_ids": np.repeat(padded, repeats, axis=0), **places}
    shapes = {"images": (n, view.size, view.size, channels), **{name: values.shape for name, values in arrays.items()}}
    recorded = params({**spec, "source": {k: v for k, v in spec["source"].items() if k != "path"}})
    header: dict[str, Any] = {"classes": list(source.classes), "class_range": [first, stop]}
    with create(images, IMAGES, shapes, recorded, {}, **header) as out, progress(f"ingest {split}") as report:
        for start in range(0, len(chosen), BLOCK):
            block = chosen[start : start + BLOCK]
            out.append("images", np.concatenate([_decoded(source, split, int(i), view, channels) for i in block]))
            report(start + len(block), len(chosen))
        for name, values in arrays.items():
            out.append(name, values)


def _windows(source: Source, split: str, chosen: np.ndarray, view: View) -> dict[str, np.ndarray]:
    """Which of its image's windows each row is, and where it lies in the image."""
    corners = [window_corners(*source.size(split, int(i)), view)[1] for i in chosen]
    return {"windows": np.concatenate([np.arange(len(each)) for each in corners]), "corners": np.concatenate(corners)}


def _decoded(source: Source, split: str, index: int, view: View, channels: int) -> np.ndarray:
    """(K, size, size, channels): one square, or the windows of one image."""
    try:
        image = source.image(split, index)
        return cut_windows(image, view, channels) if view.resize == "windows" else apply_view(image, view, channels)[None]
    except ValueError as error:
        raise source.fail(f"image {source.source_id(split, index)} {error}") from None
