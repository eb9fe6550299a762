"""Patches: windows, localisation, arrangement, crops and mosaics, against loops written out; the stages on small artifacts."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from limbeck.artifacts import DISTILLED, EMBEDDING, IMAGES, LATENTS, PATCHES, PROTOTYPES, SCORES
from limbeck.commit import digest
from limbeck.config import View
from limbeck.data.paths import package_path
from limbeck.data.preprocessing import apply_view, cut_windows, joined, resized, tiled, window_corners
from limbeck.data.sources.arrays import FASHION_CLASSES
from limbeck.discovery.patch_clusters import fit
from limbeck.metrics.teacher import TeacherExtractor
from limbeck.priors.base import load_vae
from limbeck.records import write_json
from limbeck.seeds import stream
from limbeck.selection.crops import random_boxes
from limbeck.selection.patches import arrange, best_patch, merged
from limbeck.stages import crop, localize, patch_features, pick, score, select
from limbeck.stages import fit as fit_stage
from limbeck.store import Artifact, create
from limbeck.students.registry import architecture, build
from tests.unit.test_invert import stored

SETTINGS = settings(max_examples=60, deadline=None)


@given(st.integers(8, 90), st.integers(8, 90), st.integers(8, 24), st.integers(1, 24), st.integers(0, 2**31))
@SETTINGS
def test_windows_cover_the_resized_image_and_join_to_it(height, width, size, stride, seed):
    view = View(size=size, resize="windows", stride=min(stride, size))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    (tall, wide), corners = window_corners(height, width, view)
    assert min(tall, wide) == size
    short = min(height, width)
    assert abs(tall - height * size / short) <= 0.5
    assert abs(wide - width * size / short) <= 0.5
    covered = np.zeros((tall, wide), bool)
    for top, left in corners:
        assert top + size <= tall
        assert left + size <= wide
        covered[top : top + size, left : left + size] = True
    assert covered.all()
    along = np.unique(corners[:, int(wide > tall)])
    assert np.diff(along).max(initial=0) <= view.stride
    whole = np.asarray(Image.fromarray(image).resize((wide, tall), Image.Resampling.LANCZOS))
    assert np.array_equal(joined(cut_windows(image, view, 3), corners), whole)


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 9), st.integers(0, 2**31))
@SETTINGS
def test_the_best_patch_is_the_highest_mean_over_windows_that_overlap(windows, side, spare, seed):
    rng = np.random.default_rng(seed)
    h = side + int(rng.integers(0, 3))
    lefts = np.unique(np.round(np.linspace(0, min(spare, h * (windows - 1)), windows)).astype(int))
    corners, maps = np.array([(0, left) for left in lefts]), rng.normal(size=(len(lefts), h, h))
    height, width = h, h + lefts.max()
    whole = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            whole[y, x] = np.mean([m[y, x - left] for m, (_, left) in zip(maps, corners, strict=True) if 0 <= x - left < h])
    np.testing.assert_allclose(merged(maps, corners), whole, atol=1e-12)
    means = {(y, x): whole[y : y + side, x : x + side].mean() for y in range(height - side + 1) for x in range(width - side + 1)}
    found, top, left = best_patch(whole, side)
    assert math.isclose(found, max(means.values()), abs_tol=1e-9)
    assert math.isclose(means[top, left], found, abs_tol=1e-9)


def arranged(scores, ipc, parts, clusters, distances, top):
    """The paper's words, one at a time."""
    wanted, chosen = ipc * parts, []
    ranked = sorted(set(clusters.tolist()), key=lambda c: (-np.median(scores[clusters == c]), c))
    for c in ranked[:top]:
        members = sorted(np.flatnonzero(clusters == c).tolist(), key=lambda i: (distances[i], i))
        chosen += members[: wanted // top]
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if len(chosen) < wanted and i not in chosen:
            chosen.append(i)
    return [chosen[i * parts : (i + 1) * parts] for i in range(ipc)]


@given(st.integers(1, 12), st.sampled_from([1, 4]), st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**31))
@SETTINGS
def test_arrangement_equals_the_papers_words(ipc, parts, top, kinds, seed):
    rng = np.random.default_rng(seed)
    n = ipc * parts + int(rng.integers(0, 40))
    scores, clusters, distances = rng.integers(0, 9, n) / 4.0, rng.integers(0, kinds, n), rng.integers(0, 5, n) / 2.0
    found = arrange(scores, ipc, parts, clusters, distances, top)
    assert found.tolist() == arranged(scores, ipc, parts, clusters, distances, top)
    assert len(np.unique(found)) == ipc * parts
    best = arrange(scores, ipc, parts).ravel()
    assert scores[best].min() >= np.sort(scores)[::-1][ipc * parts - 1]
    with pytest.raises(ValueError, match=f"has {n} patches, fewer than the {(n + 1) * parts}"):
        arrange(scores, n + 1, parts)


def test_clusters_are_k_means_and_no_more_than_distinct_points():
    rng = np.random.default_rng()
    centres = rng.normal(size=(5, 6)) * 20
    points = (centres[np.arange(100) % 5] + rng.normal(size=(100, 6))).astype(np.float32)
    found = fit(points, {"clusters": 5, "n_init": 3}, 2)
    for number in range(5):
        own = found.labels == found.labels[number]
        assert own.tolist() == (np.arange(100) % 5 == number).tolist()
        np.testing.assert_allclose(found.distances[own], np.linalg.norm(points[own] - points[own].mean(axis=0), axis=1), rtol=1e-3)
    assert len(np.unique(fit(np.repeat(points[:3], 9, axis=0), {"clusters": 5, "n_init": 1}, 0).labels)) == 3


@given(st.integers(8, 300), st.floats(0.05, 1), st.floats(0, 1), st.integers(0, 2**31))
@SETTINGS
def test_crops_lie_inside_and_have_the_area_asked_for(size, low, more, seed):
    high = low + more * (1 - low)
    found = random_boxes(np.random.default_rng(seed), size, {"crops": 20, "crop_area": [low, high]})
    tops, lefts, sides = found.T
    assert tops.min() >= 0
    assert lefts.min() >= 0
    assert (tops + sides).max() <= size
    assert (lefts + sides).max() <= size
    assert sides.min() >= max(1, math.floor(size * math.sqrt(low)))
    assert sides.max() <= math.ceil(size * math.sqrt(high))


def test_crops_take_every_place():
    found = random_boxes(np.random.default_rng(), 64, {"crops": 20_000, "crop_area": [0.25, 0.25]})
    assert set(found[:, 2].tolist()) == {32}
    counts = np.bincount(found[:, 0], minlength=33)
    assert counts.min() > 20_000 / 33 * 0.7
    assert counts.max() < 20_000 / 33 * 1.3


@pytest.mark.parametrize("size", [32, 33])
def test_a_mosaic_has_its_patches_row_by_row(size):
    patches = [np.full((28, 28, 3), value, np.uint8) for value in (10, 60, 120, 240)]
    found = tiled(patches, size)
    half = round(size / 2)
    for value, at in ((10, np.s_[:half, :half]), (60, np.s_[:half, half:]), (120, np.s_[half:, :half]), (240, np.s_[half:, half:])):
        assert (found[at] == value).all()
    noise = np.random.default_rng().integers(0, 256, (32, 32, 1), np.uint8)
    assert np.array_equal(tiled([noise], 32), noise)
    assert tiled([noise], 16).shape == (16, 16, 1)
    assert np.array_equal(tiled([noise], 16), resized(noise, 16))


# The stages.


class Small:
    """Twelve images of two classes, 32 x 32, with their latents under the tiny prior, as artifacts in a folder."""

    def __init__(self, folder: Path, weights: Path):
        self.folder, self.prior = folder, stored(weights, folder / "tiny")
        with np.load(package_path("package:fashion_mini.npz")) as file:
            chosen = [np.flatnonzero(file["train_labels"] == label)[:count] for label, count in ((0, 7), (1, 5))]
            images = file["train_images"][np.concatenate(chosen)]
        self.header = {"classes": list(FASHION_CLASSES), "class_range": [0, 2]}
        self.pixels = np.stack([apply_view(image, View(size=32, resize="pad"), 1) for image in images])
        self.latents = load_vae(self.prior.parent, 32).encode(self.pixels).numpy()
        self.labels = np.repeat([0, 1], [7, 5])

    def write(self, name: str, schema, **arrays) -> Path:
        path = self.folder / f"{name}.zarr.zip"
        with create(path, schema, {k: v.shape for k, v in arrays.items()}, {}, {}, **self.header) as out:
            for key, values in arrays.items():
                out.append(key, values)
        return path

    def images(self) -> Path:
        return self.write("images", IMAGES, images=self.pixels, labels=self.labels, source_ids=np.ones((12, 2), np.uint8))


SCORING = {
    "view": "v32",
    "n_draws": 3,
    "t_range": [0.1, 0.7],
    "t_draws": "uniform",
    "real_images_per_class": None,
    "score_batch": 4,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_prior) -> Small:
    return Small(tmp_path_factory.mktemp("patches"), tiny_prior)


def scored(small: Small, name: str = "scores", **options) -> Path:
    latents = small.write("latents", LATENTS, latents=small.latents, labels=small.labels)
    spec = {"family": "dit", "prior": {"size": 32}, "scoring": {**SCORING, **options}, "code": "x"}
    path = small.folder / f"{name}.zarr.zip"
    seconds = score.run(spec, small.images(), latents, small.prior, path)
    assert seconds["seconds_per_image"] >= 0
    return path


def read(path: Path, *names: str) -> list[np.ndarray]:
    with Artifact(path) as found:
        return [found[name] for name in names]


def test_scores_do_not_depend_on_batches_and_limits_add_up(small):
    maps, rows, labels = read(scored(small), "maps", "rows", "labels")
    assert maps.shape == (12, 8, 8)
    assert maps.dtype == np.float16
    assert rows.tolist() == [*range(7), *range(5)]
    assert labels.tolist() == small.labels.tolist()
    assert np.abs(maps.astype(np.float32)).max() > 1e-2
    (one,) = read(scored(small, "one", score_batch=1), "maps")
    np.testing.assert_allclose(one.astype(np.float32), maps.astype(np.float32), atol=5e-3)
    seen: set = set()
    for limit in (1, 3, 6):
        some, own, of = read(scored(small, f"limit{limit}", real_images_per_class=limit), "maps", "rows", "labels")
        assert np.bincount(of).tolist() == [min(limit, 7), min(limit, 5)]
        chosen = set(zip(of.tolist(), own.tolist(), strict=True))
        assert seen <= chosen
        seen = chosen
        at = [7 * label + row for label, row in zip(of, own, strict=True)]
        np.testing.assert_allclose(some.astype(np.float32), maps[at].astype(np.float32), atol=5e-3)


def test_patches_are_located_featured_clustered_chosen_and_cut(small):
    images, scores = small.images(), scored(small)
    patches, features, clusters, chosen, distilled = (
        small.folder / f"{name}.zarr.zip" for name in ("patches", "features", "clusters", "chosen", "distilled")
    )
    localize.run({"patching": {"patch_size": 16}, "code": "x"}, images, scores, patches)
    maps, boxes, values, rows = (*read(scores, "maps"), *read(patches, "boxes", "scores", "rows"))
    assert rows.tolist() == list(range(12))
    for grid, (top, left, side), value in zip(maps.astype(np.float64), boxes, values, strict=True):
        means = {(y, x): grid[y : y + 4, x : x + 4].mean() for y in range(5) for x in range(5)}
        assert side == 16
        assert math.isclose(means[top // 4, left // 4], max(means.values()), abs_tol=1e-6)
        assert math.isclose(value, max(means.values()), rel_tol=1e-5, abs_tol=1e-6)
    options = {"features": "dift", "dift_t": 161, "dift_block": None, "dift_ensemble": 2, "dift_batch": 5}
    spec = {"family": "dit", "prior": {"size": 32}, "patches": options, "code": "x"}
    patch_features.run(spec, images, patches, features, small.prior)
    with Artifact(features, EMBEDDING) as found:
        vectors = found["coordinates"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    fit_stage.run({"fit": {"kind": "patches", "clusters": 3, "n_init": 2}, "code": "x"}, features, clusters)
    select_spec = {"discovery": {"kind": "patches", "parts": 4, "top_clusters": 2}, "ipc": 1, "seed": 0, "code": "x"}
    select.run(select_spec, patches, chosen, embedding=features, fit=clusters)
    numbers, distances = read(clusters, "clusters", "distances")
    with Artifact(chosen, PROTOTYPES) as found:
        parts, places, indices = found["parts"], found["boxes"], found["indices"]
    for label, at in ((0, slice(0, 7)), (1, slice(7, 12))):
        wanted = arranged(values[at], 1, 4, numbers[at], distances[at], 2)[0]
        assert parts[label].tolist() == [at.start + i for i in wanted]
        assert places[label].tolist() == boxes[parts[label]].tolist()
        assert indices[label] == parts[label][0]
    pick.run({"size": 32, "ipc": 1, "seed": 0, "code": "x"}, images, chosen, distilled)
    with Artifact(distilled, DISTILLED) as found:
        mosaics = found["images"]
    for label in range(2):
        for part, (y, x) in enumerate(((0, 0), (0, 16), (16, 0), (16, 16))):
            top, left, side = places[label, part]
            cut = small.pixels[parts[label, part], top : top + side, left : left + side]
            assert np.array_equal(mosaics[label, y : y + 16, x : x + 16], cut)


def test_features_of_a_patch_do_not_depend_on_how_many_are_scored(small):
    options, found = {"features": "dift", "dift_t": 161, "dift_block": 0, "dift_ensemble": 2, "dift_batch": 3}, []
    for limit in (None, 3):
        scores = scored(small, f"for-features-{limit}", real_images_per_class=limit)
        patches, features = (small.folder / f"{name}-{limit}.zarr.zip" for name in ("own-patches", "own-features"))
        localize.run({"patching": {"patch_size": 32}, "code": "x"}, small.images(), scores, patches)
        spec = {"family": "dit", "prior": {"size": 32}, "patches": options, "code": "x"}
        patch_features.run(spec, small.images(), patches, features, small.prior)
        found.append(dict(zip(read(patches, "rows")[0].tolist(), read(features, "coordinates")[0], strict=True)))
    assert len(found[1]) == 6
    for row, values in found[1].items():
        np.testing.assert_allclose(values, found[0][row], atol=1e-5)


def test_windows_of_one_image_give_one_patch(tmp_path):
    rng = np.random.default_rng()
    view = View(size=16, resize="windows", stride=8)
    shapes = [(16, 32), (16, 16), (40, 16)]
    wholes = [rng.integers(0, 256, (*shape, 1), np.uint8) for shape in shapes]
    corners = [window_corners(*shape, view)[1] for shape in shapes]
    windows = np.concatenate([cut_windows(image[..., 0], view, 1) for image in wholes])
    parents = np.repeat(np.cumsum([0, *map(len, corners[:-1])]), [len(each) for each in corners])
    maps = rng.normal(size=(len(windows), 4, 4)).astype(np.float16)
    header = {"classes": ["a"], "class_range": [0, 1]}

    def write(name, schema, **arrays):
        path = tmp_path / f"{name}.zarr.zip"
        with create(path, schema, {k: v.shape for k, v in arrays.items()}, {}, {}, **header) as out:
            for key, values in arrays.items():
                out.append(key, values)
        return path

    zeros = np.zeros(len(windows), np.int64)
    images = write(
        "images",
        IMAGES,
        images=windows,
        labels=zeros,
        source_ids=np.ones((len(windows), 1), np.uint8),
        windows=np.concatenate([np.arange(len(each)) for each in corners]),
        corners=np.concatenate(corners),
    )
    scores = write("scores", SCORES, maps=maps, rows=np.arange(len(windows)), labels=zeros)
    localize.run({"patching": {"patch_size": 12}, "code": "x"}, images, scores, tmp_path / "patches.zarr.zip")
    with Artifact(tmp_path / "patches.zarr.zip", PATCHES) as found:
        rows, boxes, values = found["rows"], found["boxes"], found["scores"]
    assert rows.tolist() == np.unique(parents).tolist()
    for i, row in enumerate(rows):
        own = parents == row
        whole = merged(maps[own].astype(np.float64), np.concatenate(corners)[own] // 4)
        best, top, left = best_patch(whole, 3)
        assert boxes[i].tolist() == [4 * top, 4 * left, 12]
        assert math.isclose(values[i], best, rel_tol=1e-5)
    chosen = write(
        "chosen",
        PROTOTYPES,
        indices=rows,
        labels=np.zeros(3, np.int64),
        counts=np.ones(3, np.int64),
        parts=rows[:, None],
        boxes=boxes[:, None],
    )
    pick.run({"size": 12, "ipc": 3, "seed": 0, "code": "x"}, images, chosen, tmp_path / "distilled.zarr.zip")
    (cut,) = read(tmp_path / "distilled.zarr.zip", "images")
    for image, (top, left, side), found in zip(wholes, boxes, cut, strict=True):
        assert np.array_equal(found, image[top : top + side, left : left + side])


def test_the_teachers_surest_crop_is_taken(small):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = build("convnet3-w32", 1, 10, 32)
    weights, record = small.folder / "teacher.safetensors", small.folder / "teacher.json"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, weights)
    shape = {"channels": 1, "size": 32, "normalise": "half"}
    info = {"input": shape, "classes": [str(c) for c in range(10)], "architecture": architecture("convnet3-w32")}
    info["sha256"] = {weights.name: digest(weights)}
    write_json(record, "teacher", {}, info)
    options = {"crops": 4, "crop_images": 3, "crop_area": [0.25, 0.5]}
    path = small.folder / "crops.zarr.zip"
    crop.run({"cropping": options, "seed": 5, "code": "x"}, small.images(), weights, record, path)
    rows, boxes, values, labels = read(path, "rows", "boxes", "scores", "labels")
    assert np.bincount(labels).tolist() == [3, 3]
    extractor = TeacherExtractor(weights, record)
    for row, box, value, label in zip(rows, boxes, values, labels, strict=True):
        drawn = random_boxes(stream(5, "crop", int(label), int(row - 7 * label)), 32, options)
        losses = []
        for top, left, side in drawn:
            cut = resized(small.pixels[row, top : top + side, left : left + side], 32)
            losses.append(float(F.cross_entropy(extractor.logits(np.stack([cut])), torch.tensor([int(label)]))))
        assert box.tolist() == drawn[int(np.argmin(losses))].tolist()
        assert math.isclose(-value, min(losses), rel_tol=1e-4)
