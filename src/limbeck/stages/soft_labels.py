"""soft_labels: a teacher's logits of every view of a distilled set that the trainings of a protocol see in one repeat."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from limbeck.artifacts import SOFT_LABELS
from limbeck.devices import device
from limbeck.rows import ahead
from limbeck.settings import Settings
from limbeck.stages.classifiers import online, read_set
from limbeck.stages.common import Spec, params, progress
from limbeck.stages.numbers import append
from limbeck.store import create
from limbeck.students.inputs import pixels
from limbeck.students.labels import pack
from limbeck.students.views import Views


def run(spec: Spec, distilled: Sequence[Path], teachers: Sequence[Path], labels: Path) -> None:
    """Write ``labels``, an epoch at a time; images that an incomplete last batch leaves out are zeros that nobody reads."""
    settings = Settings.model_validate(spec["settings"])
    images, own = read_set(distilled, settings)
    source = online(spec, settings, teachers, distilled[0], images, own)
    where = device()
    views = Views(settings, len(images), spec["seed"], spec["repeat"])
    empty = pack(torch.zeros(1, source.classes), settings.top_k, settings.temperature)
    shapes = {name: (views.epochs, len(images), *values.shape[1:]) for name, values in empty.items()}
    inputs = {f"distilled-{i}": path for i, path in enumerate(distilled)}
    inputs |= {f"teacher-{name}": folder / "model.safetensors" for name, folder in zip(spec["teachers"], teachers, strict=True)}
    with create(labels, SOFT_LABELS, shapes, params(spec), inputs) as out, progress("soft_labels") as report:
        for epoch in range(views.epochs):
            rows = {name: np.zeros((len(images), *values.shape[1:]), values.dtype) for name, values in empty.items()}
            for batch, own_images in ahead(images, views.epoch(epoch), lambda batch: batch.rows):
                x, _ = views.seen(pixels(own_images).to(where), batch)
                for name, values in source.packed(x).items():
                    rows[name][batch.rows] = values
            teacher = f"teacher {spec['teacher']}, epoch {epoch + 1} of {views.epochs}"
            append(out, {name: values[None] for name, values in rows.items()}, teacher, "are its weights whole?")
            report(epoch + 1, views.epochs)
