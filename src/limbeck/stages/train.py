"""train: one student on one distilled set (or the whole training set), all its repeats, tested on the real test set."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.artifacts import IMAGES
from limbeck.errors import LimbeckError
from limbeck.protocols import Protocol
from limbeck.stages.common import Spec, classes_of, params, progress, read_all
from limbeck.store import write_json
from limbeck.students.registry import build
from limbeck.students.training import predict, train


def run(spec: Spec, distilled: Sequence[Path], test: Sequence[Path], result: Path) -> None:
    """Write ``result``: accuracy at the last step of every repeat, and per class."""
    test_pixels, test_labels = read_all(test, IMAGES, "images", "labels")
    pixels, labels = read_all(distilled, None, "images", "labels")
    classes = classes_of(test[0])
    if classes_of(distilled[0]) != classes:
        raise LimbeckError(f"{distilled[0]}: its classes are not those of {test[0]}, or in another order")
    shape = (pixels.shape[-1], len(classes), pixels.shape[1])
    protocol = Protocol(**{**spec["settings"], "steps": {}})
    repeats = []
    for repeat in range(spec["repeats"]):
        with progress(f"train {repeat + 1}/{spec['repeats']}") as report:
            try:
                model = train(
                    lambda: build(spec["student"], *shape), pixels, labels, protocol, spec["steps"], spec["seed"], repeat, report
                )
            except FloatingPointError as error:
                raise LimbeckError(f"student {spec['student']} under {spec['protocol']}: {error}") from None
        hits = predict(model, test_pixels) == test_labels
        per_class = [float(hits[test_labels == c].mean()) for c in range(len(classes))]
        found = {"repeat": repeat, "accuracy": float(hits.mean()), "per_class": per_class}
        repeats.append({**found, "selected": None, "best": None, "curve": [], "failed": None})
    counts = {"train_images": len(labels), "test_images": len(test_labels), "held_out_images": 0}
    write_json(result, "student", params(spec), {"repeats": repeats, **counts, "labels": {"kind": "hard"}})
