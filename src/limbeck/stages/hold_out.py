"""hold_out: a few real training images of every class, by which students of a dataset may select their epoch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from limbeck.artifacts import HELD_OUT, IMAGES
from limbeck.seeds import stream
from limbeck.stages.common import Spec, class_rows, classes_of, params, write_joined
from limbeck.store import Artifact


def run(spec: Spec, train: Sequence[Path], images: Path) -> None:
    """Write ``images``; a class of few gives a tenth of them, at least one."""
    found: dict[str, list[np.ndarray]] = {"images": [], "labels": []}
    for path in train:
        with Artifact(path, IMAGES) as source:
            for label, at in class_rows(source["labels"]):
                size = at.stop - at.start
                rows = np.sort(stream(0, "hold_out", label).permutation(size)[: min(spec["held_out"], max(1, size // 10))])
                found["images"].append(source.read("images", at.start, at.stop)[rows])
                found["labels"].append(np.full(len(rows), label))
    names = classes_of(train[0])
    inputs = {f"images-{i}": path for i, path in enumerate(train)}
    write_joined(images, HELD_OUT, found, params(spec), inputs, classes=names)
