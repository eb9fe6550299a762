"""choose: which of its candidate groups every class keeps, from the features of all candidates."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.artifacts import FEATURES, SUBGROUPS
from limbeck.errors import LimbeckError
from limbeck.records import SUFFIX
from limbeck.seeds import stream
from limbeck.selection.subgroup import centroid, mean_unit, select
from limbeck.stages.common import Spec, class_rows, params
from limbeck.store import Artifact, create


def run(spec: Spec, candidates: Sequence[Path], shards: int, real: Sequence[Path], subgroups: Path) -> None:
    """Write ``subgroups``. A class's features are in memory at a time, and the mean direction of every group.

    candidates: the groups' folders, each with the features of every shard. real: those of the training images, or none
    (``centroids: generated``).
    """
    options = spec["keep"]
    files = [folder / f"features/{options['extractor']}-{shard}{SUFFIX}" for folder in candidates for shard in range(shards)]
    found: dict[int, list[np.ndarray]] = {}
    with Artifact(files[0], FEATURES) as first:
        classes = list(first.attrs["classes"])
    try:
        for path in files:
            for label, values in _classes(path):
                found.setdefault(label, []).append(mean_unit(values))
        labels = sorted(found)
        means = np.array([found[label] for label in labels])
        if real:
            references = dict(_real(real, options["real_images"], spec["seed"], classes))
            of_classes = np.stack([references[label] for label in labels])
        else:  # IMS3 8.13: the generator's own images stand for the real ones; groups are of one size
            of_classes = means.mean(axis=1)
        chosen = select(
            means,
            of_classes,
            alpha=options["alpha"],
            beta=options["beta"],
            variant=options["subgroup_variant"],
            seed=spec["seed"],
        )
    except ValueError as error:
        raise LimbeckError(f"subgroup sampling with extractor {options['extractor']}: {error}") from None
    arrays = {"labels": np.array(labels), **{name: getattr(chosen, name) for name in ("groups", "near", "apart", "scores")}}
    inputs = {f"candidates/{i}": path for i, path in enumerate(files)} | {f"real/{i}": path for i, path in enumerate(real)}
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
