"""A TorchScript file as a feature extractor."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.devices import Fitting, device
from limbeck.errors import LimbeckError
from limbeck.metrics.files import script_file


class ScriptExtractor:
    """See ``limbeck.components.EXTRACTORS``. Called with float32 images (n, 3, H, W), it returns features (n, dim).

    Raises
    ------
    LimbeckError: the file is missing or unreadable, or gives no features of an image; ``key`` is the config's.
    """

    classifies = False

    def __init__(self, spec: Mapping[str, Any], key: str):
        path = script_file(spec["weights"], key)
        self.files: dict[str, Path] = {"weights": path}
        self.options, self.size, self._where, self._fitting = spec, spec.get("size"), device(), Fitting()
        try:
            self.model = torch.jit.load(path, map_location=self._where).eval()
        except (RuntimeError, ValueError) as error:
            raise LimbeckError(f"{key}: cannot read {path} as TorchScript ({' '.join(str(error).split())[:300]})") from None
        try:
            self.dim = self.probed()
        except (RuntimeError, ValueError, TypeError, torch.jit.Error) as error:  # the network's own message comes last
            raise LimbeckError(f"{key}: {path} gives no features of an image ({' '.join(str(error).split())[-300:]})") from None

    def probed(self) -> int:
        """Features of a blank image, counted."""
        side = self.size or 32
        found = self.features(np.zeros((1, side, side, 3), np.uint8))
        if found.ndim != 2 or len(found) != 1:
            raise ValueError(f"of shape {tuple(found.shape)}, expected (1, dim)")
        return found.shape[1]

    def pixels(self, images: np.ndarray) -> Tensor:
        """(n, 3, H, W): from 0 … 255 to ``range``, then less ``mean`` over ``std``."""
        low, high = self.options["range"]
        mean, std = (torch.tensor(self.options[name]).reshape(-1, 1, 1) for name in ("mean", "std"))
        x = torch.from_numpy(rgb(images)).permute(0, 3, 1, 2).to(torch.float32)
        return (low + x * ((high - low) / 255) - mean) / std

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> Tensor:
        """(n, dim) of uint8 images (n, H, W, C)."""
        return self.model(self.pixels(images).to(self._where)).to("cpu", torch.float32)

    def batches(self, images: np.ndarray, size: int = 50) -> Iterator[tuple[np.ndarray, None]]:
        """Features (n, dim) of uint8 images (N, H, W, C), a batch at a time; it classifies nothing."""
        for start in range(0, len(images), size):
            for found in self._fitting(self.features, images[start : start + size]):
                yield found.numpy(), None


def rgb(images: np.ndarray) -> np.ndarray:
    """Grayscale repeated to three channels."""
    return images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)


def load(spec: Mapping[str, Any], teacher: None = None, record: None = None) -> ScriptExtractor:  # noqa: ARG001
    """The extractor that a job's spec names."""
    return ScriptExtractor(spec, f"extractors.{spec['extractor']}.weights")
