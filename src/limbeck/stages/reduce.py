"""reduce: training latents of every class in few dimensions."""

from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from limbeck.artifacts import EMBEDDING, LATENTS
from limbeck.stages.common import Spec, class_rows, params, progress, read_class
from limbeck.store import Artifact, create


def run(spec: Spec, latents: Path, embedding: Path) -> None:
    """Write ``embedding``: per class, the principal components of its latents."""
    components = spec["embedding"]["components"]
    with Artifact(latents, LATENTS) as source, progress("reduce") as report:
        labels = source["labels"]
        ranges = list(class_rows(labels))
        features = int(np.prod(source.shape("latents")[1:]))
        shapes = {
            "coordinates": (len(labels), components),
            "labels": labels.shape,
            "axes": (len(ranges), components, features),
            "centres": (len(ranges), features),
        }
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        with create(embedding, EMBEDDING, shapes, params(spec), {"latents": latents}, **header) as out:
            for _, where in ranges:
                points = read_class(source, where).astype(np.float64)
                # a class of fewer images spans fewer axes; the rest stay 0
                axes, centre = np.zeros((components, features)), points.mean(axis=0)
                possible = min(components, len(points) - 1, features)
                if possible > 0 and points.std() > 0:
                    axes[:possible] = PCA(possible, svd_solver="full").fit(points).components_
                out.append("coordinates", (points - centre) @ axes.T)
                out.append("axes", axes[None])
                out.append("centres", centre[None])
                report(where.stop, len(labels))
            out.append("labels", labels)
