"""Resize rules: any decoded image to a square uint8 array."""

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
    else:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        # cropped first: a resize with a box would let pixels outside it bleed into the border
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture, np.uint8).reshape(size, size, channels)
