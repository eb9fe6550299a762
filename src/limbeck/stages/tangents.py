"""tangents: the tangent space at every guided step of every image to distil, before any is sampled."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from limbeck.artifacts import LATENTS, PROTOTYPES, TANGENTS
from limbeck.diffusion.levels import Level, levels
from limbeck.errors import LimbeckError
from limbeck.geometry.patch import Patch, neighbour_count, real_patches, synthetic_patches
from limbeck.geometry.tangent import EXTRA, tangent
from limbeck.guidance.manifold import factors, neighbours_of
from limbeck.priors import schedulers
from limbeck.seeds import normal
from limbeck.stages.common import Spec, class_rows, header_of, params, progress, read_class
from limbeck.stages.numbers import append
from limbeck.store import Artifact, create

MEMORY = 512 * 2**20


def run(spec: Spec, latents: Path, prototypes: Path, scheduler: Path, tangents: Path) -> dict[str, float]:
    """Write ``tangents``; returns the seconds per image.

    Queries are at alpha_t c_s + sigma_t eps_s with each image's own initial noise.
    """
    started = time.monotonic()
    options, ipc = spec["tangents"], spec["ipc"]
    grid = levels(schedulers.build(schedulers.load_config(scheduler), options["solver"], options["steps"]))
    with Artifact(latents, LATENTS) as source, Artifact(prototypes, PROTOTYPES) as chosen, progress("tangents") as report:
        labels, names = source["labels"], source.attrs["classes"]
        centres = chosen["centroids" if options["target"] == "centroid" else "members"].reshape(len(chosen), -1)
        header = header_of(source)
        shape = source.shape("latents")[1:]
        parts: list[dict[str, np.ndarray]] = []
        for done, (label, where) in enumerate(class_rows(labels), 1):
            points = read_class(source, where)
            for start in range(0, ipc, group := group_size(options, *points.shape)):
                items = range(start, min(start + group, ipc))
                own = centres[(done - 1) * ipc :][items.start : items.stop]
                patches = class_patches(options, points, own, spec["seed"], label, names[label], items)
                noise = np.stack([normal(shape, spec["seed"], "sample", label, item).numpy().ravel() for item in items])
                try:
                    part = at_anchors(patches, noise, grid, options)
                except (ValueError, np.linalg.LinAlgError) as error:
                    raise LimbeckError(f"class {names[label]!r}: no tangents of its latents ({error}); are they whole?") from None
                if options["neighbourhood"] == "real":
                    part["patch"] = _padded([patch.rows + where.start for patch in patches])
                parts.append({**part, "labels": np.full(len(items), label)})
            report(done, len(np.unique(labels)))
    arrays = {name: _joined([part[name] for part in parts]) for name in parts[0]}
    inputs = {"latents": latents, "prototypes": prototypes, "scheduler": scheduler}
    with create(tangents, TANGENTS, {k: v.shape for k, v in arrays.items()}, params(spec), inputs, **header) as out:
        append(out, arrays, "tangents", "lower k or d, or raise the radius")
    return {"seconds_per_image": round((time.monotonic() - started) / len(arrays["labels"]), 4)}


def class_patches(
    options: Spec, latents: np.ndarray, centres: np.ndarray, seed: int, label: int, name: str, items: Sequence[int]
) -> list[Patch]:
    """The neighbourhoods of a class's prototypes; errors name the class."""
    make = synthetic_patches if options["neighbourhood"] == "synthetic" else real_patches
    try:
        patches = make(latents, centres, dict(options), factors(dict(options)), seed, label, items)
    except ValueError as error:
        raise LimbeckError(f"class {name!r}: {error}") from None
    counts = np.concatenate([patch.counts for patch in patches])
    whole = sum(neighbour_count(options["k"], int(count), options["d"]) == count for count in counts)
    if whole and items[0] == 0:
        print(
            f"warning: class {name!r}: k {options['k']} does not bind in {whole} of {len(counts)} patches (the smallest has "
            f"{counts.min()} points): they are taken whole",
            file=sys.stderr,
        )
    return patches


def group_size(options: Spec, points: int, dims: int) -> int:
    """How many images go at once, so that their patches, clouds and the eigensolver's copies stay under MEMORY."""
    return max(1, MEMORY // (4 * dims * 5 * max(points, options["points"])))


def at_anchors(patches: Sequence[Patch], noise: np.ndarray, grid: Sequence[Level], options: Spec) -> dict[str, np.ndarray]:
    """Tangents of one class's images (B) at every guided step (T), as the arrays of the artifact.

    noise: (B, D), each image's initial noise. grid: the level of every solver step.
    """
    d, steps = options["d"], options["t_stop"]
    width = max(neighbour_count(options["k"], int(count), d) for patch in patches for count in patch.counts)
    shape = (len(patches), steps)
    out = {
        "patch_counts": np.stack([patch.counts for patch in patches]),
        "radii": np.stack([patch.radii for patch in patches]),
        "neighbours": np.full((*shape, width), -1),
        "coefficients": np.zeros((*shape, width, d), np.float32),
        "spectrum": np.zeros((*shape, d + EXTRA), np.float32),
        **{name: np.zeros(shape, np.float32) for name in ("variance", "residuals")},
        **{name: np.zeros(shape, np.int32) for name in ("counts", "ranks", "iterations")},
    }
    for index in range(steps):
        level = grid[index]
        for image, (patch, eps) in enumerate(zip(patches, noise, strict=True)):
            query = level.alpha * patch.centre + level.sigma * eps
            points, rows = neighbours_of(patch, query.astype(np.float32), index, level, dict(options))
            found = tangent(points, d, options["eigensolver"], options["tolerance"])
            at = (image, index)
            out["neighbours"][at][: len(rows)] = rows
            out["coefficients"][at][: len(rows)] = found.coefficients
            out["counts"][at] = len(rows)
            for array, value in (("spectrum", found.spectrum), ("variance", found.variance), ("ranks", found.rank)):
                out[array][at] = value
            out["iterations"][at], out["residuals"][at] = found.iterations, found.residual
    return out


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    out = np.full((len(rows), max(map(len, rows))), -1)
    for line, values in zip(out, rows, strict=True):
        line[: len(values)] = values
    return out


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate; classes whose patches are smaller are padded: ids with -1, coefficients with 0."""
    wide = [max(part.shape[axis] for part in parts) for axis in range(1, parts[0].ndim)]
    fill = -1 if np.issubdtype(parts[0].dtype, np.integer) else 0
    return np.concatenate(
        [np.pad(p, [(0, 0), *((0, w - s) for s, w in zip(p.shape[1:], wide, strict=True))], constant_values=fill) for p in parts]
    )
