"""teacher: a classifier trained on the real training set, tested on the real test set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from limbeck.artifacts import IMAGES
from limbeck.errors import LimbeckError
from limbeck.protocols import Protocol
from limbeck.stages.common import Spec, classes_of, params, progress, read_all
from limbeck.store import digest, replacing, write_json
from limbeck.students.registry import build
from limbeck.students.training import predict, train


def run(spec: Spec, train_images: Sequence[Path], test_images: Sequence[Path], weights: Path, record: Path) -> None:
    """Write ``weights`` (safetensors) and ``record`` (its accuracy). A teacher near chance is refused."""
    pixels, labels = read_all(train_images, IMAGES, "images", "labels")
    classes = classes_of(train_images[0])
    shape = (pixels.shape[-1], len(classes), pixels.shape[1])
    protocol = Protocol(**{**spec["settings"], "steps": {}})
    with progress("teacher") as report:
        model = train(lambda: build(spec["student"], *shape), pixels, labels, protocol, spec["steps"], spec["seed"], -1, report)
    test, test_labels = read_all(test_images, IMAGES, "images", "labels")
    hits = predict(model, test) == test_labels
    accuracy = float(hits.mean())
    if len(classes) > 1 and accuracy < 1.5 / len(classes):
        raise LimbeckError(
            f"teacher: test accuracy {accuracy:.3f} is near chance for {len(classes)} classes; is the class order of train and "
            "test the same? Otherwise train longer (teachers.<name>.protocol)"
        )
    with replacing(weights) as part:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, part)
    results = {
        "accuracy": accuracy,
        "per_class": [float(hits[test_labels == c].mean()) for c in range(len(classes))],
        "test_images": len(test),
        "input": dict(zip(("channels", "classes", "size"), shape, strict=True)),
        "student": spec["student"],
        "sha256": {weights.name: digest(weights)},
        "parameters": int(np.sum([p.numel() for p in model.parameters()])),
    }
    write_json(record, "teacher", params(spec), results)
