"""The stage that chooses candidate groups: shards, real and generated centroids, what is damaged."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import FEATURES, SUBGROUPS
from limbeck.errors import LimbeckError
from limbeck.selection.subgroup import centroid, select
from limbeck.stages.choose import run
from limbeck.store import Artifact, create

CLASSES, GROUPS, IPC, DIMS = 5, 3, 4, 6
KEEP = {"alpha": 0.4, "beta": 0.9, "extractor": "teacher", "groups": GROUPS, "real_images": None, "subgroup_variant": "paper"}


def write(path: Path, features: np.ndarray, first: int) -> Path:
    """Features (C, K, D) of classes from ``first`` on."""
    labels = np.repeat(np.arange(len(features)) + first, features.shape[1])
    flat = features.reshape(len(labels), -1).astype(np.float32)
    header = {"classes": [f"c{i}" for i in range(CLASSES)], "class_range": [first, first + len(features)]}
    with create(path, FEATURES, {"features": flat.shape, "labels": labels.shape}, {}, {}, **header) as out:
        out.append("features", flat)
        out.append("labels", labels)
    return path


def given(folder: Path, cuts: list[int], seed: int = 0) -> tuple[list[Path], list[Path], np.ndarray, np.ndarray]:
    """The features of all groups and of real images, in shards that start at ``cuts``."""
    rng = np.random.default_rng(seed)
    groups, real = rng.random((GROUPS, CLASSES, IPC, DIMS), np.float32), rng.random((CLASSES, 20, DIMS), np.float32)
    parts = [slice(a, b) for a, b in zip(cuts, [*cuts[1:], CLASSES], strict=True)]
    candidates = [folder / f"g{g}" for g in range(GROUPS)]
    for g, path in enumerate(candidates):
        (path / "features").mkdir(parents=True, exist_ok=True)
        for shard, part in enumerate(parts):
            write(path / f"features/teacher-{shard}.zarr.zip", groups[g, part], part.start)
    return candidates, [write(folder / f"r{p.start}.zarr.zip", real[p], p.start) for p in parts], groups, real


def chosen(folder: Path, candidates: list[Path], real: list[Path], seed: int = 0, **options: object) -> dict[str, np.ndarray]:
    path = folder / "subgroups.zarr.zip"
    shards = len(list(candidates[0].glob("features/*")))
    run({"keep": {**KEEP, **options}, "ipc": IPC, "seed": seed, "code": "x"}, candidates, shards, real, path)
    with Artifact(path, SUBGROUPS) as found:
        assert found.attrs["class_range"] == [0, CLASSES]
        return {name: found[name] for name in SUBGROUPS.arrays}


@pytest.mark.parametrize("cuts", [[0], [0, 2], [0, 1, 4]])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_choice_is_the_kernels_whatever_the_shards(tmp_path, cuts, variant):
    candidates, real, groups, reals = given(tmp_path, cuts)
    found = chosen(tmp_path, candidates, real, subgroup_variant=variant)
    centres = np.stack([[centroid(groups[g, c]) for g in range(GROUPS)] for c in range(CLASSES)])
    expected = select(centres, np.stack([centroid(reals[c]) for c in range(CLASSES)]), variant=variant)
    assert found["labels"].tolist() == list(range(CLASSES))
    assert np.array_equal(found["groups"], expected.groups)
    for name in ("near", "apart", "scores"):
        np.testing.assert_allclose(found[name], getattr(expected, name), rtol=1e-6)


def test_generated_centroids_are_those_of_all_candidates(tmp_path):
    candidates, _, groups, _ = given(tmp_path, [0, 3])
    found = chosen(tmp_path, candidates, [])
    for c in range(CLASSES):
        reference = centroid(groups[:, c].reshape(-1, DIMS))
        expected = [np.log(1 - centroid(groups[g, c]) @ reference) for g in range(GROUPS)]
        np.testing.assert_allclose(found["near"][c], expected, rtol=1e-4)


def test_some_real_images_are_drawn_by_the_seed(tmp_path):
    candidates, real, _, _ = given(tmp_path, [0])
    whole = chosen(tmp_path, candidates, real)
    few, again, other = (chosen(tmp_path, candidates, real, seed=s, real_images=3) for s in (1, 1, 2))
    assert np.array_equal(few["near"], again["near"])
    assert not np.allclose(few["near"], other["near"])
    assert not np.allclose(few["near"], whole["near"])
    np.testing.assert_allclose(few["apart"], whole["apart"])
    np.testing.assert_allclose(chosen(tmp_path, candidates, real, real_images=20)["near"], whole["near"], rtol=1e-5)
    with pytest.raises(LimbeckError, match="real_images 21 is more than the 20 of class 'c0'"):
        chosen(tmp_path, candidates, real, real_images=21)


def test_features_that_are_zero_are_named(tmp_path):
    candidates, real, _, _ = given(tmp_path, [0])
    write(candidates[1] / "features/teacher-0.zarr.zip", np.zeros((CLASSES, IPC, DIMS)), 0)
    with pytest.raises(LimbeckError, match=r"subgroup sampling with extractor teacher: features.* is zero"):
        chosen(tmp_path, candidates, real)
    assert not (tmp_path / "subgroups.zarr.zip").exists()
