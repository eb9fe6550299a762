import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.artifacts import IMAGES
from limbeck.config import Dataset, View
from limbeck.data.paths import package_path
from limbeck.data.preprocessing import apply_view
from limbeck.data.sources import open_source
from limbeck.data.sources.base import shard_classes
from limbeck.errors import LimbeckError
from limbeck.stages import ingest
from limbeck.store import Artifact

FASHION = Path("/usr/share/datasets/fashion-mnist")


def folder_spec(path: Path, **more: object) -> Dataset:
    return Dataset(source="folder", path=str(path), **more)


def test_the_embedded_benchmark_is_what_it_says():
    path = package_path("package:fashion_mini.npz")
    assert path.stat().st_size <= 4e6
    source = open_source("m", Dataset(source="npz", path="package:fashion_mini.npz", channels=1))
    assert source.counts("train").tolist() == [500] * 10
    assert source.counts("test").tolist() == [200] * 10
    with np.load(path) as file:
        assert file["train_images"].shape == (5000, 28, 28)
        assert len(np.unique(file["train_ids"])) == 5000


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_the_embedded_benchmark_can_be_drawn_again_from_its_source():
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2] / "workflow/scripts"))
    try:
        from draw_fashion_mini import draw
    finally:
        sys.path.pop(0)
    arrays = draw(str(FASHION))
    source = open_source("f", Dataset(source="idx", path=str(FASHION), channels=1))
    for split in ("train", "test"):
        i = 1234
        index = int(arrays[f"{split}_ids"][i])
        assert np.array_equal(arrays[f"{split}_images"][i], source.raw(split, index))
        assert arrays[f"{split}_labels"][i] == source.labels(split)[index]
    with np.load(package_path("package:fashion_mini.npz")) as file:
        assert all(np.array_equal(file[name], arrays[name]) for name in file)


def test_pad_centres_without_resampling():
    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    out = apply_view(image, View(size=32, resize="pad"), 1)
    assert np.array_equal(out[2:30, 2:30, 0], image)
    assert out.sum() == image.sum()
    with pytest.raises(ValueError, match="larger than the view"):
        apply_view(np.zeros((40, 20), np.uint8), View(size=32, resize="pad"), 1)


def test_crop_and_squash_keep_what_they_should():
    image = np.zeros((60, 30, 3), np.uint8)
    image[15:45] = 200  # the central square
    assert (apply_view(image, View(size=16, resize="crop"), 3) == 200).all()
    squashed = apply_view(image, View(size=16, resize="squash"), 3)
    assert squashed[0].max() == 0
    assert squashed[8].min() == 200
    assert apply_view(image, View(size=16, resize="crop"), 1).shape == (16, 16, 1)


def test_folder_order_and_configured_class_order(image_folder):
    source = open_source("own", folder_spec(image_folder))
    assert source.classes == ("b'irds", "cats & dogs")
    assert source.counts("train").tolist() == [6, 6]
    swapped = open_source("own", folder_spec(image_folder, classes=("cats & dogs", "b'irds")))
    assert swapped.source_id("train", 0).startswith("cats & dogs/")


@pytest.mark.parametrize("case", ["empty class", "no folder", "missing class", "no test"])
def test_bad_folders_are_named(image_folder, case):
    spec = folder_spec(image_folder)
    if case == "empty class":
        for file in (image_folder / "train/b'irds").iterdir():
            file.unlink()
        message = r"datasets\.own: class \"b'irds\" has no train images"
    elif case == "no folder":
        spec, message = folder_spec(image_folder / "nowhere"), "no folder .*nowhere"
    elif case == "missing class":
        spec, message = folder_spec(image_folder, classes=("fish",)), "class 'fish' has no folder"
    else:
        (image_folder / "test").rename(image_folder / "other")
        message = "no folder .*test\\|val\\|validation; expected"
    with pytest.raises(LimbeckError, match=message):
        open_source("own", spec).counts("train")


def ingest_spec(path: Path, classes: list[int], split: str = "train") -> dict:
    source = {"source": "folder", "path": str(path), "classes": None, "channels": 3}
    return {
        "dataset": "own",
        "source": source,
        "view": {"size": 16, "resize": "crop"},
        "split": split,
        "classes": classes,
        "bad_files": 0,
        "code": "x",
    }


def test_ingest_is_class_major_and_records_where_images_came_from(image_folder, tmp_path):
    ingest.run(ingest_spec(image_folder, [0, 2]), tmp_path / "i.zarr.zip")
    with Artifact(tmp_path / "i.zarr.zip", IMAGES) as found:
        assert found["images"].shape == (12, 16, 16, 3)
        assert found["labels"].tolist() == [0] * 6 + [1] * 6
        assert bytes(found["source_ids"][7]).rstrip(b"\0").decode() == "cats & dogs/1.png"
        assert found.attrs["classes"] == ["b'irds", "cats & dogs"]
        expected = apply_view(np.asarray(Image.open(image_folder / "train/cats & dogs/1.png")), View(size=16, resize="crop"), 3)
        assert np.array_equal(found["images"][7], expected)


def test_a_broken_image_is_named_and_nothing_is_left(image_folder, tmp_path):
    bad = image_folder / "train/b'irds/3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    out = tmp_path / "out"
    with pytest.raises(LimbeckError, match=r"1 image of train, 0 are allowed: b'irds/3\.png cannot be decoded"):
        ingest.run(ingest_spec(image_folder, [0, 2]), out / "i.zarr.zip")
    assert list(out.iterdir()) == []


def write_idx(path: Path, array: np.ndarray, cut: int = 0) -> None:
    data = struct.pack(f">i{array.ndim}i", 0x0800 + array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data[: len(data) - cut]) if path.suffix == ".gz" else data[: len(data) - cut])


def test_idx_files_gzipped_or_not_and_cut_short(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for stem, n in (("train", 20), ("t10k", 10)):
        arrays[stem] = rng.integers(0, 256, (n, 5, 4), dtype=np.uint8)
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", arrays[stem])
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 5)
    source = open_source("x", Dataset(source="idx", path=str(tmp_path), channels=1))
    assert np.array_equal(source.raw("test", 3), arrays["t10k"][3])
    assert source.counts("train").tolist() == [4] * 5
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", arrays["t10k"], cut=1)
    with pytest.raises(LimbeckError, match="cut short"):
        open_source("x", Dataset(source="idx", path=str(tmp_path), channels=1)).raw("test", 0)


@pytest.mark.parametrize(("classes", "shards"), [(10, 1), (10, 3), (7, 7), (1000, 50)])
def test_shards_are_whole_classes_that_cover_all(classes, shards):
    parts = shard_classes(classes, shards)
    assert [c for part in parts for c in part] == list(range(classes))
    assert all(len(part) >= 1 for part in parts)


@pytest.mark.parametrize(("shape", "dtype"), [((4, 5, 6, 1), np.uint8), ((4, 5, 6), np.uint16), ((4, 5, 6, 3), np.uint8)])
def test_npz_images_of_other_shapes_and_depths(tmp_path, shape, dtype):
    images = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    parts = {
        f"{split}_{key}": value for split in ("train", "test") for key, value in (("images", images), ("labels", np.arange(4) % 2))
    }
    np.savez(tmp_path / "a.npz", classes=["a", "b"], **parts)
    found = open_source("x", Dataset(source="npz", path=str(tmp_path / "a.npz"))).raw("train", 2)
    wanted = images[2] >> 8 if dtype == np.uint16 else images[2]
    assert np.array_equal(found, wanted[..., 0] if shape[3:] == (1,) else wanted)


@pytest.mark.parametrize(("shape", "dtype"), [((4, 3, 5, 6), np.uint8), ((4, 5, 6), np.float32), ((4, 5), np.uint8)])
def test_npz_images_that_are_none_are_one_line(tmp_path, shape, dtype):
    parts = {
        f"{split}_{key}": value
        for split in ("train", "test")
        for key, value in (("images", np.ones(shape, dtype)), ("labels", np.arange(4) % 2))
    }
    np.savez(tmp_path / "a.npz", classes=["a", "b"], **parts)
    with pytest.raises(LimbeckError, match=r"train images are .* of shape .*; expected uint8 \(N, H, W\) or"):
        open_source("x", Dataset(source="npz", path=str(tmp_path / "a.npz"))).raw("train", 2)
