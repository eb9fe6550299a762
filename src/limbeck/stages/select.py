"""select: prototypes of every class of a shard, by the configured discovery."""

from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

import numpy as np

from limbeck.artifacts import EMBEDDING, PROTOTYPES
from limbeck.components import DISCOVERY
from limbeck.discovery.base import Found, Pool
from limbeck.errors import LimbeckError
from limbeck.metrics.kernels import squared
from limbeck.stages.common import Spec, class_rows, header_of, params, progress, read_class, same_rows, write_joined
from limbeck.stages.fit import read_fits
from limbeck.store import Artifact


def run(spec: Spec, points: Path, prototypes: Path, embedding: Path | None = None, fit: Path | None = None) -> None:
    """Write ``prototypes`` from latents, from scored patches, or from images where the discovery needs neither; with its cached
    embedding and fit.
    """
    ipc = spec["ipc"]
    discover = import_module(DISCOVERY[spec["discovery"]["kind"]]).discover
    fits = read_fits(fit) if fit else {}
    rows: dict[str, list[np.ndarray]] = {}
    with ExitStack() as stack:
        source, report = stack.enter_context(Artifact(points)), stack.enter_context(progress("select"))
        space = stack.enter_context(Artifact(embedding, EMBEDDING)) if embedding else None
        if space is not None:
            same_rows(source, space)
        labels, names = source["labels"], source.attrs["classes"]
        options = {**spec["discovery"], "classes": len(names)}
        header = header_of(source)
        shape = source.shape("latents")[1:] if "latents" in source else None
        for done, (label, where) in enumerate(class_rows(labels), 1):
            latents = read_class(source, where) if shape else None
            own = read_class(space, where) if space else None
            scores = source.read("scores", where.start, where.stop) if "scores" in source else None
            pool = Pool(where.stop - where.start, latents, own, fits.get(label), scores)
            if pool.n < ipc:
                raise LimbeckError(f"class {names[label]!r} has {pool.n} images, fewer than IPC {ipc}")
            try:
                found = discover(pool, ipc, options, spec["seed"], label)
            except ValueError as error:
                raise LimbeckError(f"class {names[label]!r}: {options['kind']} {error}") from None
            patches = found.parts is not None
            arrays = _of_patches(found, source, where, label) if patches else _arrays(found, pool, shape, where, label)
            for name, values in arrays.items():
                rows.setdefault(name, []).append(values)
            report(done, len(np.unique(labels)))
    inputs = {name: path for name, path in (("points", points), ("embedding", embedding), ("fit", fit)) if path}
    write_joined(prototypes, PROTOTYPES, rows, params(spec), inputs, **header)


def _of_patches(found: Found, source: Artifact, where: slice, label: int) -> dict[str, np.ndarray]:
    """Rows of images and places in them, in place of patches."""
    parts = np.asarray(found.parts)
    rows, boxes = (source.read(name, where.start, where.stop)[parts] for name in ("rows", "boxes"))
    n = len(parts)
    return {"indices": rows[:, 0], "labels": np.full(n, label), "counts": found.counts, "parts": rows, "boxes": boxes}


def _arrays(found: Found, pool: Pool, shape: tuple[int, ...] | None, where: slice, label: int) -> dict[str, np.ndarray]:
    arrays = {"indices": found.indices + where.start, "labels": np.full(len(found.indices), label), "counts": found.counts}
    if pool.latents is not None and shape is not None:
        centroids, members = np.asarray(found.centroids), pool.latents[found.indices]
        arrays |= {
            "centroids": centroids.reshape(-1, *shape),
            "members": members.reshape(-1, *shape),
            "centroid_spread": _spread(pool.latents, centroids),
            "member_spread": _spread(pool.latents, members),
        }
    optional = {"levels": found.levels, "origins": found.origins}
    return arrays | {name: values for name, values in optional.items() if values is not None}


def _spread(latents: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Median distance of the class's latents to each prototype."""
    return np.asarray(np.median(np.sqrt(squared(latents, prototypes)), axis=0))
