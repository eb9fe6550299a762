"""The Inception network of the Fréchet inception distance, with clean-fid's preprocessing (Parmar et al. 2022, Sec. 3.1)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limbeck.metrics.torchscript import ScriptExtractor, rgb

SIDE, DIM = 299, 2048


class InceptionExtractor(ScriptExtractor):
    """``inception-2015-12-05.pt``, called as ``model(images, return_features=True)``.

    ASSUME: its own bilinear step to 299 x 299 leaves images of that size as they are (clean-fid goes around it).
    """

    def probed(self) -> int:
        """2048, or it is another network, whose distances are no FID."""
        found = super().probed()
        if found != DIM:
            raise ValueError(f"{found} features, expected {DIM}; another network is of kind torchscript")
        return found

    def pixels(self, images: np.ndarray) -> Tensor:
        """(n, 3, 299, 299), values 0 … 255."""
        return torch.from_numpy(np.stack([clean_resized(image) for image in rgb(images)])).permute(0, 3, 1, 2).contiguous()

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> Tensor:
        """(n, dim) of uint8 images (n, H, W, C)."""
        return self.model(self.pixels(images).to(self._where), return_features=True).to("cpu", torch.float32)


def clean_resized(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) at 299 x 299: antialiased bicubic on each channel as float32, clipped to 0 … 255, never rounded."""
    planes = [Image.fromarray(plane) for plane in np.moveaxis(image.astype(np.float32), -1, 0)]
    resized = [np.asarray(plane.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for plane in planes]
    return np.stack(resized, axis=-1).clip(0, 255)


def load(spec: Mapping[str, Any], teacher: None = None, record: None = None) -> InceptionExtractor:  # noqa: ARG001
    """The extractor that a job's spec names."""
    return InceptionExtractor(spec, f"extractors.{spec['extractor']}.weights")
