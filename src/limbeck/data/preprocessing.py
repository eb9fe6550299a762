"""Resize rules: any decoded image to a square uint8 array, or to several; and back from squares to patches and mosaics."""

import math

import numpy as np
from PIL import Image

from limbeck.config import View
from limbeck.data.decoding import LARGEST


def apply_view(image: np.ndarray | Image.Image, view: View, channels: int) -> np.ndarray:
    """A decoded image, or its pixels (H, W) or (H, W, 3) uint8, as (size, size, channels) uint8 under a view.

    Raises
    ------
    ValueError: ``pad`` of an image larger than the view, or one so long and narrow that it would be resized to too many pixels.
    """
    if view.resize == "windows":
        raise ValueError("is cut into windows, not resized to one; use cut_windows")
    picture = RULES[view.resize](_picture(image, channels), view.size, FILTERS[view.filter])
    return np.asarray(picture, np.uint8).reshape(view.size, view.size, channels)


def _picture(image: np.ndarray | Image.Image, channels: int) -> Image.Image:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    mode = "L" if channels == 1 else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _resized(picture: Image.Image, width: int, height: int, resample: Image.Resampling) -> Image.Image:
    if width * height > LARGEST:
        was = f"{picture.width}x{picture.height}"
        raise ValueError(f"is {was}: resized to {width}x{height} it is too large; leave it out, or cut it")
    return picture.resize((width, height), resample)


def _pad(picture: Image.Image, size: int, _: Image.Resampling) -> Image.Image:
    if max(picture.size) > size:
        raise ValueError(f"is {picture.size[0]}x{picture.size[1]}, larger than the view's {size}; use resize: crop or squash")
    canvas = Image.new(picture.mode, (size, size))
    canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return canvas


def _squash(picture: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    return picture.resize((size, size), resample)


def _crop(picture: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    # cropped first: a resize with a box would let pixels outside it bleed into the border
    return picture.crop((left, top, left + side, top + side)).resize((size, size), resample)


def _resize_crop(picture: Image.Image, size: int, resample: Image.Resampling) -> Image.Image:
    """torchvision's Resize(size) and CenterCrop(size): the long side is cut down to whole pixels, the corner rounded."""
    short = min(picture.size)
    width, height = (size if side == short else int(size * side / short) for side in picture.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return _resized(picture, width, height, resample).crop((left, top, left + size, top + size))


def _adm(picture: Image.Image, size: int, _: Image.Resampling) -> Image.Image:
    """center_crop_arr of ADM (Dhariwal & Nichol 2021), by which DiT's training images were made."""
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = _resized(picture, round(picture.width * scale), round(picture.height * scale), Image.Resampling.BICUBIC)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))


RULES = {"pad": _pad, "squash": _squash, "crop": _crop, "resize_crop": _resize_crop, "adm": _adm}
FILTERS = {name: Image.Resampling[name.upper()] for name in ("lanczos", "bicubic", "bilinear", "box")}


def window_corners(height: int, width: int, view: View) -> tuple[tuple[int, int], np.ndarray]:
    """The resized (height, width) of an image whose short side becomes the view's size, and (K, 2) top and left of the evenly
    spaced squares that cover it, in reading order.

    Raises
    ------
    ValueError: an image so long and narrow that it would be resized to too many pixels.
    """
    short, size = min(height, width), view.size
    sides = [max(size, round(side * size / short)) for side in (height, width)]
    if sides[0] * sides[1] > LARGEST:
        raise ValueError(f"is {width}x{height}: resized to {sides[1]}x{sides[0]} it is too large; leave it out, or cut it")
    steps = [math.ceil((side - size) / (view.stride or max(1, size // 2))) for side in sides]
    tops, lefts = (np.round(np.linspace(0, side - size, n + 1)).astype(np.int64) for side, n in zip(sides, steps, strict=True))
    return (sides[0], sides[1]), np.array([(top, left) for top in tops for left in lefts])


def cut_windows(image: np.ndarray | Image.Image, view: View, channels: int) -> np.ndarray:
    """The squares (K, size, size, channels) uint8 of :func:`window_corners` of an image (H, W) or (H, W, 3)."""
    picture = _picture(image, channels)
    (height, width), corners = window_corners(picture.height, picture.width, view)
    pixels = np.asarray(picture.resize((width, height), FILTERS[view.filter]), np.uint8).reshape(height, width, channels)
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
