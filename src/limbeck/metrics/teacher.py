"""The built-in feature extractor: the penultimate activations of a classifier that the pipeline trained on the real data."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from limbeck.store import read_json
from limbeck.students.construct import construct
from limbeck.students.inputs import Normalisation, network_input


class TeacherExtractor:
    """See ``limbeck.components.EXTRACTORS``."""

    classifies = True

    def __init__(self, weights: Path, record: Path):
        info = read_json(record, "teacher")
        self.size: int = info["input"]["size"]
        self.normalise: Normalisation = info["input"]["normalise"]
        self.classes: list[str] = info["classes"]
        self.model: nn.Module = construct(info["architecture"], info["input"]["channels"], len(self.classes), self.size).eval()
        self.model.load_state_dict(load_file(weights))
        self.dim = int(self.model.head.in_features)  # type: ignore[union-attr, arg-type]
        self.files = {"weights": weights}

    @torch.inference_mode()
    def batches(self, images: np.ndarray, size: int = 250) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(features (n, dim), predicted class (n,)) of uint8 images (N, H, W, C), a batch at a time."""
        for start in range(0, len(images), size):
            features = self.model.features(network_input(images[start : start + size], self.normalise))  # type: ignore[operator]
            yield features.numpy(), self.model.head(features).argmax(1).numpy()  # type: ignore[operator]

    @torch.inference_mode()
    def logits(self, images: np.ndarray) -> Tensor:
        """(N, classes) of uint8 images (N, H, W, C) of the teacher's size."""
        return torch.cat([self.model(network_input(images[i : i + 250], self.normalise)) for i in range(0, len(images), 250)])


def load(spec: Mapping[str, Any], teacher: Path, record: Path) -> TeacherExtractor:  # noqa: ARG001
    """The run's teacher."""
    return TeacherExtractor(teacher, record)
