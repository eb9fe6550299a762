"""Damaged image files of every format and colour: an image, or one line that says why not; never gigabytes."""

import functools
import io
import resource
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from limbeck.config import View
from limbeck.data import decoding
from limbeck.data.preprocessing import apply_view, cut_windows
from tests.chaos.messages import in_one_line

MOST = 3 << 19  # kilobytes by which the process may grow


def _picture(height: int = 40, width: int = 56) -> np.ndarray:
    """Smooth colours with noise, so that codecs have something to do."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([200 * x // width, 200 * y // height, 100 + x % 9], axis=-1)
    return (smooth + np.random.default_rng(0).integers(0, 40, smooth.shape)).astype(np.uint8)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _interlaced() -> bytes:
    """A PNG of Adam7's seven passes, which Pillow reads and does not write."""
    pixels, passes = _picture(), b""
    for y, x, down, right in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        passes += b"".join(b"\0" + row.tobytes() for row in pixels[y::down, x::right])
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(passes)) + _chunk(b"IEND", b"")


@functools.cache
def files() -> dict[str, bytes]:
    """Whole files by format and colours."""
    rgb = Image.fromarray(_picture())
    grey, frames = rgb.convert("L"), [rgb.rotate(90), rgb.rotate(180)]
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray((_picture()[:, :, 0].astype(np.uint16) << 8) + 7)
    return {
        "jpeg": _saved(rgb, "JPEG", quality=90),
        "jpeg progressive": _saved(rgb, "JPEG", progressive=True),
        "jpeg turned": _saved(rgb, "JPEG", exif=turned),
        "jpeg grey": _saved(grey, "JPEG"),
        "jpeg cmyk": _saved(rgb.convert("CMYK"), "JPEG"),
        "png": _saved(rgb, "PNG"),
        "png grey": _saved(grey, "PNG"),
        "png palette": _saved(rgb.convert("P"), "PNG", transparency=3),
        "png alpha": _saved(rgb.convert("RGBA"), "PNG"),
        "png 16 bits": _saved(deep, "PNG"),
        "png interlaced": _interlaced(),
        "webp": _saved(rgb, "WEBP", quality=80),
        "webp lossless": _saved(rgb, "WEBP", lossless=True),
        "webp animated": _saved(rgb, "WEBP", save_all=True, append_images=frames),
        "gif": _saved(rgb.convert("P"), "GIF"),
        "gif animated": _saved(rgb.convert("P"), "GIF", save_all=True, append_images=[each.convert("P") for each in frames]),
        "tiff": _saved(rgb, "TIFF"),
        "tiff lzw": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": _saved(rgb, "TIFF", compression="jpeg"),
        "tiff float": _saved(Image.fromarray(_picture()[:, :, 0].astype(np.float32)), "TIFF"),
        "bmp": _saved(rgb, "BMP"),
        "bmp palette": _saved(rgb.convert("P"), "BMP"),
    }


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes flipped, cut off, put in, taken out, repeated, or turned into a size that no image has."""
    out = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        how, at = rng.integers(7), int(rng.integers(max(1, len(out))))
        near = int(rng.integers(min(64, max(1, len(out)))))  # headers are at the beginning
        length = int(rng.integers(1, 40))
        if how == 0 and out:
            for place in rng.integers(len(out), size=length).tolist():
                out[place] ^= 1 << int(rng.integers(8))
        elif how == 1:
            del out[at:]
        elif how == 2:
            out[at:at] = rng.bytes(length)
        elif how == 3:
            del out[at : at + length]
        elif how == 4:
            out[near : near + 4] = SIZES[int(rng.integers(len(SIZES)))]
        elif how == 5 and out:
            out[near] = int(rng.integers(256))
        else:
            out += out[at : at + 10 * length]
    return bytes(out)


# little and big endian: nothing, enormous, negative, a side of 30,000, and of 9,000, which is taken
_SIDES = (
    *(("I", (side,)) for side in (0, 9_000, 30_000, 2**31 - 1, 2**32 - 1)),
    ("i", (-5,)),
    ("HH", (30_000, 30_000)),
)
SIZES = tuple(struct.pack(order + kind, *sides) for order in "<>" for kind, sides in _SIDES)


def peak() -> int:
    """Kilobytes of this process at most, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def judge(content: bytes) -> Image.Image | None:
    """A file decoded; None where it is refused in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of metadata that Pillow passes over
        size, image = _one_line(lambda: decoding.size(content)), _one_line(lambda: decoding.decode(content))
    if image is not None:
        assert image.mode in ("L", "RGB"), f"mode {image.mode}"
        assert size == (image.height, image.width), f"the header says {size}, the image has {image.height} x {image.width}"
    return image


def view(image: Image.Image, rng: np.random.Generator) -> None:
    """Resized by any rule, or refused in one line."""
    rule = ("pad", "squash", "crop", "resize_crop", "adm", "windows")[int(rng.integers(6))]
    own, channels = View(size=int(rng.integers(8, 260)), resize=rule), int(rng.choice([1, 3]))
    try:
        found = cut_windows(image, own, channels) if rule == "windows" else apply_view(image, own, channels)[None]
    except ValueError as error:
        in_one_line(error)
        return
    assert found.shape[1:] == (own.size, own.size, channels), f"{rule}: {found.shape}"


def _one_line(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValueError as error:
        in_one_line(error, decoding.UNDECODED)
        return None


def images(count: int, seed: int) -> int:
    """Damaged files in memory, decoded."""
    before, names = peak(), sorted(files())
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        name = names[int(rng.integers(len(names)))]
        content = damaged(files()[name], rng)
        try:
            if (image := judge(content)) is not None:
                view(image, rng)
            assert peak() - before < MOST, f"{(peak() - before) >> 10} MB more"
        except Exception as error:
            raise AssertionError(f"seed {seed}, file {number} ({name}): {type(error).__name__}: {error}") from error
    return count
