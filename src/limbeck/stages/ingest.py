"""ingest: decode and resize one split and shard of a dataset into a class-major images artifact."""

from pathlib import Path
from typing import Any

import numpy as np

from limbeck.artifacts import IMAGES
from limbeck.config import Dataset, View
from limbeck.data.preprocessing import apply_view
from limbeck.data.sources import open_source
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
    ids = [source.source_id(split, int(i)).encode() for i in chosen]
    width = max(map(len, ids))
    shapes = {"images": (len(chosen), view.size, view.size, channels), "labels": (len(chosen),), "source_ids": (len(chosen), width)}
    recorded = params({**spec, "source": {k: v for k, v in spec["source"].items() if k != "path"}})
    header: dict[str, Any] = {"classes": list(source.classes), "class_range": [first, stop]}
    with create(images, IMAGES, shapes, recorded, {}, **header) as out, progress(f"ingest {split}") as report:
        for start in range(0, len(chosen), BLOCK):
            block = chosen[start : start + BLOCK]
            out.append("images", np.stack([_decoded(source, split, int(i), view, channels) for i in block]))
            out.append("labels", labels[block])
            padded = b"".join(i.ljust(width, b"\0") for i in ids[start : start + BLOCK])
            out.append("source_ids", np.frombuffer(padded, np.uint8).reshape(-1, width))
            report(start + len(block), len(chosen))


def _decoded(source, split: str, index: int, view: View, channels: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    try:
        return apply_view(source.image(split, index), view, channels)
    except ValueError as error:
        raise source.fail(f"image {source.source_id(split, index)} {error}") from None
