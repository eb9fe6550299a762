"""Every augmentation against the operation written out, image by image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from limbeck.settings import Crop, CutMix, Flip, Jitter, Lighting, MixUp, RandAugment, Shift, Shuffle
from limbeck.students.augmentation import (
    APPLY,
    DRAWS,
    EIGENVALUES,
    EIGENVECTORS,
    TRIES,
    crop_boxes,
    mixed,
    resampled,
    share,
)
from limbeck.students.randaugment import NAMES

EVERY = (Crop(), Shift(pixels=2), Flip(), Jitter(), Lighting(), RandAugment(operations=2, magnitude=9), Shuffle(factor=2))


def draw(options, images, seed=0):
    return np.random.default_rng(seed).random((images, DRAWS[options.kind](options)))


def run(options, x, u):
    return APPLY[options.kind](x, u, options)


@pytest.mark.parametrize("options", EVERY, ids=lambda o: o.kind)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_augmented_the_same_whatever_is_beside_it(options, channels):
    x, u = torch.rand(5, channels, 12, 12), draw(options, 5)
    kept = x.clone()
    together = run(options, x, u)
    assert together.shape == x.shape
    assert torch.equal(x, kept)
    for i in (0, 3):
        torch.testing.assert_close(run(options, x[i : i + 1], u[i : i + 1])[0], together[i])


@given(st.integers(0, 10_000), st.integers(6, 40), st.integers(6, 40), st.floats(0.02, 1), st.floats(0.2, 0.9))
@settings(max_examples=60, deadline=None)
def test_crops_lie_in_the_image_and_have_the_area_and_ratio_that_were_drawn(seed, height, width, least, narrow):
    u = np.random.default_rng(seed).random((7, 2 * TRIES + 2))
    boxes = crop_boxes(u, height, width, (least, 1.0), (narrow, 1 / narrow))
    for row, (top, left, h, w) in zip(u, boxes, strict=True):
        assert 0 <= top <= height - h and 0 <= left <= width - w and h > 0 and w > 0  # noqa: PT018
        wanted = None
        for k in range(TRIES):  # torchvision's RandomResizedCrop.get_params, written out
            area = height * width * (least + row[k] * (1 - least))
            ratio = np.exp(np.log(narrow) * (1 - 2 * row[TRIES + k]))
            cw, ch = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
            if 0 < cw <= width and 0 < ch <= height:
                wanted = (ch, cw)
                break
        if wanted is None:
            own = width / height
            wanted = (
                (round(width / narrow), width)
                if own < narrow
                else (height, round(height / narrow))
                if own > 1 / narrow
                else (height, width)
            )
        assert (h, w) == wanted


@given(st.integers(0, 10_000), st.integers(3, 30), st.integers(3, 30), st.integers(4, 24))
@settings(max_examples=40, deadline=None)
def test_resampling_by_products_is_torchs_antialiased_bilinear(seed, height, width, size):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.random((3, 2, height, width), np.float32))
    boxes = []
    for _ in range(3):
        h, w = rng.integers(1, height + 1), rng.integers(1, width + 1)
        boxes.append((rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w))
    ours = resampled(x, np.array(boxes), size)
    for image, (top, left, h, w), out in zip(x, boxes, ours, strict=True):
        cut = image[None, :, top : top + h, left : left + w]
        torch.testing.assert_close(
            out[None], F.interpolate(cut, (size, size), mode="bilinear", antialias=True), atol=2e-5, rtol=1e-4
        )


def test_a_crop_of_everything_changes_nothing():
    x = torch.rand(4, 3, 16, 16)
    options = Crop(scale=(1.0, 1.0), ratio=(1.0, 1.0))
    torch.testing.assert_close(run(options, x, draw(options, 4)), x)


def test_shift_translates_whole_images_uniformly():
    x = 1 + torch.arange(2 * 36, dtype=torch.float32).view(2, 1, 6, 6)
    options, seen = Shift(pixels=2), set()
    for seed in range(60):
        for before, after in zip(x[:, 0], run(options, x, draw(options, 2, seed))[:, 0], strict=True):
            padded = F.pad(before, (2,) * 4)
            places = [(i, j) for i in range(5) for j in range(5) if torch.equal(after, padded[i : i + 6, j : j + 6])]
            assert len(places) == 1
            seen.update(places)
    assert len(seen) == 25


def test_flips_are_as_many_as_they_are_said_to_be():
    x = torch.rand(4000, 1, 2, 3)
    out = run(Flip(probability=0.3), x, draw(Flip(), 4000))
    flipped = (out == x.flip(3)).all(dim=(1, 2, 3))
    assert torch.equal(out[~flipped], x[~flipped])
    assert float(flipped.float().mean()) == pytest.approx(0.3, abs=0.03)


def test_jitter_is_the_three_blends_in_the_drawn_order():
    x, options = torch.rand(6, 3, 5, 5, dtype=torch.float64), Jitter(strength=0.4)
    u = draw(options, 6)
    out = run(options, x.float(), u)
    luma = torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float64)
    for image, row, ours in zip(x, u, out, strict=True):
        alphas = 0.8 * row[:3] - 0.4
        for which in np.argsort(row[3:]):
            grey = (image * luma[:, None, None]).sum(0)
            target = (torch.zeros_like(grey), grey.mean().expand_as(grey), grey)[which]
            image = image + alphas[which] * (target - image)
        torch.testing.assert_close(ours.double(), image, atol=1e-6, rtol=1e-5)


def test_lighting_adds_normal_multiples_of_the_principal_components():
    options = Lighting(sd=0.1)
    added = run(options, torch.zeros(20000, 3, 1, 1), draw(options, 20000))[:, :, 0, 0].double().numpy()
    v, s = np.array(EIGENVECTORS), np.array(EIGENVALUES)
    wanted = 0.01 * v @ np.diag(s**2) @ v.T
    np.testing.assert_allclose(np.cov(added.T), wanted, atol=0.04 * wanted.max())
    np.testing.assert_allclose(v.T @ v, np.eye(3), atol=1e-3)
    grey = run(options, torch.zeros(10, 1, 2, 2), draw(options, 10))
    torch.testing.assert_close(grey[:, :, 0, 0], torch.from_numpy(added[:10].mean(1, keepdims=True)).float())


def test_shuffled_tiles_are_all_there_and_move_as_whole_columns_and_rows():
    x, options = torch.arange(49.0).view(1, 1, 7, 7).expand(300, 1, 7, 7).clone(), Shuffle(factor=2)
    out = run(options, x, draw(options, 300))
    rows = [[*range(7)], [*range(3, 7), *range(3)]]
    wanted = {tuple(x[0, 0][r][:, c].flatten().tolist()) for r in rows for c in rows}
    assert {tuple(image.flatten().tolist()) for image in out} == wanted


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("magnitude", [0, 6, 30])
def test_randaugment_does_what_pillow_does(name, magnitude):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    picture, m = Image.fromarray(pixels), magnitude / 30
    wanted = {
        "identity": lambda: picture,
        "shear_x": lambda: picture.transform((16, 16), Image.Transform.AFFINE, (1, 0.3 * m, 0, 0, 1, 0)),
        "shear_y": lambda: picture.transform((16, 16), Image.Transform.AFFINE, (1, 0, 0, 0.3 * m, 1, 0)),
        "translate_x": lambda: picture.transform((16, 16), Image.Transform.AFFINE, (1, 0, -m * 150 / 331 * 16, 0, 1, 0)),
        "translate_y": lambda: picture.transform((16, 16), Image.Transform.AFFINE, (1, 0, 0, 0, 1, -m * 150 / 331 * 16)),
        "rotate": lambda: picture.rotate(30 * m),
        "brightness": lambda: ImageEnhance.Brightness(picture).enhance(1 + 0.9 * m),
        "color": lambda: ImageEnhance.Color(picture).enhance(1 + 0.9 * m),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(1 + 0.9 * m),
        "sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(1 + 0.9 * m),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(4 * m)),
        "solarize": lambda: Image.fromarray(np.where(pixels >= round(255 * (1 - m)), 255 - pixels, pixels)),
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
    }[name]()
    options = RandAugment(operations=1, magnitude=magnitude)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    out = run(options, x, np.array([[(NAMES.index(name) + 0.5) / len(NAMES), 0.2]]))
    np.testing.assert_array_equal((out[0] * 255).round().byte().permute(1, 2, 0).numpy(), np.asarray(wanted))


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_cutmix_keeps_the_share_it_says(alpha):
    x = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 12, 12)
    rng = np.random.default_rng(1)
    for _ in range(40):
        other = rng.permutation(5)
        out, kept = mixed(x, x[torch.from_numpy(other)], rng.random(3), CutMix(alpha=alpha))
        for i in range(5):
            own = (out[i] == i).float().mean().item()
            assert own == pytest.approx(1.0 if other[i] == i else kept)
            assert set(out[i].unique().tolist()) <= {float(i), float(other[i])}


def test_mixup_blends():
    x, other = torch.rand(4, 1, 3, 3), torch.rand(4, 1, 3, 3)
    out, kept = mixed(x, other, np.array([0.3, 0.9, 0.9]), MixUp())
    assert kept == 0.3
    torch.testing.assert_close(out, 0.3 * x + 0.7 * other)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_share_is_drawn_from_beta(alpha):
    values = np.array([share(u, alpha) for u in (np.arange(4000) + 0.5) / 4000])
    assert values.mean() == pytest.approx(0.5, abs=1e-3)
    assert values.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=5e-3)
