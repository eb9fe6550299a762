"""pick: the distilled set of a method that keeps real images."""

from pathlib import Path

from limbeck.artifacts import DISTILLED, IMAGES, PROTOTYPES
from limbeck.stages.common import Spec, params
from limbeck.store import Artifact, create


def run(spec: Spec, images: Path, prototypes: Path, distilled: Path) -> None:
    """Write ``distilled``: the real images that the prototypes name."""
    with Artifact(images, IMAGES) as source, Artifact(prototypes, PROTOTYPES) as chosen:
        indices = chosen["indices"]
        shapes = {"images": (len(indices), *source.shape("images")[1:]), "labels": indices.shape, "indices": indices.shape}
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        with create(distilled, DISTILLED, shapes, params(spec), {"images": images, "prototypes": prototypes}, **header) as out:
            for row in indices:  # one row at a time: the shard's images may not fit in memory
                out.append("images", source.read("images", int(row), int(row) + 1))
            out.append("labels", chosen["labels"])
            out.append("indices", indices)
