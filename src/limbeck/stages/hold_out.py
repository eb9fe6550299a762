"""hold_out: a few real training images of every class, by which students of a dataset may select their epoch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from limbeck.artifacts import HELD_OUT, IMAGES
from limbeck.seeds import stream
from limbeck.stages.common import Spec, class_rows, classes_of, params
from limbeck.store import Artifact, create


def run(spec: Spec, train: Sequence[Path], images: Path) -> None:
    """Write ``images``; a class of few gives a tenth of them, at least one."""
    chosen, labels = [], []
    for path in train:
        with Artifact(path, IMAGES) as source:
            side = source.shape("images")[1:]
            rows = {
                label: at.start + _some(label, at.stop - at.start, spec["held_out"]) for label, at in class_rows(source["labels"])
            }
        chosen.append(np.concatenate(list(rows.values())))
        labels += [np.full(len(own), label) for label, own in rows.items()]
    shapes = {"images": (sum(map(len, chosen)), *side), "labels": (sum(map(len, labels)),)}
    inputs = {f"images-{i}": path for i, path in enumerate(train)}
    with create(images, HELD_OUT, shapes, params(spec), inputs, classes=classes_of(train[0])) as out:
        for path, own in zip(train, chosen, strict=True):
            with Artifact(path, IMAGES) as source:
                out.append("images", source.take("images", own))
        out.append("labels", np.concatenate(labels))


def _some(label: int, size: int, held_out: int) -> np.ndarray:
    """Sorted rows of a class of ``size``."""
    return np.sort(stream(0, "hold_out", label).permutation(size)[: min(held_out, max(1, size // 10))])
