"""Pseudo-labels from a share of the labels: the kernel against brute force, the stage, the plan."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.artifacts import FEATURES, IMAGES
from limbeck.data import pseudo
from limbeck.errors import LimbeckError
from limbeck.seeds import stream
from limbeck.stages import label
from limbeck.store import Artifact, create
from tests.unit.test_methods import plan

NAMES = ["a", "b", "c", "d"]


@given(st.integers(1, 200), st.floats(1e-6, 1), st.floats(1e-6, 1), st.integers(0, 9), st.integers(0, 9))
def test_the_labelled_share_is_rounded_drawn_by_seed_and_class_and_grows(n, share, other, seed, label_):
    rows = pseudo.labelled_rows(n, share, seed, label_)
    assert len(rows) == len(set(rows.tolist())) == max(1, round(share * n))
    assert rows.min() >= 0
    assert rows.max() < n
    assert (np.diff(rows) > 0).all()
    small, large = sorted((share, other))
    assert set(pseudo.labelled_rows(n, small, seed, label_)) <= set(pseudo.labelled_rows(n, large, seed, label_))


def test_every_image_is_equally_likely_to_be_labelled():
    hits = sum(np.bincount(pseudo.labelled_rows(20, 0.25, seed, 3), minlength=20) for seed in range(2000))
    assert hits.sum() == 5 * 2000
    assert np.abs(hits - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def brute_centre(features: np.ndarray) -> np.ndarray:
    units = [x / np.sqrt(sum(v * v for v in x)) for x in features.astype(np.float64)]
    mean = sum(units) / len(units)
    return mean / np.sqrt(sum(v * v for v in mean))


@given(st.integers(1, 40), st.integers(2, 6), st.integers(1, 5), st.floats(-1, 1), st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_centres_and_classes_equal_brute_force(n, dim, classes, threshold, seed):
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(n, dim)) * rng.uniform(0.01, 100, (n, 1))).astype(np.float32)
    labelled = [rng.normal(size=(int(rng.integers(1, 6)), dim)).astype(np.float32) for _ in range(classes)]
    centres = np.stack([pseudo.centre(own) for own in labelled])
    assert np.allclose(centres, [brute_centre(own) for own in labelled], atol=1e-9)
    found = pseudo.nearest_class(features, centres, threshold)
    for x, chosen in zip(features.astype(np.float64), found, strict=True):
        cosines = [float(x @ c / np.linalg.norm(x) / np.linalg.norm(c)) for c in centres]
        best = max(cosines)
        if abs(best - threshold) < 1e-9:
            continue
        if best < threshold:
            assert chosen == -1
        else:
            assert cosines[chosen] == pytest.approx(best, abs=1e-9)


def test_ties_go_to_the_first_class_and_zeros_have_no_direction():
    centres = np.array([[0, 1], [1, 0], [1, 0]], np.float64)
    features = np.array([[2, 0], [0, 0], [0, 3]], np.float32)
    assert pseudo.nearest_class(features, centres, 0.5).tolist() == [1, -1, 0]
    assert pseudo.nearest_class(features, centres, 1.0).tolist() == [1, -1, 0]
    assert pseudo.centre(np.zeros((3, 2))).tolist() == [0, 0]


def test_blocks_do_not_show(monkeypatch):
    rng = np.random.default_rng(0)
    features, centres = rng.normal(size=(50, 4)), pseudo._normalised(rng.normal(size=(3, 4)))
    whole = pseudo.nearest_class(features, centres, 0.3)
    monkeypatch.setattr(pseudo, "BLOCK", 7)
    assert np.array_equal(pseudo.nearest_class(features, centres, 0.3), whole)


# The stage.

SIZES = (9, 30, 14, 21)
LABELS = np.repeat(np.arange(4), SIZES)


def world() -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Images that carry their own row, features around one direction per class with some far off, ids of several lengths."""
    rng = np.random.default_rng(6)
    images = np.zeros((len(LABELS), 8, 8, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(LABELS))
    features = (np.eye(4)[LABELS] + rng.normal(0, 0.45, (len(LABELS), 4))).astype(np.float32)
    return images, features, [b"x" * (1 + row % 5) + str(row).encode() for row in range(len(LABELS))]


def write_parent(folder: Path, bounds: list[int]) -> tuple[list[Path], list[Path]]:
    """The parent's images and features in shards of the classes between the bounds."""
    images, features, ids = world()
    paths: tuple[list[Path], list[Path]] = ([], [])
    for first, stop in pairwise(bounds):
        at = np.flatnonzero((first <= LABELS) & (stop > LABELS))
        width = max(len(ids[row]) for row in at)
        raw = np.frombuffer(b"".join(ids[row].ljust(width, b"\0") for row in at), np.uint8).reshape(-1, width)
        header = {"classes": NAMES, "class_range": [first, stop]}
        arrays = {"images": images[at], "labels": LABELS[at], "source_ids": raw}
        for schema, values, kept in (
            (IMAGES, arrays, paths[0]),
            (FEATURES, {"features": features[at], "labels": LABELS[at]}, paths[1]),
        ):
            path = folder / f"{schema.name}-{first}-{stop}.zarr.zip"
            with create(path, schema, {k: v.shape for k, v in values.items()}, {}, {}, **header) as out:
                for name, array in values.items():
                    out.append(name, array)
            kept.append(path)
    return paths


def labelled(folder: Path, bounds: list[int], **changes: object) -> dict[str, np.ndarray]:
    """The whole pool: every shard written, read and joined."""
    folder.mkdir(exist_ok=True)
    parents, features = write_parent(folder, bounds)
    spec = {"dataset": "few", "labelled": 0.2, "label_seed": 1, "threshold": 0.85, "extractor": "c", "code": "x", **changes}
    if spec["threshold"] is None:
        features = []
    parts = []
    for first, stop in pairwise(bounds):
        label.run({**spec, "classes": [first, stop]}, parents, features, folder / "out.zarr.zip")
        with Artifact(folder / "out.zarr.zip", IMAGES) as found:
            assert found.attrs["classes"] == NAMES
            assert found.attrs["class_range"] == [first, stop]
            arrays = {name: found[name] for name in ("images", "labels", "pseudo", "true_labels")}
            ids = np.array([bytes(row).rstrip(b"\0") for row in found["source_ids"]])
            parts.append({**arrays, "ids": ids})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_the_pool_is_what_the_equations_say(tmp_path, capsys):
    found = labelled(tmp_path / "p", [0, 4])
    images, features, ids = world()
    units = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    known, expected = [], {}
    for c in range(4):
        rows = np.flatnonzero(c == LABELS)
        known += rows[stream(1, "label", c).permutation(len(rows))[: round(0.2 * len(rows))]].tolist()
    centres = [units[[r for r in known if LABELS[r] == c]].mean(0) for c in range(4)]
    for row in range(len(LABELS)):
        cosines = [units[row] @ c / np.linalg.norm(c) for c in centres]
        if row in known:
            expected[row] = LABELS[row]
        elif max(cosines) >= 0.85:
            expected[row] = int(np.argmax(cosines))
    assert 0 < len(expected) - len(known) < len(LABELS) - len(known)  # some accepted, some left out
    order = sorted(expected, key=lambda row: (expected[row], row))
    assert found["images"][:, 0, 0, 0].tolist() == order
    assert found["labels"].tolist() == [expected[row] for row in order]
    assert found["pseudo"].tolist() == [row not in known for row in order]
    assert found["true_labels"].tolist() == LABELS[order].tolist()
    assert found["ids"].tolist() == [ids[row] for row in order]
    assert np.array_equal(found["images"], images[order])
    assert (found["labels"] != found["true_labels"]).any()
    wrong = (found["labels"] != found["true_labels"]).sum()
    said = capsys.readouterr().err
    accepted = len(expected) - len(known)
    assert f"{len(known)} images labelled, of {len(LABELS) - len(known)} others {accepted} by pseudo-label" in said
    assert f"precision {1 - wrong / accepted:.4f}" in said
    assert f"'b': {round(0.2 * 30)} labelled, {((found['labels'] == 1) & (found['pseudo'] == 1)).sum()} by pseudo-label" in said


@pytest.mark.parametrize("bounds", [[0, 1, 4], [0, 2, 3, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("changes", [{}, {"threshold": 0.3}, {"threshold": None}])
def test_shards_do_not_show(tmp_path, bounds, changes, monkeypatch):
    whole = labelled(tmp_path / "whole", [0, 4], **changes)
    monkeypatch.setattr(label, "BLOCK", 7)
    parts = labelled(tmp_path / "parts", bounds, **changes)
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_all_labels_known_is_the_parent_and_no_threshold_is_the_labelled_part(tmp_path):
    images, _, _ = world()
    everything = labelled(tmp_path / "all", [0, 2, 4], labelled=1.0)
    assert np.array_equal(everything["images"], images)
    assert np.array_equal(everything["labels"], LABELS)
    few = labelled(tmp_path / "few", [0, 2, 4], threshold=None)
    assert np.bincount(few["labels"]).tolist() == [round(0.2 * n) for n in SIZES]
    assert not few["pseudo"].any()
    enlarged = labelled(tmp_path / "more", [0, 2, 4])
    assert np.array_equal(enlarged["images"][enlarged["pseudo"] == 0], few["images"])


# The plan.


def made(**keys: object):
    return plan(datasets__few={"source": "pseudo", "of": "fashion-mini", **keys}, run__datasets=["few"])


def test_a_pseudo_dataset_is_its_parents_but_for_the_training_images():
    p = plan(
        datasets__few={"source": "pseudo", "of": "fashion-mini", "labelled": 0.1, "extractor": "teacher"},
        **{"run__datasets": ["few"], "datasets__fashion-mini__shards": 3},
    )
    spec, parent = p.dataset("few"), p.dataset("fashion-mini")
    assert (spec.views, spec.channels, spec.shards) == (parent.views, parent.channels, 3)
    assert p.source("few").classes == p.source("fashion-mini").classes
    assert p.images("few", "train")[2] == "results/few/v32/images/train-2.zarr.zip"
    assert p.images("few", "test") == p.images("fashion-mini", "test")
    assert p.features("few", "test", "teacher")[0] == "results/few/features/teacher/test-0.zarr.zip"


def test_a_plan_takes_bounds_where_the_counts_are_not_known():
    bounded = made(labelled=0.1, extractor="teacher")
    assert bounded.counts("few").tolist() == [50 + 4500] * 10
    assert bounded.per_class("few") == 500
    few = made(labelled=0.1, threshold=None)
    assert few.counts("few").tolist() == [50] * 10
    assert few.per_class("few") == 50
    assert made(labelled=1.0, extractor="teacher").counts("few").tolist() == [500] * 10
    one = plan(datasets__few={"source": "pseudo", "of": "fashion-mini", "labelled": 1e-4, "threshold": None})
    assert one.counts("few").tolist() == [1] * 10


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"of": "nothing", "threshold": None}, r"datasets\.few\.of: unknown name 'nothing'; known: "),
        ({"of": "few", "threshold": None}, r"datasets\.few\.of: 'few' is the dataset itself"),
        ({"labelled": 0}, r"datasets\.few\.labelled: .*greater than 0"),
        ({"labelled": 1.5}, r"datasets\.few\.labelled: .*less than or equal to 1 \(got 1\.5\)"),
        ({"threshold": 2, "extractor": "teacher"}, r"datasets\.few\.threshold: .*less than or equal to 1"),
        ({"extractor": "clp"}, r"datasets\.few\.extractor: unknown extractor 'clp'; known: \['teacher', 'resnet18'\]"),
        ({}, r"datasets\.few: .*needs 'extractor' \(or threshold: null"),
        ({"extractor": "teacher", "shards": 3}, r"datasets\.few: .*source pseudo has no 'shards', it takes that of 'of'"),
        ({"extractor": "teacher", "path": "x"}, r"datasets\.few: .*source pseudo has no 'path'"),
        ({"labelled": 0.01, "threshold": None}, r"run\.ipc: 10 .* class 'T-shirt/top' of few has at most 5"),
    ],
)
def test_bad_pseudo_datasets_are_one_line_that_names_the_key(keys, message):
    with pytest.raises(LimbeckError, match=message) as caught:
        made(**keys)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            {"source": "pseudo", "of": "few", "threshold": None},
            r"datasets\.fewer\.of: 'few' is of source pseudo, made of ",
        ),
        ({"source": "pseudo", "threshold": None}, r"datasets\.fewer: .*source pseudo needs 'of'"),
        ({"source": "npz", "path": "x", "labelled": 0.5}, r"datasets\.fewer: .*source npz has no 'labelled'"),
        ({"source": "folder"}, r"datasets\.fewer: .*source folder needs 'path'"),
    ],
)
def test_other_datasets_that_make_no_sense(dataset, message):
    with pytest.raises(LimbeckError, match=message):
        plan(datasets__few={"source": "pseudo", "of": "fashion-mini", "threshold": None}, datasets__fewer=dataset)


def test_the_extractor_of_a_pseudo_dataset_is_looked_for_before_any_job(tmp_path):
    with pytest.raises(LimbeckError, match=r"extractors\.c\.weights: missing in .*clip: config\.json, "):
        plan(
            datasets__few={"source": "pseudo", "of": "fashion-mini", "extractor": "c"},
            run__datasets=["few"],
            extractors={"c": {"weights": str(tmp_path / "clip")}},
        )


def test_without_a_threshold_no_extractor_is_read():
    few = plan(
        datasets__few={"source": "pseudo", "of": "fashion-mini", "threshold": None, "extractor": "teacher"}, run__datasets=["few"]
    )
    assert few.dataset("few").extractor is None
    assert json.loads(few.spec("label", {"dataset": "few", "view": "v32", "shard": "0"})) | {"code": ""} == {
        "classes": [0, 10],
        "code": "",
        "dataset": "few",
        "extractor": None,
        "label_seed": 0,
        "labelled": 0.1,
        "of": "fashion-mini",
        "threshold": None,
    }


def test_images_are_encoded_anew_from_the_parents_source():
    p = plan(
        **{"datasets__fashion-mini__views": {"v32": {"size": 32}, "v64": {"size": 64}}},
        datasets__few={"source": "pseudo", "of": "fashion-mini", "extractor": "teacher"},
    )
    w = {"dataset": "fashion-mini", "prior": "fashion-dit", "discovery": "x", "ipc": "1", "seed": "0", "shard": "0"}
    assert p.spec("reencode", {**w, "dataset": "few"}) == p.spec("reencode", w)
