"""The page's diagnostics against numbers worked out by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from limbeck.artifacts import EMBEDDING, LATENTS, PROTOTYPES
from limbeck.metrics.trajectories import variance_of_norms
from limbeck.report.diagnostics import Cloud, chance_share, hull_area, hull_ratio, map_figure
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


def test_the_map_draws_every_panel():
    clouds = [Cloud(f"c{i}", SQUARE, {"a": SQUARE[:4], "b": SQUARE[:1]}) for i in range(12)]
    image = Image.open(io.BytesIO(map_figure(clouds)))
    assert image.size[0] > image.size[1]


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
