"""Every layout that image sets come in, in miniature: orders, names, labels, and what is wrong in one line."""

import io
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limbeck.artifacts import IMAGES
from limbeck.config import Dataset, View
from limbeck.data import benchmarks
from limbeck.data.decoding import decode
from limbeck.data.pickles import plain
from limbeck.data.preprocessing import apply_view
from limbeck.data.sources import open_source
from limbeck.data.sources.folder import _part
from limbeck.errors import LimbeckError
from limbeck.stages import ingest, pick, select
from limbeck.store import Artifact
from tests import miniatures
from tests.miniatures import CIFAR10, CIFAR100, picture

WOOF = benchmarks.members("imagewoof")
SETTINGS = settings(max_examples=60, deadline=None)


def opened(kind: str, path: Path, **keys: object):
    return open_source("x", Dataset(source=kind, path=str(path), **keys))


def shown(source, split: str) -> list[tuple[str, np.ndarray]]:
    """(class, pixels) of every image."""
    labels = source.labels(split)
    return [(source.classes[label], np.asarray(decode(source.raw(split, i)))) for i, label in enumerate(labels)]


def close(found: np.ndarray, member: str, numbers: range, size: tuple[int, int]) -> bool:
    """Whether an image is one of a class's, up to JPEG's loss."""
    return any(np.abs(found.astype(int) - picture(member, n, *size)).mean() < 25 for n in numbers)


# --- folders ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val", "test", "validation"])
def test_imagewoof_keeps_its_own_order_with_and_without_being_named(tmp_path, split):
    miniatures.folders(tmp_path, WOOF, 2, 1, split)
    for keys in ({}, {"classes": "imagewoof"}, {"classes": WOOF}):
        source = opened("folder", tmp_path, **keys)
        assert source.classes == tuple(map(benchmarks.class_name, WOOF))
        assert list(map(benchmarks.wnid, source.classes)) == list(WOOF)
        assert source.counts("train").tolist() == [2] * 10
        for label, name in enumerate(WOOF):
            rows = np.flatnonzero(source.labels("test") == label)
            assert [source.source_id("test", int(row)) for row in rows] == [f"{name}/{name}_2.JPEG"]
    sub = opened("folder", tmp_path, classes=(WOOF[3], WOOF[1]))
    assert sub.classes == (benchmarks.class_name(WOOF[3]), benchmarks.class_name(WOOF[1]))
    assert all(close(pixels, benchmarks.wnid(name), range(2), (36, 44)) for name, pixels in shown(sub, "train"))


def test_images_may_lie_deeper_and_folders_may_have_class_names(tmp_path):
    miniatures.folders(tmp_path, ["tench, Tinca tinca", "cat"], 2)
    deep = tmp_path / "train/cat/images/more"
    deep.mkdir(parents=True)
    for file in list((tmp_path / "train/cat").glob("*.JPEG")):
        shutil.move(file, deep)
    source = opened("folder", tmp_path)
    assert source.counts("train").tolist() == [2, 2]
    by_wnid = opened("folder", tmp_path, classes=("n01440764", "cat"))
    assert by_wnid.classes == ("tench, Tinca tinca", "cat")
    with pytest.raises(LimbeckError, match="class 'tench, Tinca tinca' is named twice"):
        opened("folder", tmp_path, classes=("n01440764", "tench, Tinca tinca"))


def test_a_file_added_or_replaced_changes_the_stamp(tmp_path):
    miniatures.folders(tmp_path, WOOF[:2], 2)
    before = opened("folder", tmp_path).stamp()
    assert opened("folder", tmp_path).stamp() == before
    os.utime(tmp_path / "val" / WOOF[0], ns=(1, 1))
    assert opened("folder", tmp_path).stamp() != before


def flat(root: Path, members: tuple[str, ...], table: Path) -> None:
    """ImageNet's validation images in one folder, with Kaggle's table of their labels."""
    miniatures.folders(root, members, 2)
    lines = ["ImageId,PredictionString"]
    for number, member in enumerate(reversed(members), 1):
        file = root / f"val/ILSVRC2012_val_{number:08}.JPEG"
        (root / "val" / member / f"{member}_2.JPEG").rename(file)
        shutil.rmtree(root / "val" / member)
        lines.append(f"{file.stem},{member} 1 2 3 4 {member} 5 6 7 8 ")
    table.write_text("\n".join(lines) + "\n")


def test_imagenets_flat_validation_folder(tmp_path):
    root = tmp_path / "ILSVRC/Data/CLS-LOC"
    flat(root, WOOF[:3], tmp_path / "LOC_val_solution.csv")
    source = opened("folder", root, classes=WOOF[:3])
    assert source.counts("test").tolist() == [1, 1, 1]
    assert all(close(pixels, benchmarks.wnid(name), range(2, 3), (36, 44)) for name, pixels in shown(source, "test"))
    assert source.source_id("test", 0) == "ILSVRC2012_val_00000003.JPEG"
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n")
    with pytest.raises(LimbeckError, match=r"LOC_val_solution\.csv has no line for ILSVRC2012_val_00000001\.JPEG"):
        opened("folder", root, classes=WOOF[:3]).labels("test")
    (tmp_path / "LOC_val_solution.csv").unlink()
    with pytest.raises(LimbeckError, match=r"has images but no class folders; put LOC_val_solution\.csv beside it"):
        opened("folder", root, classes=WOOF[:3]).labels("test")


def test_kaggles_layout_has_a_test_folder_without_labels(tmp_path):
    root = tmp_path / "ILSVRC/Data/CLS-LOC"
    flat(root, WOOF[:3], tmp_path / "LOC_val_solution.csv")
    (root / "test").mkdir()
    (root / "val/.ipynb_checkpoints").mkdir()
    shutil.copy(root / "val/ILSVRC2012_val_00000001.JPEG", root / "test/ILSVRC2012_test_00000001.JPEG")
    by_name = opened("folder", root, classes=[benchmarks.class_name(wnid) for wnid in WOOF[:3]])
    assert by_name.counts("test").tolist() == [1, 1, 1]
    before = by_name.stamp()
    table = tmp_path / "LOC_val_solution.csv"
    table.write_text(table.read_text().replace(WOOF[0], "X").replace(WOOF[1], WOOF[0]).replace("X", WOOF[1]))
    assert opened("folder", root, classes=WOOF[:3]).stamp() != before
    table.write_bytes(b"ImageId,PredictionString\n\xff,\xfe 1\n")
    with pytest.raises(LimbeckError, match=r"cannot read .*LOC_val_solution\.csv .*; fetch it again"):
        opened("folder", root, classes=WOOF[:3]).labels("test")


def test_links_that_lead_back_and_odd_names_do_no_harm(tmp_path):
    miniatures.folders(tmp_path, ["cat", "dog"], 2, 1, "validation")
    (tmp_path / "test").mkdir()  # empty
    (tmp_path / "train/cat/self").symlink_to(tmp_path / "train/cat")
    os.rename(bytes(tmp_path / "train/dog/dog_0.JPEG"), bytes(tmp_path / "train/dog") + b"/\xff\xfe.jfif")
    source = opened("folder", tmp_path)
    assert source.counts("train").tolist() == [2, 2]
    assert source.counts("test").tolist() == [1, 1]
    before = source.stamp()
    with Artifact(ingested(tmp_path, "folder", tmp_path), IMAGES) as found:
        names = [bytes(each).rstrip(b"\0") for each in found["source_ids"]]
    assert set(names) == {b"cat/cat_0.JPEG", b"cat/cat_1.JPEG", b"dog/\xff\xfe.jfif", b"dog/dog_1.JPEG"}
    deep = tmp_path / "train/cat/a/b"
    deep.mkdir(parents=True)
    first = opened("folder", tmp_path).stamp()
    shutil.copy(tmp_path / "train/cat/cat_0.JPEG", deep / "new.JPEG")
    assert len({before, first, opened("folder", tmp_path).stamp()}) == 3


@SETTINGS
@given(st.sets(st.integers(0, 999), min_size=2, max_size=60), st.integers(1000, 1099), st.floats(0.01, 0.95))
def test_a_share_of_each_class_is_tested_on_and_an_image_more_moves_one_at_most(numbers, more, share):
    files = sorted(f"cat/{number}.png" for number in numbers)
    train, test = (_part(files, share, split) for split in ("train", "test"))
    assert sorted(train + test) == files
    assert len(test) == max(1, round(share * len(files)))
    assert train == sorted(train)
    longer = _part(sorted([*files, f"cat/{more}.png"]), share, "test")
    assert len(set(test) - set(longer)) <= 1
    assert len(set(longer) - set(test)) <= 2  # the new one, and one as there are more


def test_folders_of_classes_alone_are_parted(tmp_path):
    miniatures.folders(tmp_path, ["dog", "cat"], 5)
    with pytest.raises(LimbeckError, match=r"has a folder 'train', so it is parted already; remove test_share"):
        opened("folder", tmp_path, test_share=0.2)
    with pytest.raises(LimbeckError, match=r"or .*/train/<class>/<image> with test_share: 0.2"):
        opened("folder", tmp_path / "train")
    source = opened("folder", tmp_path / "train", test_share=0.4)
    assert source.classes == ("cat", "dog")
    assert (source.counts("train").tolist(), source.counts("test").tolist()) == ([3, 3], [2, 2])
    ids = [{source.source_id(split, i) for i in range(len(source.labels(split)))} for split in ("train", "test")]
    assert not ids[0] & ids[1]
    assert all(close(pixels, name, range(5), (36, 44)) for split in ("train", "test") for name, pixels in shown(source, split))
    with pytest.raises(ValueError, match="source npz has no 'test_share'"):
        Dataset(source="npz", path="x", test_share=0.2)


@pytest.mark.parametrize("case", ["nowhere", "no val", "no folder", "no classes"])
def test_what_a_folder_lacks_is_one_line(tmp_path, case):
    miniatures.folders(tmp_path, WOOF, 1)
    root, keys = tmp_path, {}
    if case == "nowhere":
        root, message = tmp_path / "none", r"datasets\.x: no folder .*none; set datasets\.x\.path"
    elif case == "no val":
        shutil.rmtree(tmp_path / "val")
        message = r"no folder .*test\|val\|validation; expected"
    elif case == "no folder":
        keys, message = {"classes": "imagenette"}, r"class 'n01440764' has no folder .*train/n01440764"
    else:
        shutil.rmtree(tmp_path / "train")
        (tmp_path / "train").mkdir()
        message = "no class folders in .*train"
    with pytest.raises(LimbeckError, match=message) as caught:
        opened("folder", root, **keys).labels("train")
    assert "\n" not in str(caught.value)


# --- CIFAR ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_cifar10_and_100_as_published(tmp_path, binary, nested):
    ten = tmp_path / "ten"
    miniatures.cifar10(ten / "cifar-10-batches-py" if nested else ten, 2, 1, binary)
    source = opened("cifar", ten)
    assert source.classes == CIFAR10
    assert source.counts("train").tolist() == [10] * 10
    numbers = {"train": range(10), "test": range(10, 11)}
    for split, those in numbers.items():
        for name, pixels in shown(source, split):
            assert any(np.array_equal(pixels, picture(name, n, 32, 32)) for n in those)
    hundred = opened("cifar", miniatures.cifar100(tmp_path / "hundred", 3, 1, binary))
    assert hundred.classes == tuple(CIFAR100)  # the fine ones
    assert all(np.array_equal(pixels, picture(name, 3, 32, 32)) for name, pixels in shown(hundred, "test"))


def test_cifar_takes_some_classes_in_an_order(tmp_path):
    source = opened("cifar", miniatures.cifar10(tmp_path, 1), classes=("truck", "cat"))
    assert source.classes == ("truck", "cat")
    assert [name for name, _ in shown(source, "train")] == ["truck"] * 5 + ["cat"] * 5
    assert all(any(np.array_equal(pixels, picture(name, n, 32, 32)) for n in range(5)) for name, pixels in shown(source, "train"))
    with pytest.raises(LimbeckError, match=r"datasets\.x\.classes: its source has no class 'tench'; known: airplane, "):
        opened("cifar", tmp_path, classes=("tench",))


@pytest.mark.parametrize("binary", [False, True])
def test_a_damaged_cifar_is_named(tmp_path, binary):
    miniatures.cifar10(tmp_path, 1, 1, binary)
    file = tmp_path / ("data_batch_3.bin" if binary else "data_batch_3")
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(LimbeckError, match=r"data_batch_3.* unpack the archive again"):
        opened("cifar", tmp_path).labels("train")
    file.unlink()
    with pytest.raises(LimbeckError, match=r"cannot read .*data_batch_3"):
        opened("cifar", tmp_path).labels("train")
    with pytest.raises(LimbeckError, match=r"no CIFAR in .*; unpack cifar-10-python\.tar\.gz"):
        opened("cifar", tmp_path / "nowhere")


def test_a_folder_with_both_cifars_is_refused(tmp_path):
    miniatures.cifar10(tmp_path / "cifar-10-batches-py", 1)
    miniatures.cifar100(tmp_path / "cifar-100-python", 1)
    with pytest.raises(LimbeckError, match=r"several sets lie in .*cifar-10-batches-py.*cifar-100-python.*; set datasets\.x\.path"):
        opened("cifar", tmp_path)
    source = opened("cifar", tmp_path / "cifar-10-batches-py")
    before = source.stamp()
    os.utime(tmp_path / "cifar-10-batches-py/batches.meta", ns=(1, 1))
    assert source.stamp() != before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"labels", None),
        (b"labels", "abc"),
        (b"labels", [2**70]),
        (b"labels", [-1] * 10),
        (b"labels", [[1], [1, 2]]),
        (b"data", [[1], [2, 3]]),
    ],
)
def test_odd_content_of_a_cifar_pickle_is_one_line(tmp_path, key, value):
    miniatures.cifar10(tmp_path, 1)
    content = {b"data": np.zeros((10, 3072), np.uint8), b"labels": [0] * 10, key: value}
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(LimbeckError, match="data_batch_2 is not CIFAR's published file") as caught:
        opened("cifar", tmp_path).labels("train")
    assert "\n" not in str(caught.value)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": 7}, 2))
    with pytest.raises(LimbeckError, match=r"batches\.meta is not CIFAR's published file"):
        opened("cifar", tmp_path)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_runs_nothing(tmp_path, protocol):
    miniatures.cifar10(tmp_path, 1)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil(tmp_path / "ran"), b"labels": [0]}, protocol))
    with pytest.raises(LimbeckError, match=r"data_batch_1 is not CIFAR's published file: .*posix\.system"):
        opened("cifar", tmp_path).labels("train")
    assert not (tmp_path / "ran").exists()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(PLAIN, st.integers(0, 4))
@SETTINGS
def test_plain_pickles_read_as_they_were(value, protocol):
    assert plain(pickle.dumps(value, protocol)) == value


@given(
    st.sampled_from(["u1", "<i4", ">f8", "<i8"]),
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 4),
)
@SETTINGS
def test_pickled_arrays_read_as_they_were(dtype, shape, fortran, protocol):
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    values = np.asfortranarray(values) if fortran else values
    found = plain(pickle.dumps({"a": [values]}, protocol))["a"][0]
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)
    assert np.array_equal(plain(miniatures.python2_pickle({"a": values}))[b"a"], values)


@given(st.binary(max_size=60))
@SETTINGS
def test_any_bytes_are_plain_or_a_value_error(data):
    said = ""
    try:
        plain(data)
    except ValueError as error:
        said = str(error)
    assert "\n" not in said


# --- Tiny-ImageNet ----------------------------------------------------------------------------------------------------------

TINY = ("n02124075", "n04067472", "n01443537", "n99999999")


def test_tiny_imagenet_by_its_own_lists(tmp_path):
    miniatures.tiny_imagenet(tmp_path / "tiny-imagenet-200", TINY, 2, 2, {"n99999999": "snark", "n01443537": "gold fish"})
    source = opened("tiny_imagenet", tmp_path)
    # ImageNet's text where it has the class; the order of wnids.txt, which is not sorted
    assert source.classes == ("Egyptian cat", "reel", "goldfish, Carassius auratus", "snark")
    members = dict(zip(source.classes, TINY, strict=True))
    assert source.counts("train").tolist() == source.counts("test").tolist() == [2] * 4
    for split, numbers in (("train", range(2)), ("test", range(2, 4))):
        assert all(close(pixels, members[name], numbers, (64, 64)) for name, pixels in shown(source, split))
    assert opened("tiny_imagenet", tmp_path, classes=("n99999999", "reel")).classes == ("snark", "reel")


def test_what_tiny_imagenet_lacks_is_one_line(tmp_path):
    miniatures.tiny_imagenet(tmp_path, TINY, 1)
    notes = tmp_path / "val/val_annotations.txt"
    notes.write_text(notes.read_text() + "val_9.JPEG\tn00000001\t0\t0\t1\t1\n")
    with pytest.raises(LimbeckError, match=r"gives val_9\.JPEG the class 'n00000001', which wnids\.txt does not have"):
        opened("tiny_imagenet", tmp_path).labels("test")
    shutil.rmtree(tmp_path / "train/n02124075")
    with pytest.raises(LimbeckError, match="class n02124075 has no folder"):
        opened("tiny_imagenet", tmp_path).labels("train")
    with pytest.raises(LimbeckError, match=r"cannot read .*wnids\.txt .*; unpack tiny-imagenet-200\.zip there"):
        opened("tiny_imagenet", tmp_path / "nowhere")


def test_tiny_imagenet_whose_val_was_sorted_into_folders(tmp_path):
    miniatures.tiny_imagenet(tmp_path, TINY, 1, 2)
    before = opened("tiny_imagenet", tmp_path).stamp()
    for line in (tmp_path / "val/val_annotations.txt").read_text().splitlines():
        file, wnid = line.split("\t")[:2]
        (tmp_path / "val" / wnid / "images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "val/images" / file).rename(tmp_path / "val" / wnid / "images" / file)
    source = opened("tiny_imagenet", tmp_path)
    assert source.stamp() != before
    members = dict(zip(source.classes, TINY, strict=True))
    assert all(close(pixels, members[name], range(1, 3), (64, 64)) for name, pixels in shown(source, "test"))
    for wnid in TINY:
        shutil.rmtree(tmp_path / "val" / wnid)
    with pytest.raises(LimbeckError, match=r"val_annotations\.txt lists val_\d\.JPEG, which is not in val/images"):
        opened("tiny_imagenet", tmp_path).labels("test")
    (tmp_path / "wnids.txt").write_text("n1\nn1\n")
    with pytest.raises(LimbeckError, match="lists a class twice"):
        opened("tiny_imagenet", tmp_path)


# --- parquet ----------------------------------------------------------------------------------------------------------------


def png(member: str, number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(member, number, 20, 24)).save(out, "PNG")
    return out.getvalue()


def parquet(root: Path, names: list[str], rows: int, files: int = 2, struct: bool = True, **columns: str) -> Path:
    """Hugging Face's layout: classes mixed, several files per split, small row groups, names in the metadata."""
    (root / "data").mkdir(parents=True)
    label, image = columns.get("label", "label"), columns.get("image", "image")
    features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()} if names else {}
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        labels = rng.permutation(np.arange(rows) % max(2, len(names)))
        for number, part in enumerate(np.array_split(np.arange(rows), files)):
            found = [png(str(labels[row]), int(row)) for row in part]
            cells = [{"bytes": content, "path": None} for content in found] if struct else found
            table = pa.table({image: cells, label: pa.array(labels[part], pa.int64())}).replace_schema_metadata(metadata)
            pq.write_table(table, root / f"data/{split}-{number:05}-of-{files:05}.parquet", row_group_size=3)
    return root


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_in_hugging_faces_layout(tmp_path, struct):
    source = opened("parquet", parquet(tmp_path, ["cat", "dog", "owl"], 22, struct=struct))
    assert source.classes == ("cat", "dog", "owl")
    for split in ("train", "test"):
        labels = source.labels(split)
        assert len(labels) == 22
        for row in (*range(22), 3, 21, 0):
            assert np.array_equal(np.asarray(decode(source.raw(split, row))), picture(str(labels[row]), row, 20, 24))
    assert source.source_id("train", 15) == "data/train-00001-of-00002.parquet#1.1"
    chosen = opened("parquet", tmp_path, classes=("owl", "cat"))
    assert [name for name, _ in shown(chosen, "train")] == ["owl"] * 7 + ["cat"] * 8
    assert chosen.sequential


def test_parquet_of_imagenet_by_a_benchmarks_name(tmp_path):
    texts = [text for _, text in benchmarks.imagenet()]
    (tmp_path / "data").mkdir()
    features = {"label": {"names": texts, "_type": "ClassLabel"}}
    for split in ("train", "validation"):
        table = pa.table({"image": [png("a", i) for i in range(1000)], "label": list(range(1000))})
        table = table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
        pq.write_table(table, tmp_path / f"data/{split}.parquet")
    source = opened("parquet", tmp_path, classes="imagewoof")
    assert [benchmarks.wnid(name) for name in source.classes] == list(WOOF)
    assert [source.source_id("train", i) for i in range(2)] == ["data/train.parquet#0.193", "data/train.parquet#0.182"]
    assert len(set(opened("parquet", tmp_path).classes)) == 1000


def test_parquet_without_names_and_with_other_columns(tmp_path):
    assert opened("parquet", parquet(tmp_path / "a", [], 4)).classes == ("0", "1")
    odd = parquet(tmp_path / "b", ["cat", "dog"], 4, label="species", image="img")
    with pytest.raises(
        LimbeckError, match=r"no column label or fine_label or labels in .*; it has img, species; set .*\.label_column"
    ):
        opened("parquet", odd)
    assert opened("parquet", odd, label_column="species").classes == ("cat", "dog")
    with pytest.raises(ValueError, match="source folder has no 'label_column'"):
        Dataset(source="folder", path="x", label_column="species")


def test_a_split_without_labels_is_passed_over_and_configurations_are_not_mixed(tmp_path):
    root = parquet(tmp_path / "a", ["cat", "dog"], 6)
    pq.write_table(pa.table({"image": [png("a", 0)], "label": [-1]}), root / "data/test-00000-of-00001.parquet")
    source = opened("parquet", root)
    assert source.source_id("test", 0).startswith("data/validation-00000")
    before = source.stamp()
    os.utime(root / "data/train-00000-of-00002.parquet", ns=(1, 1))
    assert opened("parquet", root).stamp() != before
    pq.write_table(pa.table({"image": [png("a", 0)]}), root / "data/test-00000-of-00001.parquet")
    assert len(opened("parquet", root).labels("test")) == 6
    for file in (root / "data").glob("validation-*"):
        file.unlink()
    with pytest.raises(LimbeckError, match=r"no labels in column 'label' of its test files"):
        opened("parquet", root)
    shutil.copytree(parquet(tmp_path / "b", ["cat", "dog"], 6) / "data", tmp_path / "c/160px")
    shutil.copytree(tmp_path / "b/data", tmp_path / "c/320px")
    with pytest.raises(LimbeckError, match=r"several configurations: .*160px, .*320px; set datasets\.x\.path to the folder of one"):
        opened("parquet", tmp_path / "c")
    converted = tmp_path / "d/default"
    for split in ("train", "validation"):
        (converted / split).mkdir(parents=True)
        shutil.copy(tmp_path / f"b/data/{split}-00000-of-00002.parquet", converted / split / "0000.parquet")
    assert len(opened("parquet", tmp_path / "d").labels("train")) == 3
    other = pa.table({"picture": [png("a", 0)], "label": [0]})
    pq.write_table(other, tmp_path / "b/data/validation-00000-of-00002.parquet")
    with pytest.raises(LimbeckError, match=r"no column 'image' in .*validation-00000.*; it has picture, label"):
        opened("parquet", tmp_path / "b").raw("test", 0)


def test_short_names_of_the_hub_are_found_by_wnid(tmp_path):
    short = [benchmarks.class_name(wnid).split(",")[0] for wnid in benchmarks.members("imagenette")]
    source = opened("parquet", parquet(tmp_path / "a", short[::-1], 20), classes="imagenette")
    assert source.classes == tuple(short)
    texts = [text for _, text in benchmarks.imagenet()]
    assert benchmarks.told_apart([*texts[:517], "crane2", *texts[518:]])[517] == "crane, lifting machine"
    assert benchmarks.called("n02012849", ["crane", "tench"]) == "crane"
    assert benchmarks.called("n02012849", ["crane", "crane, bird"]) is None


def test_what_is_wrong_with_parquet_is_one_line(tmp_path):
    root = parquet(tmp_path, ["cat", "dog"], 8)
    with pytest.raises(LimbeckError, match=r"no train-\*\.parquet in .*nowhere or below; set datasets\.x\.path"):
        opened("parquet", tmp_path / "nowhere")
    file = root / "data/train-00001-of-00002.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LimbeckError, match=r"train-00001-of-00002\.parquet is no parquet file, or only part of one"):
        opened("parquet", root).labels("train")
    table = pa.table({"image": [{"bytes": None, "path": "a.png"}] * 4, "label": [0, 1, 0, 1]})
    pq.write_table(table, file)
    source = opened("parquet", root)
    with pytest.raises(ValueError, match=r"cannot be decoded \(no bytes in its row"):
        source.raw("train", 6)
    pq.write_table(pa.table({"image": [b"x"] * 2, "label": [0, 7]}), file)
    with pytest.raises(LimbeckError, match="train has a label 7, its files name 2 classes"):
        opened("parquet", root).labels("train")


# --- ingest -----------------------------------------------------------------------------------------------------------------


def ingested(tmp_path: Path, kind: str, root: Path, threads: int = 1, bad_files: int = 0, classes: object = None, **view: object):
    source = {"source": kind, "path": str(root), "classes": classes, "channels": 3}
    spec = {"dataset": "x", "source": source, "view": {"size": 16, **view}, "split": "train", "bad_files": bad_files, "code": "x"}
    stop = len(opened(kind, root, classes=classes).classes)
    out = tmp_path / "out" / f"{threads}.zarr.zip"
    ingest.run({**spec, "classes": [0, stop]}, out, threads)
    return out


def test_parquet_is_read_in_order_and_written_class_by_class(tmp_path):
    root = parquet(tmp_path / "in", ["cat", "dog", "owl"], 40)
    outs = [ingested(tmp_path, "parquet", root, threads) for threads in (1, 3)]
    assert outs[0].read_bytes() == outs[1].read_bytes()
    source = opened("parquet", root)
    with Artifact(outs[0], IMAGES) as found:
        images, labels, ids = found["images"], found["labels"], found["source_ids"]
    assert labels.tolist() == sorted(source.labels("train").tolist())
    places = {source.source_id("train", i): i for i in range(40)}
    for image, label, each in zip(images, labels, ids, strict=True):
        row = places[bytes(each).rstrip(b"\0").decode()]
        assert np.array_equal(image, apply_view(picture(str(label), row, 20, 24), View(size=16), 3))
    assert sorted(entry.name for entry in outs[0].parent.iterdir()) == ["1.zarr.zip", "3.zarr.zip"]


@pytest.mark.parametrize("resize", ["crop", "windows"])
def test_bad_files_are_all_named_and_left_out_where_allowed(tmp_path, resize):
    root = miniatures.folders(tmp_path / "in", WOOF[:3], 5)
    bad = [f"{WOOF[0]}/{WOOF[0]}_3.JPEG", f"{WOOF[2]}/{WOOF[2]}_0.JPEG"]
    (root / "train" / bad[0]).write_text("<html>gone</html>")
    half = (root / "train" / bad[1]).read_bytes()
    (root / "train" / bad[1]).write_bytes(half[: len(half) // 2])
    with pytest.raises(LimbeckError) as caught:
        ingested(tmp_path, "folder", root, bad_files=1, classes=WOOF[:3], resize=resize)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("datasets.x: 2 images of train, 1 are allowed: ")
    assert all(name in text for name in bad)
    assert "no known image format" in text
    assert "truncated" in text
    assert text.endswith("set datasets.x.bad_files: 2 to leave them out")
    assert list((tmp_path / "out").iterdir()) == []
    out = ingested(tmp_path, "folder", root, threads=2, bad_files=2, classes=WOOF[:3], resize=resize)
    with Artifact(out, IMAGES) as found:
        names = list(dict.fromkeys(bytes(each).rstrip(b"\0").decode() for each in found["source_ids"]))
        assert found.attrs["left_out"] == bad
        assert len(names) == 13
        assert not set(bad) & set(names)
        if resize == "crop":
            whole = [apply_view(decode(root / "train" / name), View(size=16), 3) for name in names]
            assert np.array_equal(found["images"], np.stack(whole))
        assert "bad_files" not in found.attrs["params"]


def test_what_one_view_cannot_take_is_never_left_out(tmp_path):
    """Else rows of its images would be of others than those of the dataset's other views."""
    root = miniatures.folders(tmp_path / "in", WOOF[:2], 2)
    with pytest.raises(
        LimbeckError, match=r"4 images of train, 0 are allowed: .* larger than the view's 16; .* repair or remove them$"
    ):
        ingested(tmp_path, "folder", root, bad_files=9, classes=WOOF[:2], resize="pad")


def test_rows_of_views_that_left_out_other_files_are_not_mixed(tmp_path):
    root = miniatures.folders(tmp_path / "in", WOOF[:2], 3)
    whole = root / f"train/{WOOF[0]}/{WOOF[0]}_0.JPEG"
    content = whole.read_bytes()
    whole.write_bytes(content[:200])
    without = ingested(tmp_path, "folder", root, 1, 1, WOOF[:2])
    whole.write_bytes(content)
    full = ingested(tmp_path, "folder", root, 2, 1, WOOF[:2])
    chosen = {name: tmp_path / f"{name}.zarr.zip" for name in ("of all", "of less")}
    spec = {"discovery": {"kind": "random"}, "ipc": 1, "seed": 0, "code": "x"}
    select.run(spec, full, chosen["of all"])
    select.run(spec, without, chosen["of less"])
    pick.run({"size": 16, "ipc": 1, "seed": 0, "code": "x"}, full, chosen["of all"], tmp_path / "d.zarr.zip")
    for images, prototypes in ((full, "of less"), (without, "of all")):
        with pytest.raises(LimbeckError, match=rf"'{WOOF[0]}/{WOOF[0]}_0\.JPEG' was left out of one alone"):
            pick.run({"size": 16, "ipc": 1, "seed": 0, "code": "x"}, images, chosen[prototypes], tmp_path / "e.zarr.zip")


def test_a_class_of_bad_files_alone_is_an_error(tmp_path):
    root = miniatures.folders(tmp_path / "in", WOOF[:2], 2)
    for file in (root / "train" / WOOF[1]).iterdir():
        file.write_bytes(b"")
    with pytest.raises(LimbeckError, match=f"no train image of class '{benchmarks.class_name(WOOF[1])}' can be decoded: {WOOF[1]}"):
        ingested(tmp_path, "folder", root, bad_files=9, classes=WOOF[:2])


def test_threads_change_nothing(tmp_path):
    root = miniatures.folders(tmp_path / "in", WOOF[:2], 40)
    outs = [ingested(tmp_path, "folder", root, threads, classes=WOOF[:2], resize="windows") for threads in (1, 4)]
    assert outs[0].read_bytes() == outs[1].read_bytes()
