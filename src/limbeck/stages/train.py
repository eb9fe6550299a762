"""train: one student on one distilled set (or the whole training set), all its repeats, tested on the real test set."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from limbeck.artifacts import CONFUSED, SOFT_LABELS
from limbeck.errors import LimbeckError
from limbeck.records import write_json
from limbeck.rows import Images, ahead
from limbeck.settings import Settings
from limbeck.stages.classifiers import Checkpoint, builder, online, read_set
from limbeck.stages.common import Spec, classes_of, params, progress
from limbeck.store import Artifact
from limbeck.students.evaluation import accuracy, confusion, per_class, predict
from limbeck.students.labels import Cached, Packed
from limbeck.students.training import train

Record = dict[str, Any]
Set = tuple[Images, np.ndarray]


def run(
    spec: Spec,
    distilled: Sequence[Path],
    test: Sequence[Path],
    result: Path,
    held_out: Path | None = None,
    teachers: Sequence[Path] = (),
    stored: Sequence[Path] = (),
) -> None:
    """Write ``result``: accuracies of every repeat at the last epoch, at the one that held-out images select, and the best on test.

    teachers: folders of those that label online; stored: their labels, a file per repeat. A training whose loss is not a number is
    recorded as failed.
    """
    settings = Settings.model_validate(spec["settings"])
    classes = classes_of(test[0])
    if classes_of(distilled[0]) != classes:
        raise LimbeckError(f"{distilled[0]}: its classes are not those of {test[0]}, or in another order")
    images, labels = read_set(distilled, settings)
    tested, held = read_set(test, settings), _held_out(held_out, images, settings)
    soft = online(spec, settings, teachers, distilled[0], images, labels) if teachers else None
    checkpoint = Checkpoint(result, spec, [*distilled, *test, *stored, *(folder / "model.safetensors" for folder in teachers)])
    state = checkpoint.load()
    repeats: list[Record] = state.get("repeats", [])
    make = builder(spec["architecture"], images, len(classes))
    for repeat in range(len(repeats), spec["repeats"]):
        source = Cached(_stored(stored[repeat]), len(classes)) if stored else soft
        watch = _Watch(f"train {repeat + 1}/{spec['repeats']}", settings, tested, held, checkpoint, repeats, state.pop("curve", []))
        with progress(watch.what) as report:
            try:
                train(
                    make, images, labels, settings, spec["seed"], repeat, report, source, watch, resume=state.pop("training", None)
                )
                repeats.append({"repeat": repeat, **watch.record(len(classes))})
            except FloatingPointError as error:
                print(f"{watch.what} failed: {error}", file=sys.stderr, flush=True)
                repeats.append({"repeat": repeat, **FAILED, "curve": watch.curve, "failed": str(error)})
    counts = {"train_images": len(labels), "test_images": len(tested[1]), "held_out_images": len(held[1])}
    write_json(result, "student", params(spec), {"repeats": repeats, "labels": _described(spec, stored), **counts})
    checkpoint.remove()


BLOCK = 1000  # images
FAILED: Record = {"accuracy": None, "per_class": None, "confusion": None, "selected": None, "best": None}


def _held_out(path: Path | None, images: Images, settings: Settings) -> Set:
    """The held-out images (N, H, W, C) and labels that the student is not trained on: those of the set itself select nothing."""
    if path is None:
        return images[:0], np.zeros(0, int)
    held, labels = read_set([path], settings)
    trained = set(_contents(images))
    kept = np.flatnonzero([content not in trained for content in _contents(held)])
    return held[kept] if isinstance(held, np.ndarray) else held.of(kept), labels[kept]


def _contents(images: Images) -> Iterator[bytes]:
    """A digest of every image."""
    blocks = (slice(i, i + BLOCK) for i in range(0, len(images), BLOCK))
    for _, block in ahead(images, blocks, lambda block: block):
        yield from (hashlib.sha256(image.tobytes()).digest() for image in block)


def _stored(path: Path) -> Callable[[int], Packed]:
    """Reads an epoch's labels."""

    def epoch(number: int) -> Packed:
        with Artifact(path, SOFT_LABELS) as source:
            return {name: source.read(name, number, number + 1)[0] for name in SOFT_LABELS.arrays if name in source}

    return epoch


def _described(spec: Spec, stored: Sequence[Path]) -> Record:
    """Whose labels, and their bytes where they are stored: part of what a distilled set takes."""
    if not spec["teachers"]:
        return {"kind": "hard"}
    size = sum(path.stat().st_size for path in stored) // len(stored) if stored else None
    return {"kind": "soft", "teacher": spec["teacher"], "bytes": size}


class _Watch:
    """Tests a student whenever its protocol says, shows that, and saves where the training is."""

    def __init__(
        self,
        what: str,
        settings: Settings,
        test: Set,
        held: Set,
        checkpoint: Checkpoint,
        repeats: Sequence[Record],
        curve: list[Record],
    ):
        self.what, self.settings, self.test, self.held = what, settings, test, held
        self.checkpoint, self.repeats, self.curve = checkpoint, repeats, curve
        self.predicted = np.zeros(0, int)

    def __call__(self, epoch: int, model: nn.Module, training: Callable[[], Record]) -> None:
        self.predicted = predict(model, self.test[0], self.settings.normalise)
        point = {"epoch": epoch, "test": accuracy(self.predicted, self.test[1]), "held_out": None}
        said = f"{self.what}: after epoch {epoch} test accuracy {point['test']:.4f}"
        if len(self.held[1]):
            point["held_out"] = accuracy(predict(model, self.held[0], self.settings.normalise), self.held[1])
            said += f", held out {point['held_out']:.4f}"
        print(said, file=sys.stderr, flush=True)
        self.curve.append(point)
        self.checkpoint.save({"repeats": list(self.repeats), "curve": self.curve, "training": training()})

    def record(self, classes: int) -> Record:
        """Of a training that has ended: the earliest of equally good epochs is taken."""
        held = [point for point in self.curve if point["held_out"] is not None]
        selected = max(held, key=lambda point: point["held_out"]) if held else None
        best = max(self.curve, key=lambda point: point["test"])
        return {
            "accuracy": self.curve[-1]["test"],
            "per_class": per_class(self.predicted, self.test[1], classes),
            "confusion": confusion(self.predicted, self.test[1], classes).tolist() if classes <= CONFUSED else None,
            "selected": selected and {"epoch": selected["epoch"], "accuracy": selected["test"], "held_out": selected["held_out"]},
            "best": {"epoch": best["epoch"], "accuracy": best["test"]},
            "curve": self.curve,
            "failed": None,
        }
