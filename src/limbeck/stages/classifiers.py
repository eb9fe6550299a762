"""What the stages share that train classifiers or are labelled by them: sets, teachers, the saved state of a training."""

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from limbeck.errors import LimbeckError
from limbeck.metrics.teacher import TeacherExtractor
from limbeck.rows import HELD, Images, Rows
from limbeck.settings import Settings
from limbeck.stages.common import Spec, classes_of, read_all, resize_to
from limbeck.store import Artifact, digest, replacing
from limbeck.students.construct import construct
from limbeck.students.evaluation import order_complaint, permuted, predict
from limbeck.students.labels import Online


def read_set(paths: Sequence[Path], settings: Settings, held: int = HELD) -> tuple[Images, np.ndarray]:
    """Images (N, size, size, C) of the protocol's size and labels (N,) of an images or distilled artifact's shards."""
    (labels,) = read_all(paths, None, "labels")
    with Artifact(paths[0]) as first:
        _, height, width, channels = first.shape("images")
    size = settings.size or height
    if len(labels) * max(size**2, height * width) * channels > held:
        return Rows(paths, "images", size, resize_to), labels
    (images,) = read_all(paths, None, "images")
    return resize_to(images, size), labels


def builder(architecture: Mapping[str, Any], images: Images, classes: int) -> Callable[[], nn.Module]:
    """What builds a student for a set of images (N, H, W, C)."""
    return lambda: construct(architecture, images.shape[-1], classes, images.shape[1])


def online(spec: Spec, settings: Settings, folders: Sequence[Path], distilled: Path, images: Images, labels: np.ndarray) -> Online:
    """The teachers in ``folders`` as a source of soft labels.

    Raises
    ------
    LimbeckError: a teacher's classes are not the set's, or in another order, by name or by what it sees in the images.
    """
    names = classes_of(distilled)
    teachers = [TeacherExtractor(folder / "model.safetensors", folder / "teacher.json") for folder in folders]
    for name, teacher in zip(spec["teachers"], teachers, strict=True):
        if teacher.classes != names:
            raise LimbeckError(f"teacher {name}: its classes are not those of {distilled}, or in another order")
        at_its_side = images.at(teacher.size) if isinstance(images, Rows) else resize_to(images, teacher.size)
        seen = predict(teacher.model, at_its_side, teacher.normalise)
        if found := permuted(seen, labels, len(names)):
            raise LimbeckError(
                f"teacher {name} and {distilled} do not agree on the order of classes: images labelled "
                f"{order_complaint(found, names)} to it; is the set's folder of a class another's?"
            )
    return Online(teachers, len(names), settings.top_k, settings.temperature)


class Checkpoint:
    """The state of a training that takes long, in a file beside its result: an interrupted job goes on from there.

    It belongs to one spec and set of inputs; under any other, or if damaged, it is removed.
    """

    EVERY = 60.0  # seconds between two states

    def __init__(self, result: Path, spec: Spec, inputs: Sequence[Path]):
        self.path = result.with_suffix(".state")
        text = json.dumps([dict(spec), [digest(path) for path in inputs]], sort_keys=True)
        self.key = hashlib.sha256(text.encode()).hexdigest()
        self.saved = time.monotonic()

    def load(self) -> dict[str, Any]:
        """What was saved last; empty without."""
        if not self.path.exists():
            return {}
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # whatever a damaged file makes torch raise
            found = {}
        if not isinstance(found, dict) or found.get("key") != self.key:
            self.remove()
            return {}
        print(f"going on from {self.path}", file=sys.stderr, flush=True)
        return found

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace what was saved, where that is long enough ago."""
        if time.monotonic() - self.saved < self.EVERY:
            return
        # torch itself does not say what is wrong with a file
        buffer = io.BytesIO()
        torch.save({"key": self.key, **state}, buffer)
        with replacing(self.path) as part:
            part.write_bytes(buffer.getbuffer())
        self.saved = time.monotonic()

    def remove(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
