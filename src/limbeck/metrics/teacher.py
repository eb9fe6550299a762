"""The built-in feature extractor: the penultimate activations of a classifier that the pipeline trained on the real data."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from limbeck.devices import Fitting, device
from limbeck.records import check_hashes, read_json
from limbeck.students.construct import construct
from limbeck.students.inputs import Normalisation, network_input


class TeacherExtractor:
    """See ``limbeck.components.EXTRACTORS``."""

    classifies = True

    def __init__(self, weights: Path, record: Path):
        info = read_json(record, "teacher")
        check_hashes(weights.parent, info["sha256"], [weights.name], record)
        self.size: int = info["input"]["size"]
        self.normalise: Normalisation = info["input"]["normalise"]
        self.classes: list[str] = info["classes"]
        self.model: nn.Module = construct(info["architecture"], info["input"]["channels"], len(self.classes), self.size).eval()
        self.model.load_state_dict(load_file(weights))
        self.model.to(where := device())
        self._where, self._fitting = where, Fitting()
        self.dim = int(self.model.head.in_features)  # type: ignore[union-attr, arg-type]
        self.files = {"weights": weights}

    @torch.inference_mode()
    def batches(self, images: np.ndarray, size: int = 250) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(features (n, dim), predicted class (n,)) of uint8 images (N, H, W, C), a batch at a time."""
        for start in range(0, len(images), size):
            yield from self._fitting(self._seen, images[start : start + size])

    def _seen(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = self.model.features(self._input(images))  # type: ignore[operator]
        return features.cpu().numpy(), self.model.head(features).argmax(1).cpu().numpy()  # type: ignore[operator]

    def _input(self, images: np.ndarray) -> Tensor:
        return network_input(images, self.normalise).to(self._where)

    @torch.inference_mode()
    def logits(self, images: np.ndarray) -> Tensor:
        """(N, classes) of uint8 images (N, H, W, C) of the teacher's size."""
        parts = [images[i : i + 250] for i in range(0, len(images), 250)]
        return torch.cat([found for part in parts for found in self._fitting(lambda x: self.model(self._input(x)).cpu(), part)])


def load(spec: Mapping[str, Any], teacher: Path, record: Path) -> TeacherExtractor:  # noqa: ARG001
    """The run's teacher."""
    return TeacherExtractor(teacher, record)
