"""Resize rules: any decoded image to a square uint8 array, or to several; and back from squares to patches and mosaics."""

import math

import numpy as np
from PIL import Image

from limbeck.config import View


def apply_view(image: np.ndarray, view: View, channels: int) -> np.ndarray:
    """An image (H, W) or (H, W, 3) uint8 as (size, size, channels) uint8 under a view.

    Raises
    ------
    ValueError: ``pad`` of an image larger than the view.
    """
    mode = "L" if channels == 1 else "RGB"
    picture = Image.fromarray(image).convert(mode)
    size = view.size
    if view.resize == "pad":
        if max(picture.size) > size:
            raise ValueError(f"is {picture.size[0]}x{picture.size[1]}, larger than the view's {size}; use resize: crop or squash")
        canvas = Image.new(mode, (size, size))
        canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
        picture = canvas
    elif view.resize == "squash":
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    elif view.resize == "windows":
        raise ValueError("is cut into windows, not resized to one; use cut_windows")
    else:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        # cropped first: a resize with a box would let pixels outside it bleed into the border
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture, np.uint8).reshape(size, size, channels)


def window_corners(height: int, width: int, view: View) -> tuple[tuple[int, int], np.ndarray]:
    """The resized (height, width) of an image whose short side becomes the view's size, and (K, 2) top and left of the evenly
    spaced squares that cover it, in reading order.
    """
    short, size = min(height, width), view.size
    sides = [max(size, round(side * size / short)) for side in (height, width)]
    steps = [math.ceil((side - size) / (view.stride or max(1, size // 2))) for side in sides]
    tops, lefts = (np.round(np.linspace(0, side - size, n + 1)).astype(np.int64) for side, n in zip(sides, steps, strict=True))
    return (sides[0], sides[1]), np.array([(top, left) for top in tops for left in lefts])


def cut_windows(image: np.ndarray, view: View, channels: int) -> np.ndarray:
    """The squares (K, size, size, channels) uint8 of :func:`window_corners` of an image (H, W) or (H, W, 3)."""
    (height, width), corners = window_corners(image.shape[0], image.shape[1], view)
    picture = Image.fromarray(image).convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS), np.uint8).reshape(height, width, channels)
    return np.stack([pixels[top : top + view.size, left : left + view.size] for top, left in corners])


def joined(windows: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The image (H, W, channels) that squares (K, size, size, channels) at ``corners`` were cut from."""
    size = windows.shape[1]
    out = np.zeros((*(corners.max(axis=0) + size), windows.shape[-1]), np.uint8)
    for pixels, (top, left) in zip(windows, corners, strict=True):
        out[top : top + size, left : left + size] = pixels
    return out


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """A square image (S, S, channels) at another side, by Lanczos; untouched where it has it."""
    if image.shape[0] == size:
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS), np.uint8).reshape(size, size, image.shape[-1])


def tiled(patches: list[np.ndarray], size: int) -> np.ndarray:
    """An image (size, size, channels) of one square patch, or of n² ones, row by row; each is resized to its tile."""
    across = math.isqrt(len(patches))
    edges = np.round(np.linspace(0, size, across + 1)).astype(int)
    out = np.empty((size, size, patches[0].shape[-1]), np.uint8)
    for number, patch in enumerate(patches):
        row, column = divmod(number, across)
        tile = np.s_[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
        # where the side is no multiple, tiles differ by a pixel
        side = max(edges[row + 1] - edges[row], edges[column + 1] - edges[column])
        out[tile] = resized(patch, int(side))[: edges[row + 1] - edges[row], : edges[column + 1] - edges[column]]
    return out
