"""Images as networks take them."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Normalisation = Literal["half", "imagenet"]
# mean and deviation of ImageNet's RGB values; of grey images, of which there are none, the means of the three
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, C) to float32 (N, C, H, W) on [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def normalised(x: Tensor, kind: Normalisation) -> Tensor:
    """Images on [0, 1] to a network's range, with strides of the default memory format.

    A permuted image of one channel passes for either format, so ``contiguous`` leaves it, and convolutions then take the other one,
    in which torch's norms and pools are slower.
    """
    if kind == "half":
        x = x * 2 - 1
    else:
        mean, deviation = (torch.tensor(row, device=x.device) for row in IMAGENET)
        if x.shape[1] == 1:
            mean, deviation = mean.mean().reshape(1), deviation.mean().reshape(1)
        x = (x - mean[:, None, None]) / deviation[:, None, None]
    return x.clone(memory_format=torch.contiguous_format)


def network_input(images: np.ndarray, kind: Normalisation) -> Tensor:
    """uint8 (N, H, W, C) as a network takes them."""
    return normalised(pixels(images), kind)
