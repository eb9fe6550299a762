"""pick: the distilled set of a method that keeps real images, or patches of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from limbeck.artifacts import DISTILLED, PROTOTYPES
from limbeck.data.preprocessing import tiled
from limbeck.stages.common import Spec, header_of, params, same_rows
from limbeck.stages.cut import Cutter
from limbeck.store import Artifact, create


def run(spec: Spec, images: Path, prototypes: Path, distilled: Path) -> None:
    """Write ``distilled``: the real images that the prototypes name, or mosaics of their patches, of the dataset's own size."""
    with Cutter(images) as source, Artifact(prototypes, PROTOTYPES) as chosen:
        same_rows(source, chosen)
        indices, size = chosen["indices"], spec["size"]
        channels = source.shape("images")[3]
        shapes = {"images": (len(indices), size, size, channels), "labels": indices.shape, "indices": indices.shape}
        header = header_of(source)
        with create(distilled, DISTILLED, shapes, params(spec), {"images": images, "prototypes": prototypes}, **header) as out:
            for image in _images(source, chosen, size):  # one at a time: the shard's images may not fit in memory
                out.append("images", image[None])
            out.append("labels", chosen["labels"])
            out.append("indices", indices)


def _images(source: Cutter, chosen: Artifact, size: int) -> Iterator[np.ndarray]:
    if "boxes" not in chosen:
        for row in chosen["indices"].tolist():
            yield source.read("images", row, row + 1)[0]
        return
    for rows, boxes in zip(chosen["parts"], chosen["boxes"], strict=True):
        yield tiled([source.cut(int(row), box) for row, box in zip(rows, boxes, strict=True)], size)
