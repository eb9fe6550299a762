"""crop: of several random crops of every image the one that a teacher is surest of (RDED, Sun et al. 2024, Sec. 3.2)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from limbeck.artifacts import IMAGES, PATCHES
from limbeck.data.preprocessing import resized
from limbeck.metrics.teacher import TeacherExtractor
from limbeck.seeds import stream
from limbeck.selection.crops import random_boxes
from limbeck.stages.common import Spec, class_rows, header_of, params, progress, write_joined
from limbeck.store import Artifact

BATCH = 250


def run(spec: Spec, images: Path, teacher: Path, record: Path, patches: Path) -> None:
    """Write ``patches``; scores are minus the teacher's cross-entropy."""
    options, seed = spec["cropping"], spec["seed"]
    extractor = TeacherExtractor(teacher, record)
    found: dict[str, list[np.ndarray]] = {"rows": [], "boxes": [], "scores": [], "labels": []}
    with Artifact(images, IMAGES) as source, progress("crop") as report:
        labels, size = source["labels"], source.shape("images")[1]
        header = header_of(source)
        for label, at in class_rows(labels):
            order = stream(seed, "crop.images", label).permutation(at.stop - at.start)
            rows = at.start + np.sort(order[: options["crop_images"]])
            boxes = np.stack([random_boxes(stream(seed, "crop", label, int(row - at.start)), size, options) for row in rows])
            losses = np.concatenate(list(_losses(source, extractor, rows, boxes, label)))
            best = losses.argmin(axis=1)
            found["rows"].append(rows)
            found["boxes"].append(boxes[np.arange(len(rows)), best])
            found["scores"].append(-losses[np.arange(len(rows)), best])
            found["labels"].append(np.full(len(rows), label))
            report(at.stop, len(labels))
    write_joined(patches, PATCHES, found, params(spec), {"images": images, **extractor.files}, **header)


def _losses(source: Artifact, extractor: TeacherExtractor, rows: np.ndarray, boxes: np.ndarray, label: int) -> Iterator[np.ndarray]:
    """(n, crops) cross-entropies of each image's crops, at the teacher's size, a batch of images at a time."""
    for start in range(0, len(rows), BATCH):
        own = rows[start : start + BATCH]
        pixels = source.read("images", int(own[0]), int(own[-1]) + 1)[own - own[0]]
        cuts = [
            resized(image[top : top + side, left : left + side], extractor.size)
            for image, at in zip(pixels, boxes[start : start + BATCH], strict=True)
            for top, left, side in at
        ]
        logits = extractor.logits(np.stack(cuts))
        loss = F.cross_entropy(logits, torch.full((len(cuts),), label), reduction="none")
        yield loss.numpy().reshape(len(own), -1)
