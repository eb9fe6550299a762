"""Subsets of a dataset: the stage's rows are the parent's, the plan's classes, counts and inputs, every mistake in one line."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.artifacts import IMAGES, LATENTS, STATISTICS, Schema
from limbeck.data.sources.arrays import FASHION_CLASSES
from limbeck.errors import LimbeckError
from limbeck.priors.files import match_classes
from limbeck.stages import take
from limbeck.store import Artifact, create
from tests.unit.test_methods import plan

NAMES = ["a", "b", "c", "d", "e"]
SIZES = (4, 7, 3, 6, 5)
LABELS = np.repeat(np.arange(5), SIZES)
COMBINATIONS = [["d"], ["e", "a", "c"], ["b", "c", "d"], NAMES, NAMES[::-1]]


def world(optional: bool) -> dict[str, dict[str, np.ndarray]]:
    """Every array of each schema for all classes; ids of several lengths, every row different."""
    rng = np.random.default_rng(3)
    n, c, shape = len(LABELS), len(NAMES), (2, 3, 3)
    ids = [b"x" * (1 + label) + str(row).encode() for row, label in enumerate(LABELS)]
    images = {
        "images": rng.integers(0, 255, (n, 4, 4, 3), np.uint8),
        "labels": LABELS.astype(np.int32),
        "source_ids": np.array([list(i.ljust(9, b"\0")) for i in ids], np.uint8),
    }
    if optional:
        images |= {"pseudo": (LABELS % 2).astype(np.uint8), "true_labels": LABELS.astype(np.int32)}
    latents = {"latents": rng.normal(size=(n, *shape)).astype(np.float16), "labels": images["labels"]}
    sizes = {"latent_channel": 2, "latent_height": 3, "latent_width": 3, "rung": 4}
    statistics = {
        name: rng.uniform(0.1, 1, (c, *(sizes[dim] for dim in spec.dims[1:]))).astype(spec.dtype)
        for name, spec in STATISTICS.arrays.items()
        if spec.dims[0] == "class"
    } | {"labels": np.arange(5, dtype=np.int32), "counts": np.array(SIZES)}
    if optional:
        statistics["latents"] = rng.normal(size=(n, *shape)).astype(np.float32)
    return {"images": images, "latents": latents, "statistics": statistics}


def rows_of(schema: Schema, name: str, classes: list[int]) -> np.ndarray:
    """Where an array's rows of some classes are, class by class."""
    labels = np.arange(5) if schema.arrays[name].dims[0] == "class" else LABELS
    return np.concatenate([np.flatnonzero(labels == c) for c in classes])


def write(path: Path, schema: Schema, arrays: dict[str, np.ndarray], first: int, stop: int) -> Path:
    """A parent's shard of classes; ids are padded as far as its own need."""
    own = {name: values[rows_of(schema, name, list(range(first, stop)))] for name, values in arrays.items()}
    if "source_ids" in own:
        own["source_ids"] = own["source_ids"][:, : own["source_ids"].any(0).sum()]
    shapes, header = {k: v.shape for k, v in own.items()}, {"classes": NAMES, "class_range": [first, stop]}
    with create(path, schema, shapes, {"of_parent": 5, "classes": [first, stop]}, {}, **header) as out:
        for name, values in own.items():
            out.append(name, values)
    return path


def taken(
    folder: Path, schema: Schema, names: list[str], bounds: list[int], own: list[int], optional: bool = True
) -> dict[str, np.ndarray]:
    """A subset's arrays, of all its shards, from the parent's in shards of the classes between the bounds."""
    folder.mkdir(exist_ok=True)
    arrays, parts = world(optional)[schema.name], []
    parents = {range(a, b): write(folder / f"{a}.zarr.zip", schema, arrays, a, b) for a, b in pairwise(bounds)}
    for first, stop in pairwise(own):
        wanted = {NAMES.index(name) for name in names[first:stop]}
        inputs = [path for classes, path in parents.items() if wanted & set(classes)]
        spec = {"dataset": "few", "of": "all", "names": names, "classes": [first, stop], "code": "x"}
        take.run(spec, inputs, folder / f"out-{first}.zarr.zip")
        with Artifact(folder / f"out-{first}.zarr.zip", schema) as found:
            assert (found.attrs["classes"], found.attrs["class_range"]) == (names, [first, stop])
            assert found.attrs["params"] == {
                "of_parent": 5,
                "dataset": "few",
                "of": "all",
                "names": names,
                "classes": [first, stop],
            }
            assert {name for name in schema.arrays if name in found} == set(arrays)
            parts.append({name: found[name] for name in arrays})
    if "source_ids" in arrays:
        width = max(part["source_ids"].shape[1] for part in parts)
        for part in parts:
            assert part["source_ids"].any(0).all()  # no wider than its own need
            part["source_ids"] = np.pad(part["source_ids"], ((0, 0), (0, width - part["source_ids"].shape[1])))
    return {name: np.concatenate([part[name] for part in parts]) for name in arrays}


def expected(schema: Schema, names: list[str], optional: bool = True) -> dict[str, np.ndarray]:
    """The parent's rows of the classes in the subset's order, with its numbers."""
    classes = [NAMES.index(name) for name in names]
    out = {name: values[rows_of(schema, name, classes)] for name, values in world(optional)[schema.name].items()}
    for name in {"labels", "true_labels"} & set(out):
        out[name] = np.array([classes.index(c) for c in out[name]])
    if "source_ids" in out:
        out["source_ids"] = out["source_ids"][:, : out["source_ids"].any(0).sum()]
    return out


@pytest.mark.parametrize("schema", [IMAGES, LATENTS, STATISTICS], ids=lambda s: s.name)
@pytest.mark.parametrize("names", COMBINATIONS, ids="".join)
@pytest.mark.parametrize("bounds", [[0, 5], [0, 2, 3, 5]], ids=["one", "several"])
@pytest.mark.parametrize("optional", [False, True])
def test_the_rows_are_the_parents(tmp_path, schema, names, bounds, optional):
    found = taken(tmp_path, schema, names, bounds, [0, len(names)], optional)
    wanted = expected(schema, names, optional)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert np.array_equal(found[name], values), name


@pytest.mark.parametrize("schema", [IMAGES, LATENTS, STATISTICS], ids=lambda s: s.name)
@pytest.mark.parametrize("block", [1, 100, 200])
def test_blocks_and_own_shards_do_not_show(tmp_path, schema, block, monkeypatch):
    monkeypatch.setattr(take, "BLOCK", block)
    names = ["e", "b", "a", "d"]
    # a row of images and latents that is 100 bytes or less comes two at a time, fewer than a class
    found = taken(tmp_path, schema, names, [0, 1, 2, 3, 4, 5], [0, 1, 3, 4])
    for name, values in expected(schema, names).items():
        assert np.array_equal(found[name], values), name


@pytest.mark.parametrize("schema", [IMAGES, STATISTICS], ids=lambda s: s.name)
def test_the_same_again_is_the_same_file_whatever_the_block(tmp_path, schema, monkeypatch):
    taken(tmp_path / "a", schema, ["c", "a"], [0, 2, 5], [0, 2])
    monkeypatch.setattr(take, "BLOCK", 7)
    taken(tmp_path / "b", schema, ["c", "a"], [0, 2, 5], [0, 2])
    assert (tmp_path / "a/out-0.zarr.zip").read_bytes() == (tmp_path / "b/out-0.zarr.zip").read_bytes()


@given(st.permutations(NAMES), st.integers(1, 5), st.sets(st.integers(1, 4)), st.sets(st.integers(1, 4)), st.integers(1, 300))
@settings(max_examples=25, deadline=None)
def test_any_subset_of_any_shards(tmp_path_factory, order, count, bounds, own, block):
    names = order[:count]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(take, "BLOCK", block)
        shards = [0, *sorted(b for b in own if b < count), count]
        found = taken(tmp_path_factory.mktemp("any"), IMAGES, names, [0, *sorted(bounds), 5], shards)
    assert all(np.array_equal(found[name], values) for name, values in expected(IMAGES, names).items())


def test_what_the_parent_does_not_hold_is_named(tmp_path):
    path = write(tmp_path / "p.zarr.zip", IMAGES, world(False)["images"], 0, 2)
    spec = {"dataset": "few", "of": "all", "names": ["a", "d"], "classes": [0, 2], "code": "x"}
    with pytest.raises(LimbeckError, match=r"datasets\.few\.classes: class 'd' is not in .*p\.zarr\.zip"):
        take.run(spec, [path], tmp_path / "out.zarr.zip")
    arrays = {**world(True)["images"], "true_labels": np.full(len(LABELS), 3)}
    path = write(tmp_path / "q.zarr.zip", IMAGES, arrays, 0, 2)
    with pytest.raises(LimbeckError, match=r"datasets\.few\.classes: an image of them has a true label that is none of them"):
        take.run({**spec, "names": ["a", "b"]}, [path], tmp_path / "out.zarr.zip")
    assert not (tmp_path / "out.zarr.zip").exists()


# The plan.

BAGS = ["Bag", "Coat", "Ankle boot"]


def made(classes: object = BAGS, shards: int = 1, **keys: object):
    dataset = {"source": "subset", "of": "fashion-mini", "classes": classes, **keys}
    return plan(**{"datasets__few": dataset, "datasets__fashion-mini__shards": shards, "run__datasets": ["few"]})


def test_a_subset_is_its_parents_but_for_classes_and_shards():
    p = made(shards=5)
    spec, parent = p.dataset("few"), p.dataset("fashion-mini")
    assert (spec.views, spec.channels, spec.shards) == (parent.views, parent.channels, 1)
    assert p.source("few").classes == tuple(BAGS)
    assert p.counts("few").tolist() == [500] * 3
    assert p.source("few").counts("test").tolist() == [200] * 3
    assert p.per_class("few") == 500
    assert p.images("few", "test") == ["results/few/v32/images/test-0.zarr.zip"]
    assert [len(made(["Bag", "Coat"], n).shards("few")) for n in (1, 5)] == [1, 1]
    assert len(made(BAGS, shards=2).shards("few")) == 1
    assert len(plan(datasets__few={"source": "subset", "of": "fashion-mini", "classes": BAGS, "shards": 9}).shards("few")) == 3


def test_its_images_are_the_parents():
    p = made()
    own, parent = p.source("few"), p.source("fashion-mini")
    of_bags = np.flatnonzero(parent.labels("test") == FASHION_CLASSES.index("Bag"))
    assert own.source_id("test", 3) == parent.source_id("test", int(of_bags[3]))
    assert np.array_equal(own.raw("test", 3), parent.raw("test", int(of_bags[3])))
    assert own.labels("test").tolist() == [0] * 200 + [1] * 200 + [2] * 200


@pytest.mark.parametrize(
    ("shards", "own", "inputs"),
    [(1, 1, [[0]]), (5, 1, [[2, 4]]), (5, 3, [[4], [2], [4]]), (10, 2, [[4, 8], [9]])],
)
def test_only_shards_that_hold_its_classes_are_read(shards, own, inputs):
    dataset = {"source": "subset", "of": "fashion-mini", "classes": BAGS, "shards": own}
    p = plan(**{"datasets__few": dataset, "datasets__fashion-mini__shards": shards})
    assert [p.parent_shards("few", shard) for shard in p.shards("few")] == inputs


def test_the_spec_has_the_classes_in_order_and_nothing_of_the_network():
    w = {"dataset": "few", "view": "v32", "vae": "fashion-dit", "prior": "fashion-dit", "inversion": "x", "shard": "0"}
    found = json.loads(made().spec("take", w))
    assert found | {"code": ""} == {"dataset": "few", "of": "fashion-mini", "names": BAGS, "classes": [0, 3], "code": ""}
    assert made(BAGS[::-1]).spec("take", w) != made().spec("take", w)


def test_images_are_encoded_anew_from_the_parents_source():
    views = {"v32": {"size": 32}, "v64": {"size": 64}}
    p = plan(**{"datasets__fashion-mini__views": views}, datasets__few={"source": "subset", "of": "fashion-mini", "classes": BAGS})
    w = {"dataset": "fashion-mini", "prior": "fashion-dit", "discovery": "x", "ipc": "1", "seed": "0", "shard": "0"}
    assert p.spec("reencode", {**w, "dataset": "few"}) == p.spec("reencode", w)


def test_the_parent_inverts_with_the_options_of_a_subset():
    dataset = {"source": "subset", "of": "fashion-mini", "classes": BAGS}
    method = {"base": "d3hr", "inversion_step": {"few": 3, "fashion-mini": 5}}
    p = plan(datasets__few=dataset, run__datasets=["few"], methods__m=method, run__methods=["m"], run__references=[])
    name = p.method("m", 10, "few").inversion_name
    assert name != p.method("m", 10, "fashion-mini").inversion_name
    w = {"dataset": "fashion-mini", "prior": "fashion-dit", "inversion": name, "shard": "0"}
    assert json.loads(p.spec("invert", w))["inversion"]["inversion_step"] == 3


def test_wildcards_leave_one_rule_for_every_dataset():
    p = plan(
        datasets__few={"source": "subset", "of": "fashion-mini", "classes": BAGS},
        datasets__labelled={"source": "pseudo", "of": "fashion-mini", "threshold": None},
    )
    assert (p.made_of("subset"), p.made_of("pseudo")) == ("few", "labelled")
    assert set(p.made_of("files", "pseudo").split("|")) == {r"fashion\-mini", "fashion_mnist", "labelled"}
    assert plan().made_of("subset") == "(?!)"


def test_a_prior_must_know_the_parents_classes_where_those_are_inverted(monkeypatch):
    """As DiTs name ImageNet's classes; here one that knows the subset alone."""
    monkeypatch.setattr("limbeck.checks.class_table", lambda _: dict(enumerate(BAGS)))
    with pytest.raises(LimbeckError) as own:
        match_classes(dict(enumerate(BAGS)), FASHION_CLASSES, "fashion-dit")
    dataset = {"source": "subset", "of": "fashion-mini", "classes": BAGS}
    keys = {"datasets__few": dataset, "run__datasets": ["few"], "run__references": []}
    assert plan(**keys, run__methods=["dit"])
    with pytest.raises(LimbeckError) as caught:
        plan(**keys, run__methods=["d3hr"])
    assert str(caught.value) == str(own.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"of": "nothing"}, r"datasets\.few\.of: unknown name 'nothing'; known: "),
        ({"of": "few"}, r"datasets\.few\.of: 'few' is the dataset itself"),
        ({"of": "half"}, r"datasets\.few\.of: 'half' is of source subset, made of 'fashion-mini'; name a dataset of files"),
        ({"of": "labelled"}, r"datasets\.few\.of: 'labelled' is of source pseudo, made of 'fashion-mini'; name a dataset of files"),
        ({"of": None}, r"datasets\.few: .*source subset needs 'of'"),
        ({"classes": []}, r"datasets\.few: .*source subset needs 'classes'"),
        ({"classes": None}, r"datasets\.few: .*source subset needs 'classes'"),
        ({"classes": ["Bag", "Coat", "Bag"]}, r"datasets\.few\.classes: 'Bag' is named twice"),
        ({"classes": ["Bag", "Hat"]}, r"datasets\.few\.classes: fashion-mini has no class 'Hat'; known: T-shirt/top, Trouser, "),
        ({"views": {"v32": {"size": 32}}}, r"datasets\.few: .*source subset has no 'views', it takes that of 'of'"),
        ({"channels": 3}, r"datasets\.few: .*source subset has no 'channels', it takes that of 'of'"),
        ({"path": "x"}, r"datasets\.few: .*source subset has no 'path'"),
        ({"labelled": 0.5}, r"datasets\.few: .*source subset has no 'labelled'"),
        ({"shards": 0}, r"datasets\.few\.shards: .*greater than or equal to 1"),
    ],
)
def test_bad_subsets_are_one_line_that_names_the_key(keys, message):
    with pytest.raises(LimbeckError, match=message) as caught:
        plan(
            datasets__few={"source": "subset", "of": "fashion-mini", "classes": BAGS, **keys},
            datasets__half={"source": "subset", "of": "fashion-mini", "classes": BAGS},
            datasets__labelled={"source": "pseudo", "of": "fashion-mini", "threshold": None},
            run__datasets=["few"],
        )
    assert "\n" not in str(caught.value)


def test_pseudo_labels_of_a_subset_are_refused():
    with pytest.raises(LimbeckError, match=r"datasets\.labelled\.of: 'few' is of source subset"):
        plan(
            datasets__few={"source": "subset", "of": "fashion-mini", "classes": BAGS},
            datasets__labelled={"source": "pseudo", "of": "few", "threshold": None},
        )


def test_many_known_classes_are_cut_short():
    names = [f"c{i}" for i in range(10)]
    big = {"source": "npz", "path": "package:fashion_mini.npz", "classes": [*names, *(f"d{i}" for i in range(90))]}
    few = {"source": "subset", "of": "big", "classes": ["zebra"]}
    with pytest.raises(LimbeckError, match=r"big has no class 'zebra'; known: c0, .*, d9 and 80 more"):
        plan(datasets__big=big, datasets__few=few, run__datasets=["few"])


def test_a_class_too_small_is_named():
    with pytest.raises(LimbeckError, match=r"run\.ipc: 501 .* class 'Bag' of few has 500"):
        plan(datasets__few={"source": "subset", "of": "fashion-mini", "classes": BAGS}, run__datasets=["few"], run__ipc=[501])
