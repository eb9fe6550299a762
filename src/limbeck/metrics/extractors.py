"""Feature extractors. A metric's name carries the extractor it was computed with."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from limbeck.store import read_json
from limbeck.students.registry import build
from limbeck.students.training import to_input


class TeacherExtractor:
    """The penultimate activations of a classifier trained by the pipeline on the real data."""

    def __init__(self, weights: Path, record: Path):
        info = read_json(record, "teacher")
        self.size: int = info["input"]["size"]
        shape = (info["input"]["channels"], info["input"]["classes"], self.size)
        self.model: nn.Module = build(info["student"], *shape).eval()
        self.model.load_state_dict(load_file(weights))
        self.dim = int(self.model.head.in_features)  # type: ignore[union-attr, arg-type]

    @torch.inference_mode()
    def batches(self, images: np.ndarray, size: int = 250) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(features (n, dim), predicted class (n,)) of uint8 images (N, H, W, C), a batch at a time."""
        for start in range(0, len(images), size):
            features = self.model.features(to_input(images[start : start + size]))  # type: ignore[operator]
            yield features.numpy(), self.model.head(features).argmax(1).numpy()  # type: ignore[operator]


EXTRACTORS: dict[str, type[TeacherExtractor]] = {"teacher": TeacherExtractor}
