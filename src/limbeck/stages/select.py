"""select: prototypes of every class of a shard, by the configured discovery."""

from importlib import import_module
from pathlib import Path

import numpy as np

from limbeck.artifacts import PROTOTYPES
from limbeck.errors import LimbeckError
from limbeck.methods import DISCOVERY
from limbeck.stages.common import Spec, class_rows, params, progress
from limbeck.store import Artifact, create


def run(spec: Spec, points: Path, prototypes: Path) -> None:
    """Write ``prototypes`` from latents, or from images where the discovery needs none."""
    options, ipc = spec["discovery"], spec["ipc"]
    discover = import_module(DISCOVERY[options["kind"]].module).discover
    rows: dict[str, list[np.ndarray]] = {"indices": [], "labels": [], "counts": [], "centroids": [], "members": []}
    with Artifact(points) as source, progress("select") as report:
        labels, names = source["labels"], source.attrs["classes"]
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        shape = source.shape("latents")[1:] if "latents" in source else None
        for done, (label, where) in enumerate(class_rows(labels), 1):
            latents = None
            if shape is not None:
                latents = source.read("latents", where.start, where.stop).astype(np.float32).reshape(-1, int(np.prod(shape)))
            n = where.stop - where.start
            if n < ipc:
                raise LimbeckError(f"class {names[label]!r} has {n} images, fewer than IPC {ipc}")
            try:
                found = discover(latents, n, ipc, options, spec["seed"], label)
            except ValueError as error:
                raise LimbeckError(f"class {names[label]!r}: {options['kind']} {error}") from None
            rows["indices"].append(found.indices + where.start)
            rows["labels"].append(np.full(ipc, label))
            rows["counts"].append(found.counts)
            if latents is not None and shape is not None:
                rows["centroids"].append(np.asarray(found.centroids).reshape(-1, *shape))
                rows["members"].append(latents[found.indices].reshape(-1, *shape))
            report(done, len(np.unique(labels)))
    arrays = {name: np.concatenate(parts) for name, parts in rows.items() if parts}
    with create(prototypes, PROTOTYPES, {k: v.shape for k, v in arrays.items()}, params(spec), {"points": points}, **header) as out:
        for name, array in arrays.items():
            out.append(name, array)
