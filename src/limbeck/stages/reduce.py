"""reduce: training latents of every class in few dimensions."""

from pathlib import Path

import numpy as np

from limbeck.artifacts import EMBEDDING, LATENTS
from limbeck.discovery.embedding import reduce
from limbeck.stages.common import Spec, class_rows, params, progress, read_class
from limbeck.store import Artifact, create


def run(spec: Spec, latents: Path, embedding: Path) -> None:
    """Write ``embedding``; the axes of a linear one too."""
    rows: dict[str, list[np.ndarray]] = {"coordinates": []}
    with Artifact(latents, LATENTS) as source, progress("reduce") as report:
        labels = source["labels"]
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        for label, where in class_rows(labels):
            found = reduce(read_class(source, where), dict(spec["embedding"]), label)
            rows["coordinates"].append(found.coordinates)
            if found.axes is not None and found.centre is not None:
                rows.setdefault("axes", []).append(found.axes[None])
                rows.setdefault("centres", []).append(found.centre[None])
            report(where.stop, len(labels))
    arrays = {name: np.concatenate(parts) for name, parts in rows.items()} | {"labels": labels}
    with create(embedding, EMBEDDING, {k: v.shape for k, v in arrays.items()}, params(spec), {"latents": latents}, **header) as out:
        for name, array in arrays.items():
            out.append(name, array)
