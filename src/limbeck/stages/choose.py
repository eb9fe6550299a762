"""choose: which of its candidate groups every class keeps, from the features of all candidates."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.artifacts import FEATURES, SUBGROUPS
from limbeck.errors import LimbeckError
from limbeck.seeds import stream
from limbeck.selection.subgroup import centroid, select
from limbeck.stages.common import Spec, class_rows, params
from limbeck.store import Artifact, create


def run(spec: Spec, candidates: Sequence[Path], real: Sequence[Path], subgroups: Path) -> None:
    """Write ``subgroups``. A class's features are in memory at a time.

    candidates: the features of every shard, group by group. real: those of the training images, or none (``centroids: generated``).
    """
    options = spec["keep"]
    found: dict[int, list[np.ndarray]] = {}
    for path in candidates:
        for label, values in _classes(path):
            found.setdefault(label, []).append(values)
    labels = sorted(found)
    with Artifact(candidates[0], FEATURES) as first:
        classes = list(first.attrs["classes"])
    try:
        groups = np.stack([[centroid(values) for values in found[label]] for label in labels])
        if real:
            references = dict(_real(real, options["real_images"], spec["seed"], classes))
        else:  # IMS3 8.13: the generator's own images stand for the real ones
            references = {label: centroid(np.concatenate(found[label])) for label in labels}
        chosen = select(
            groups,
            np.stack([references[label] for label in labels]),
            alpha=options["alpha"],
            beta=options["beta"],
            variant=options["subgroup_variant"],
            seed=spec["seed"],
        )
    except ValueError as error:
        raise LimbeckError(f"subgroup sampling with extractor {options['extractor']}: {error}") from None
    arrays = {"labels": np.array(labels), **{name: getattr(chosen, name) for name in ("groups", "near", "apart", "scores")}}
    inputs = {f"candidates/{i}": path for i, path in enumerate(candidates)} | {f"real/{i}": path for i, path in enumerate(real)}
    header: dict[str, Any] = {"classes": classes, "class_range": [labels[0], labels[-1] + 1]}
    shapes = {name: values.shape for name, values in arrays.items()}
    with create(subgroups, SUBGROUPS, shapes, params(spec), inputs, **header) as out:
        for name, values in arrays.items():
            out.append(name, values)


def _classes(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """(class, features (K, D)) of a shard."""
    with Artifact(path, FEATURES) as source:
        for label, rows in class_rows(source["labels"]):
            yield label, source.read("features", rows.start, rows.stop)


def _real(paths: Sequence[Path], images: int | None, seed: int, classes: list[str]) -> Iterator[tuple[int, np.ndarray]]:
    """(class, centroid) of K training images, or of all (Eq. 8)."""
    for path in paths:
        for label, values in _classes(path):
            if images is not None and images > len(values):
                raise ValueError(f"real_images {images} is more than the {len(values)} of class {classes[label]!r}")
            rows = slice(None) if images is None else stream(seed, "choose.real", label).permutation(len(values))[:images]
            yield label, centroid(values[rows])
