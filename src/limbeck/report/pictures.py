"""Arrays as pictures that a page carries in itself: thumbnails, densities, matrices; and points as paths of an SVG."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 96  # pixels of a thumbnail at most; smaller images are left as they are
BYTES = 3_000_000  # of all thumbnails of a page, about
MOST = 10  # images of a class and method
BINS = 64  # of a density, along a side
GREY = 128
RIGHT, WRONG = (63, 134, 200), (224, 98, 43)


def thumbnails(shape: Sequence[int], cells: int) -> int:
    """How many images (H, W, C) each of so many cells can show."""
    height, width, channels = shape
    small = max(height, width) <= SIDE
    # about what a small image takes as PNG, and a thumbnail as JPEG
    one = 0.9 * height * width * channels if small else 0.4 * SIDE**2
    return int(np.clip(BYTES // (one * max(cells, 1)), 1, MOST))


def thumbnail(image: np.ndarray) -> str:
    """An image (H, W, C) uint8 as a data URI: PNG, or JPEG where it is made smaller."""
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    if max(picture.size) <= SIDE:
        return png(picture)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return _uri(picture, "jpeg", quality=85)


def png(picture: Image.Image) -> str:
    """As a data URI."""
    return _uri(picture, "png", optimize=True)


def _uri(picture: Image.Image, form: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"


class Frame:
    """The square of a plane that holds some points (N, 2), for densities and paths of points in one scale: 0 to 100, y upwards."""

    def __init__(self, *points: np.ndarray):
        every = np.concatenate([np.asarray(part, float).reshape(-1, 2) for part in points])
        low, high = every.min(axis=0), every.max(axis=0)
        self.centre, self.half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-12) * 1.08

    def place(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) in the frame's units."""
        x, y = ((np.asarray(points, float).reshape(-1, 2) - self.centre) / self.half).T
        return np.stack([50 + 50 * x, 50 - 50 * y], axis=1)

    def density(self, points: np.ndarray) -> str:
        """Where points are many: grey of that opacity, so that it shows on a light page and on a dark one."""
        x, y = self.place(points).T
        counts, *_ = np.histogram2d(y, x, bins=BINS, range=[[0, 100], [0, 100]])
        smooth = gaussian_filter(counts, 0.9)
        alpha = np.uint8(235 * np.sqrt(smooth / max(smooth.max(), 1e-12)))
        return png(Image.fromarray(np.stack([np.full_like(alpha, GREY), alpha], axis=-1)))

    def dots(self, points: np.ndarray) -> str:
        """Points as one path of strokes without length, which round caps make dots."""
        return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in self.place(points).tolist())

    def crosses(self, points: np.ndarray, arm: float = 2.6) -> str:
        """Points as one path of crosses."""
        return "".join(
            f"M{x - arm:.1f} {y:.1f}h{2 * arm:g}M{x:.1f} {y - arm:.1f}v{2 * arm:g}" for x, y in self.place(points).tolist()
        )

    def outline(self, corners: np.ndarray) -> str:
        """A closed path."""
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in self.place(corners).tolist()) + "z"


def confusion(shares: np.ndarray) -> str:
    """A confusion matrix of shares between 0 and 1 as opacities of two colours, right and wrong, a pixel each."""
    out = np.empty((*shares.shape, 4), np.uint8)
    out[..., :3] = np.where(np.eye(len(shares), dtype=bool)[..., None], RIGHT, WRONG)
    out[..., 3] = np.round(255 * np.clip(shares, 0, 1) ** 0.6)  # small ones can be seen
    return png(Image.fromarray(out))
