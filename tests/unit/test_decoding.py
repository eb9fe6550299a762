"""Decoding: every format and defect that image sets have, against the pixels that went in; resize rules against their kernels."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limbeck.config import View
from limbeck.data import decoding
from limbeck.data.decoding import decode, image_files
from limbeck.data.preprocessing import apply_view

SETTINGS = settings(max_examples=40, deadline=None)


def colours(height: int = 12, width: int = 20, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    """What survives lossy codecs."""
    y, x = np.mgrid[:height, :width]
    return np.stack([200 * x // width, 200 * y // height, 100 + 0 * x], axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels(raw: decoding.Raw) -> np.ndarray:
    return np.asarray(decode(raw))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_lossless_formats_give_their_pixels(kind, tmp_path):
    values = colours() // 85 * 85  # few colours: a GIF's palette has them all
    path = tmp_path / "x"
    path.write_bytes(saved(Image.fromarray(values), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.array_equal(pixels(path), values)
    assert np.array_equal(pixels(path.read_bytes()), values)
    assert decoding.size(path) == (12, 20)


def test_pixels_are_pixels():
    for values in (colours(), colours()[..., 0]):
        assert np.array_equal(pixels(values), values)
        assert decoding.size(values) == (12, 20)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_any_colours(mode):
    image = Image.fromarray(smooth()).convert(mode)
    found = pixels(saved(image, "JPEG", quality=95))
    wanted = np.asarray(image if mode == "L" else image.convert("RGB"))
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 3


def test_sixteen_bits_become_their_upper_eight():
    values = np.random.default_rng(0).integers(0, 65536, (9, 7), dtype=np.uint16)
    assert np.array_equal(pixels(saved(Image.fromarray(values), "PNG")), values >> 8)
    assert np.array_equal(pixels(saved(Image.fromarray(values.astype(np.int32)), "TIFF")), values >> 8)


def test_alpha_is_dropped_and_palettes_are_looked_up():
    values = colours(channels=4)
    assert np.array_equal(pixels(saved(Image.fromarray(values), "PNG")), values[..., :3])
    palette = Image.fromarray(colours()).quantize(16)
    assert np.array_equal(pixels(saved(palette, "PNG", transparency=3)), np.asarray(palette.convert("RGB")))
    grey = Image.fromarray(colours()[..., 0])
    grey_alpha = Image.merge("LA", (grey, Image.fromarray(colours(seed=1)[..., 0])))
    assert np.array_equal(pixels(saved(grey_alpha, "PNG")), np.asarray(grey))
    assert np.array_equal(pixels(saved(grey.convert("1"), "PNG")), np.asarray(grey.convert("1").convert("L")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_an_image_upright(orientation, kind):
    """The eight orientations of EXIF 2.3, table 4.6.4: where the stored first row and column belong."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = colours()
    upright = {
        1: values,
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values.swapaxes(0, 1),
        6: values[::-1].swapaxes(0, 1),
        7: values[::-1, ::-1].swapaxes(0, 1),
        8: values[:, ::-1].swapaxes(0, 1),
    }[orientation]
    raw = saved(Image.fromarray(values), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(pixels(raw), upright)
    assert decoding.size(raw) == upright.shape[:2]


@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]), st.data())
@SETTINGS
def test_a_truncated_or_damaged_file_is_a_value_error_or_an_image(kind, data):
    whole = saved(Image.fromarray(smooth()), kind)
    cut = data.draw(st.integers(0, len(whole) - 1))
    flips = data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(1, 255)), max_size=3))
    broken = bytearray(whole[: cut or None])
    for place, mask in flips:
        if place < len(broken):
            broken[place] ^= mask
    try:
        assert pixels(bytes(broken)).dtype == np.uint8
    except ValueError as error:
        said = str(error)
    else:
        return
    assert said.startswith("cannot be decoded (")
    assert "\n" not in said
    assert "0x" not in said  # no address: messages of identical runs are identical


def test_half_a_jpeg_and_a_web_page_are_no_images(tmp_path):
    whole = saved(Image.fromarray(colours(200, 200)), "JPEG")
    with pytest.raises(ValueError, match="truncated"):
        decode(whole[: len(whole) // 2])
    page = tmp_path / "n01440764_1.JPEG"
    page.write_text("<html>This photo is no longer available</html>")
    for function in (decode, decoding.size):
        with pytest.raises(ValueError, match=r"cannot be decoded \(no known image format\)"):
            function(page)
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode(saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


def test_folders_hidden_files_and_other_files_are_no_images(tmp_path):
    for name in ("b.JPEG", "a.png", "._a.png", "notes.txt", ".hidden.jpg", "c.WebP"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in image_files(tmp_path)] == ["a.png", "b.JPEG", "c.WebP"]


# --- resize rules -----------------------------------------------------------------------------------------------------------


def weights(source: int, size: int, kernel, support: float) -> np.ndarray:
    """(size, source) antialiased resampling weights: the kernel stretched by the factor, normalised."""
    factor = source / size
    stretch = max(factor, 1.0)
    centres = (np.arange(size) + 0.5) * factor
    places = np.arange(source) + 0.5
    found = kernel((places[None] - centres[:, None]) / stretch) * (np.abs(places[None] - centres[:, None]) < support * stretch)
    return found / found.sum(1, keepdims=True)


KERNELS = {
    "bilinear": (lambda x: np.clip(1 - np.abs(x), 0, None), 1.0),
    "lanczos": (lambda x: np.sinc(x) * np.sinc(x / 3) * (np.abs(x) < 3), 3.0),
    "bicubic": (
        lambda x: np.where(
            np.abs(x) < 1,
            1.5 * np.abs(x) ** 3 - 2.5 * x**2 + 1,
            np.where(np.abs(x) < 2, -0.5 * np.abs(x) ** 3 + 2.5 * x**2 - 4 * np.abs(x) + 2, 0),
        ),
        2.0,
    ),
}


def resampled(image: np.ndarray, height: int, width: int, name: str) -> np.ndarray:
    kernel, support = KERNELS[name]
    rows, columns = weights(image.shape[0], height, kernel, support), weights(image.shape[1], width, kernel, support)
    return np.einsum("hy,yxc,wx->hwc", rows, image.astype(float), columns).clip(0, 255)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("resize", ["squash", "crop", "resize_crop"])
def test_rules_and_filters_against_the_kernels_written_out(name, resize):
    image, size = smooth(45, 60), 16
    found = apply_view(image, View(size=size, resize=resize, filter=name), 3).astype(float)
    if resize == "squash":
        wanted = resampled(image, size, size, name)
    elif resize == "crop":
        wanted = resampled(image[:, 7:52], size, size, name)
    else:
        wanted = resampled(image, size, int(size * 60 / 45), name)[:, round((21 - 16) / 2) :][:, :size]
    assert np.abs(found - wanted).max() <= 1.5  # Pillow rounds between its two passes


def adm_written_out(image: Image.Image, size: int) -> np.ndarray:
    """guided-diffusion's center_crop_arr as its paper's code gives it, in NumPy's indices."""
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.BOX)
    scale = size / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.BICUBIC)
    values = np.array(image)
    y, x = (values.shape[0] - size) // 2, (values.shape[1] - size) // 2
    return values[y : y + size, x : x + size]


@given(st.integers(9, 90), st.integers(9, 90), st.integers(0, 99))
@SETTINGS
def test_adm_and_resize_crop_at_any_size(height, width, seed):
    image = colours(height, width, seed=seed)
    assert np.array_equal(apply_view(image, View(size=16, resize="adm"), 3), adm_written_out(Image.fromarray(image), 16))
    found = apply_view(image, View(size=16, resize="resize_crop", filter="bilinear"), 3)
    # torchvision: the short side becomes 16, the long one is truncated; CenterCrop rounds its corner half to even
    short = min(height, width)
    new = [16 if side == short else math.floor(16 * side / short) for side in (width, height)]
    picture = np.asarray(Image.fromarray(image).resize(tuple(new), Image.BILINEAR))
    top, left = round((new[1] - 16) / 2.0), round((new[0] - 16) / 2.0)
    assert np.array_equal(found, picture[top : top + 16, left : left + 16])


def test_a_filter_where_none_is_read_is_refused():
    with pytest.raises(ValueError, match="resize adm reads no filter; remove it"):
        View(size=16, resize="adm", filter="box")
