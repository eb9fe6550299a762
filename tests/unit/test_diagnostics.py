"""The page's diagnostics against numbers worked out by hand."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from limbeck.artifacts import EMBEDDING, LATENTS, PROTOTYPES
from limbeck.metrics.trajectories import variance_of_norms
from limbeck.report.diagnostics import angle_figure, chance_share, hull_area, hull_ratio, styles_of
from limbeck.report.pictures import RIGHT, WRONG, Frame, confusion, thumbnail, thumbnails
from limbeck.stages import reduce
from limbeck.stages.diagnostics import _clouds
from limbeck.store import Artifact, create

SQUARE = np.array([[0, 0], [2, 0], [2, 2], [0, 2], [1, 1], [0.5, 1.5]])


def test_hull_ratio_of_a_square_in_a_square():
    assert hull_area(SQUARE) == pytest.approx(4)
    assert hull_ratio(SQUARE / 2 + 3, SQUARE) == pytest.approx(0.25)
    assert hull_ratio(SQUARE[:2], SQUARE) == 0  # two points span no area
    assert hull_ratio(np.array([[0, 0], [1, 1], [2, 2.0]]), SQUARE) == 0
    assert hull_ratio(SQUARE, np.zeros((5, 2))) == 0


def test_variance_of_norms_is_within_classes():
    norms = np.array([[1, 5], [3, 5], [10, 7], [14, 1.0]])
    assert variance_of_norms(norms, np.array([0, 0, 1, 1])).tolist() == [5, 9]
    assert np.isnan(variance_of_norms(norms[:3], np.array([0, 0, 1]))).all()


def test_chance_share_is_that_of_random_subspaces():
    rng = np.random.default_rng(0)
    g = rng.normal(size=256)
    shares = [np.linalg.norm(np.linalg.qr(rng.normal(size=(256, 3)))[0].T @ g) / np.linalg.norm(g) for _ in range(500)]
    assert chance_share(3, 256) == pytest.approx(np.sqrt(np.mean(np.square(shares))), rel=0.05)


def test_a_frame_holds_its_points_in_one_scale():
    frame = Frame(SQUARE, np.array([[4.0, 1.0]]))
    placed = frame.place(SQUARE)
    assert placed.min() > 0
    assert placed.max() < 100
    assert placed[2, 0] - placed[0, 0] == pytest.approx(placed[0, 1] - placed[2, 1])  # both 2 long, y upwards
    assert frame.dots(SQUARE).count("M") == len(SQUARE)
    assert frame.density(np.zeros((5, 2))).startswith("data:image/png;base64,")


def test_a_confusion_is_blue_on_its_diagonal_and_opaque_by_share():
    shares = np.array([[0.9, 0.1], [0.0, 1.0]])
    data = base64.b64decode(confusion(shares).split(",")[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert pixels[..., 3].argsort(axis=None).tolist()[0] == 2  # 0 cannot be seen
    assert pixels[1, 1].tolist() == [*RIGHT, 255]
    assert pixels[0, 1, :3].tolist() == list(WRONG)


def test_a_figure_is_part_of_the_page():
    shares, styles = {"a": np.full((4, 3), 0.5), "b.c": np.full((4, 3), 0.1)}, styles_of(["full", "a", "b.c"], ["full"])
    text = angle_figure(shares, {"a": 0.2, "b.c": 0.1}, styles)
    assert text.startswith('<svg viewBox="')
    assert "currentColor" in text
    assert "#000000" not in text
    assert text.count('data-row="a"') == text.count('data-row="b.c"') == 5  # two lines, chance, and the legend's line and name
    assert " id=" not in re.sub(r'id="[mp][0-9a-f]{10}"', "", text)
    assert text == angle_figure(shares, {"a": 0.2, "b.c": 0.1}, styles)


def test_thumbnails_are_as_many_as_fit():
    assert thumbnails((32, 32, 1), 200) == 10
    assert 1 < thumbnails((32, 32, 3), 200) < 10
    assert thumbnails((1024, 1024, 3), 10_000) == 1
    large = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    kind, data = thumbnail(large).split(";base64,")
    assert kind == "data:image/jpeg"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (64, 96)


@pytest.fixture
def space(tmp_path):
    """Latents and prototypes of a shard whose first class is 3: class 4's prototypes are two of its own images."""
    rng = np.random.default_rng(1)
    latents = rng.normal(size=(30, 2, 3, 3)).astype(np.float16)
    labels = np.repeat([3, 4], [10, 20])
    header = {"classes": list("abcde"), "class_range": [3, 5]}
    paths = {name: tmp_path / f"{name}.zarr.zip" for name in ("latents", "embedding", "prototypes")}
    with create(paths["latents"], LATENTS, {"latents": latents.shape, "labels": (30,)}, {}, {}, **header) as out:
        out.append("latents", latents)
        out.append("labels", labels)
    reduce.run({"embedding": {"reducer": "pca", "components": 2, "standardize": False}}, paths["latents"], paths["embedding"])
    indices = np.array([0, 5, 12, 25])
    arrays = {"indices": indices, "labels": labels[indices], "counts": np.ones(4), "centroids": latents[indices]}
    with create(paths["prototypes"], PROTOTYPES, {k: v.shape for k, v in arrays.items()}, {}, {}, **header) as out:
        for name, values in arrays.items():
            out.append(name, values)
    return latents.reshape(30, -1).astype(np.float64), paths


def test_reduce_is_the_singular_value_decomposition_class_by_class(space):
    latents, paths = space
    with Artifact(paths["embedding"], EMBEDDING) as found:
        for at, rows in enumerate((slice(0, 10), slice(10, 30))):
            centred = latents[rows] - latents[rows].mean(0)
            u, s, _ = np.linalg.svd(centred, full_matrices=False)
            ours = found["coordinates"][rows]
            assert np.allclose(np.abs(ours), np.abs(u[:, :2] * s[:2]), atol=1e-4)
            assert np.allclose(centred @ found["axes"][at].T, ours, atol=1e-4)
            assert np.allclose(found["centres"][at], latents[rows].mean(0), atol=1e-6)


def test_prototypes_land_on_their_images_by_row_and_by_projection(space):
    _, paths = space
    names = {"by_row": str(paths["prototypes"]), "by_mean": str(paths["prototypes"])}
    clouds = _clouds(str(paths["embedding"]), names, {"by_row": "member", "by_mean": "centroid"})
    assert [cloud.name for cloud in clouds] == ["d", "e"]
    assert [len(cloud.points) for cloud in clouds] == [10, 20]
    for cloud, local in zip(clouds, ([0, 5], [2, 15]), strict=True):
        assert np.allclose(cloud.prototypes["by_row"], cloud.points[local])
        # a cluster of one image has its image as centroid
        assert np.allclose(cloud.prototypes["by_mean"], cloud.points[local], atol=1e-4)
