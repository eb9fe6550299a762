"""RandAugment's operations (Cubuk et al. 2020) with the ranges of torchvision's, done by Pillow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

BINS = 30  # magnitudes run from 0 to 30

Operation = Callable[[Image.Image, float, float], Image.Image]


def _affine(of: Callable[[float, Image.Image], tuple[float, ...]]) -> Operation:
    def apply(image: Image.Image, m: float, sign: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, of(m * sign, image), Image.Resampling.NEAREST)

    return apply


def _enhanced(kind: Callable[[Image.Image], Any]) -> Operation:
    return lambda image, m, sign: kind(image).enhance(1 + 0.9 * m * sign)


# each takes the magnitude as a share of its range, and a sign where the operation has two directions
OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, m, sign: image,  # noqa: ARG005
    "shear_x": _affine(lambda m, _: (1, 0.3 * m, 0, 0, 1, 0)),
    "shear_y": _affine(lambda m, _: (1, 0, 0, 0.3 * m, 1, 0)),
    "translate_x": _affine(lambda m, image: (1, 0, -m * 150 / 331 * image.width, 0, 1, 0)),
    "translate_y": _affine(lambda m, image: (1, 0, 0, 0, 1, -m * 150 / 331 * image.height)),
    "rotate": lambda image, m, sign: image.rotate(30 * m * sign),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "posterize": lambda image, m, sign: ImageOps.posterize(image, 8 - round(4 * m)),  # noqa: ARG005
    "solarize": lambda image, m, sign: ImageOps.solarize(image, round(255 * (1 - m))),  # noqa: ARG005
    "autocontrast": lambda image, m, sign: ImageOps.autocontrast(image),  # noqa: ARG005
    "equalize": lambda image, m, sign: ImageOps.equalize(image),  # noqa: ARG005
}
NAMES = tuple(OPERATIONS)


def rand_augment(x: Tensor, u: np.ndarray, options: Any) -> Tensor:
    """``operations`` random operations on each image of (N, C, H, W) on [0, 1], at ``magnitude`` of 30, with a random sign.

    Pixels are rounded to 8 bits, which the operations are defined on.
    """
    pixels = (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    out = np.empty_like(pixels)
    for i, image in enumerate(pixels):
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        for k in range(options.operations):
            name = NAMES[int(u[i, 2 * k] * len(NAMES))]
            picture = OPERATIONS[name](picture, options.magnitude / BINS, 1.0 if u[i, 2 * k + 1] < 0.5 else -1.0)
        out[i] = np.asarray(picture).reshape(image.shape)
    return (torch.from_numpy(out).permute(0, 3, 1, 2).float() / 255).to(x.device)
