"""Augmentations as pure functions: images on [0, 1], and the uniform numbers that decide, every image's in a row of their own.

``DRAWS[kind](options)`` numbers are drawn per image (``limbeck.students.views``); ``APPLY[kind](x, u, options)`` uses them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.settings import CutMix, MixUp
from limbeck.students.randaugment import rand_augment

TRIES = 10  # of a random crop, as torchvision's
# ITU-R 601-2 luma, as PIL and torchvision take it
LUMA = (0.2989, 0.587, 0.114)
# principal components of ImageNet's RGB values (Krizhevsky et al. 2012; the numbers are fb.resnet.torch's)
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def crop_boxes(u: np.ndarray, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]) -> np.ndarray:
    """(N, 4) top, left, height, width of random resized crops from uniforms (N, 2 * TRIES + 2), as torchvision's RandomResizedCrop.

    Area and log aspect ratio are uniform; the first of ten tries that fits is taken, else the largest central box of a ratio
    within the bounds.
    """
    area = height * width * (scale[0] + u[:, :TRIES] * (scale[1] - scale[0]))
    low, high = np.log(ratio)
    aspect = np.exp(low + u[:, TRIES : 2 * TRIES] * (high - low))
    w, h = np.rint(np.sqrt(area * aspect)).astype(int), np.rint(np.sqrt(area / aspect)).astype(int)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.argmax(axis=1)
    at = np.arange(len(u))
    w, h = w[at, first], h[at, first]
    top = np.floor(u[:, -2] * (height - h + 1)).astype(int)
    left = np.floor(u[:, -1] * (width - w + 1)).astype(int)
    none = ~fits.any(axis=1)
    own = width / height
    middle_w = width if own <= ratio[1] else round(height * ratio[1])
    middle_h = height if own >= ratio[0] else round(width / ratio[0])
    boxes = np.stack([top, left, h, w], axis=1)
    boxes[none] = ((height - middle_h) // 2, (width - middle_w) // 2, middle_h, middle_w)
    return boxes


def interpolation(start: Tensor, length: Tensor, out: int, size: int) -> Tensor:
    """(N, out, size) weights that resample pixels ``start`` to ``start + length`` (N,) of a side of ``size`` to ``out`` pixels.

    Linear; where an output pixel is larger than one, a triangle as wide as it (antialiased), as torch and PIL have it.
    """
    scale = (length.double() / out)[:, None, None]
    support = scale.clamp(min=1)
    centre = (torch.arange(out, dtype=torch.float64) + 0.5)[:, None] * scale
    inside = torch.arange(size, dtype=torch.float64) - start[:, None, None] + 0.5
    weights = (1 - (inside - centre).abs() / support).clamp(min=0)
    # nothing outside the box is seen
    weights = weights * ((inside > 0) & (inside < length[:, None, None]))
    return (weights / weights.sum(2, keepdim=True)).float()


def resampled(x: Tensor, boxes: np.ndarray, size: int) -> Tensor:
    """Boxes (N, 4) of images (N, C, H, W), each at ``size`` x ``size``: two matrix products instead of a loop over images."""
    top, left, height, width = torch.from_numpy(np.ascontiguousarray(boxes.T))
    rows = interpolation(top, height, size, x.shape[2]).to(x.device)
    cols = interpolation(left, width, size, x.shape[3]).to(x.device)
    return rows[:, None] @ x @ cols[:, None].transpose(2, 3)


def crop(x: Tensor, u: np.ndarray, options: Any) -> Tensor:
    """Random resized crop to the images' own size."""
    return resampled(x, crop_boxes(u, x.shape[2], x.shape[3], options.scale, options.ratio), x.shape[2])


def shift(x: Tensor, u: np.ndarray, options: Any) -> Tensor:
    """Translate each image by up to ``pixels`` in both directions, filled with black."""
    n, _, h, w = x.shape
    pixels = options.pixels
    windows = torch.nn.functional.pad(x, (pixels,) * 4).unfold(2, h, 1).unfold(3, w, 1)
    dy, dx = torch.from_numpy(np.floor(u.T * (2 * pixels + 1)).astype(np.int64)).to(x.device)
    return windows[torch.arange(n, device=x.device), :, dy, dx]


def flip(x: Tensor, u: np.ndarray, options: Any) -> Tensor:
    """Mirror left to right."""
    chosen = _column(u[:, 0] < options.probability, x)
    return torch.where(chosen, x.flip(3), x)


def grey(x: Tensor) -> Tensor:
    """(N, 1, H, W) luma; a single channel is its own."""
    if x.shape[1] == 1:
        return x
    return (x * torch.tensor(LUMA, device=x.device)[:, None, None]).sum(1, keepdim=True)


def jitter(x: Tensor, u: np.ndarray, options: Any) -> Tensor:
    """Brightness, contrast, saturation in random order: x + alpha (y - x), y black, the grey image's mean, the grey image."""
    alpha = (2 * u[:, :3] - 1) * options.strength
    order = u[:, 3:].argsort(axis=1)
    for place in range(3):
        shades = grey(x)
        targets = torch.stack([torch.zeros_like(shades), shades.mean((1, 2, 3), keepdim=True).expand_as(shades), shades])
        which = torch.from_numpy(order[:, place]).to(x.device)
        target = targets[which, torch.arange(len(x), device=x.device)]
        x = torch.lerp(x, target.expand_as(x), _column(alpha[np.arange(len(x)), order[:, place]].astype(np.float32), x))
    return x


def lighting(x: Tensor, u: np.ndarray, options: Any) -> Tensor:
    """Add sum_k alpha_k lambda_k v_k, alpha ~ N(0, sd), to all pixels (Krizhevsky et al. 2012, Sec. 4.1); to grey ones its mean."""
    normal = np.sqrt(-2 * np.log1p(-u[:, :3])) * np.cos(2 * np.pi * u[:, 3:])  # Box-Muller
    rgb = (options.sd * normal * EIGENVALUES) @ np.array(EIGENVECTORS).T
    if x.shape[1] == 1:
        rgb = rgb.mean(axis=1, keepdims=True)
    return x + torch.from_numpy(rgb.astype(np.float32)).to(x.device)[:, :, None, None]


def shuffle(x: Tensor, u: np.ndarray, options: Any) -> Tensor:
    """Columns of tiles, then rows of tiles, in random order (RDED's ShufflePatches); what does not divide stays with the last."""
    factor = options.factor
    for axis, keys in ((3, u[:, :factor]), (2, u[:, factor:])):
        side = x.shape[axis]
        starts = [side // factor * k for k in range(factor)] + [side]
        places = [np.arange(starts[k], starts[k + 1]) for k in range(factor)]
        index = np.stack([np.concatenate([places[k] for k in row]) for row in keys.argsort(axis=1)])
        taken = torch.from_numpy(index).to(x.device)
        taken = taken[:, None, :, None] if axis == 2 else taken[:, None, None, :]
        x = torch.gather(x, axis, taken.expand_as(x))
    return x


def _column(values: np.ndarray, x: Tensor) -> Tensor:
    """(N,) as (N, 1, 1, 1) beside images."""
    return torch.from_numpy(values).to(x.device)[:, None, None, None]


def cutmix_box(lam: float, u: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of a box of the share 1 - lam around a uniform centre, clipped (Yun et al. 2019)."""
    side = math.sqrt(1 - lam)
    cy, cx = u[0] * height, u[1] * width
    top, bottom = (int(min(max(cy + sign * side * height / 2, 0), height)) for sign in (-1, 1))
    left, right = (int(min(max(cx + sign * side * width / 2, 0), width)) for sign in (-1, 1))
    return top, bottom, left, right


def mixed(x: Tensor, other: Tensor, u: np.ndarray, mix: CutMix | MixUp) -> tuple[Tensor, float]:
    """A batch with its shuffled self ``other`` mixed in, and the share that is its own. u: 3 uniforms of the batch."""
    lam = share(float(u[0]), mix.alpha)
    if isinstance(mix, MixUp):
        return torch.lerp(other, x, lam), lam
    top, bottom, left, right = cutmix_box(lam, u[1:], *x.shape[2:])
    out = x.clone()
    out[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return out, 1 - (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])


def share(u: float, alpha: float) -> float:
    """A draw of Beta(alpha, alpha) from a uniform, by its inverse."""
    if alpha == 1:
        return u
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, u))


# uniform numbers that an image takes
DRAWS: dict[str, Callable[[Any], int]] = {
    "crop": lambda _: 2 * TRIES + 2,
    "shift": lambda _: 2,
    "flip": lambda _: 1,
    "jitter": lambda _: 6,
    "lighting": lambda _: 6,
    "randaugment": lambda options: 2 * options.operations,
    "shuffle": lambda options: 2 * options.factor,
}
APPLY: dict[str, Callable[[Tensor, np.ndarray, Any], Tensor]] = {
    "crop": crop,
    "shift": shift,
    "flip": flip,
    "jitter": jitter,
    "lighting": lighting,
    "randaugment": rand_augment,
    "shuffle": shuffle,
}
