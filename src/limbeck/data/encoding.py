"""Images as PNG."""

import io

import numpy as np
from PIL import Image


def png(image: np.ndarray) -> bytes:
    """A uint8 image (H, W, 1) or (H, W, 3) as the bytes of a PNG file: of equal pixels equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.squeeze(image, -1) if image.shape[-1] == 1 else image).save(buffer, "png")
    return buffer.getvalue()
