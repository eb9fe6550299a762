"""Any image file, whatever its format and colours, as 8-bit grayscale or RGB."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# Where an image lies: a file, a file's bytes, or its pixels (H, W) or (H, W, 3) uint8.
Raw = Path | bytes | np.ndarray
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
UNDECODED = "cannot be decoded"  # how every message of :func:`decode` begins
LARGEST = 89_478_485  # pixels, where Pillow begins to warn: 360 MB as RGB; a few damaged bytes of a header can ask for any number
Image.MAX_IMAGE_PIXELS = LARGEST
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
_TRANSPOSED = {5, 6, 7, 8}  # EXIF orientations that swap height and width
_ORIENTATION = 0x0112


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image; hidden files (``._x.jpg`` of macOS) are none."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def image_files(folder: Path) -> list[Path]:
    """A folder's images by name; other files are left out."""
    return sorted(path for path in folder.iterdir() if is_image(path.name))


def decode(raw: Raw) -> Image.Image:
    """An image of mode L or RGB, upright.

    EXIF rotation is applied; CMYK, palettes and any other colours become RGB; of 16 bits the upper 8 are kept; an alpha channel
    is dropped, as by ``convert("RGB")`` of the loaders that the papers use; of an animation the first frame is taken.

    Raises
    ------
    ValueError: it cannot be decoded, a truncated file included, or has more than ``LARGEST`` pixels; the message says why.
    """
    if isinstance(raw, np.ndarray):
        return Image.fromarray(raw)
    try:
        with Image.open(_file(raw)) as file:
            if file.mode == "F":
                raise ValueError("floating point pixels, whose range no one knows")
            # without orientation, and for most files it has none, the copy is spared
            picture = ImageOps.exif_transpose(file) if file.getexif().get(_ORIENTATION, 1) != 1 else file
            if picture.mode.startswith("I"):
                return Image.fromarray(_upper_bits(picture))
            wanted = "L" if picture.mode in ("L", "1", "LA") else "RGB"
            return picture.convert(wanted)
    except Exception as error:  # Pillow's plug-ins raise nearly everything on damaged input
        raise ValueError(_why(error)) from None


def size(raw: Raw) -> tuple[int, int]:
    """(height, width) of what :func:`decode` gives, from the header alone.

    Raises
    ------
    ValueError: there is no header to read, or it has more than ``LARGEST`` pixels.
    """
    if isinstance(raw, np.ndarray):
        return raw.shape[0], raw.shape[1]
    try:
        with Image.open(_file(raw)) as file:
            # Pillow turns a TIFF by itself
            turned = file.format != "TIFF" and file.getexif().get(_ORIENTATION, 1) in _TRANSPOSED
            return (file.width, file.height) if turned else (file.height, file.width)
    except Exception as error:
        raise ValueError(_why(error)) from None


def _file(raw: Path | bytes) -> Path | io.BytesIO:
    """What Pillow opens. Of an extended WebP it would make room for the whole canvas before it asks how large that is."""
    if isinstance(raw, bytes):
        head = raw[:30]
    else:
        with open(raw, "rb") as file:
            head = file.read(30)
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 30:
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        if width * height > LARGEST:
            raise Image.DecompressionBombError
    return io.BytesIO(raw) if isinstance(raw, bytes) else raw


def _why(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"{UNDECODED} (over {LARGEST // 10**6} million pixels by its header; if that is not damaged, make the image smaller)"
    text = " ".join(str(error).split()) or type(error).__name__
    # Pillow names the buffer's address of what it got as bytes
    return f"{UNDECODED} ({'no known image format' if 'cannot identify' in text else text})"


def _upper_bits(picture: Image.Image) -> np.ndarray:
    """16-bit grayscale, as integers of 32 bits where the format says so, to 8 bits."""
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("integers beyond 16 bits")
    return (values >> 8).astype(np.uint8)
