"""Distilled sets made elsewhere: what is refused before any job, and that what is taken is taken as it is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from limbeck.artifacts import DISTILLED, IMAGES
from limbeck.config import View
from limbeck.data.folders import class_files, folder_name, stamp
from limbeck.data.preprocessing import apply_view
from limbeck.errors import LimbeckError
from limbeck.plan import Plan
from limbeck.stages import imported, pngs
from limbeck.stages.common import resize_to
from limbeck.store import Artifact, create

ROOT = Path(__file__).parents[2]
CLASSES = ("b'irds", "cats & dogs", "T-shirt/top")
HARMLESS = ("0-b-irds", "1-cats-dogs", "2-T-shirt-top")
IPC, SIZE = 3, 16
EXACTLY = "instead of 3 images in {root}/cats & dogs; put exactly IPC there, or map 'path' by IPC"
KEY, READY = "methods.mine.path", "the images of base imported are ready-made"


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """IPC random RGB images of every class; the last class's name cannot be a folder's."""
    root = tmp_path / "made elsewhere"
    for label, name in enumerate((*CLASSES[:2], HARMLESS[2])):
        (root / name).mkdir(parents=True)
        for i in range(IPC):
            Image.fromarray(pixels(10 * label + i, SIZE, SIZE, 3)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """A plan whose one method is imported, of a dataset with CLASSES; ``changes`` are the method's options."""
    images, labels = np.zeros((30, 8, 8), np.uint8), np.arange(30) % 3
    rows = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    np.savez(tmp_path / "three.npz", classes=CLASSES, **rows)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["datasets"]["three"] = {"source": "npz", "path": str(tmp_path / "three.npz"), "views": {"v16": {"size": SIZE}}}

    def make(run: dict | None = None, shards: int = 1, **changes: object) -> Plan:
        config["datasets"]["three"]["shards"] = shards
        config["run"] |= {"datasets": ["three"], "ipc": [IPC], "methods": ["mine"], **(run or {})}
        config["methods"]["mine"] = {"base": "imported", **changes}
        return Plan(config)

    return make


def break_folder(root: Path, case: str) -> None:
    birds, cats, shirts = (root / name for name in (*CLASSES[:2], HARMLESS[2]))
    if case == "no folder":
        shutil.rmtree(root)
    elif case == "a file":
        shutil.rmtree(root)
        root.write_text("")
    elif case == "empty":
        for each in (birds, cats, shirts):
            shutil.rmtree(each)
    elif case == "missing class":
        shutil.rmtree(cats)
    elif case == "unusable name":
        shirts.rename(root / "T-shirt")
    elif case == "wnid":
        birds.rename(root / "n01440764")
    elif case == "extra class":
        shutil.copytree(cats, root / "fish")
    elif case == "two folders":
        shutil.copytree(cats, root / HARMLESS[1])
    elif case == "one more":
        shutil.copy(cats / "0.png", cats / "9.PNG")
    elif case == "one less":
        (cats / "0.png").unlink()
    elif case == "no images":
        for file in cats.iterdir():
            file.rename(file.with_suffix(".npy"))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no folder", "no folder {root}; expected {root}/<class>/<image>, 3 images per class"),
        ("a file", "no folder {root}; expected {root}/<class>/<image>, 3 images per class"),
        ("empty", "class \"b'irds\" has no folder in {root}; call it \"b'irds\" or '0-b-irds'"),
        ("missing class", "class 'cats & dogs' has no folder in {root}; call it 'cats & dogs' or '1-cats-dogs'"),
        (
            "unusable name",
            "class 'T-shirt/top' has no folder in {root}; call it '2-T-shirt-top' ('T-shirt' in {root} is the folder of no class)",
        ),
        (
            "wnid",
            "class \"b'irds\" has no folder in {root}; call it \"b'irds\" or '0-b-irds' "
            "('n01440764' in {root} is the folder of no class)",
        ),
        ("extra class", "'fish' in {root} is the folder of no class; rename or remove it"),
        ("two folders", "class 'cats & dogs' has two folders in {root}, '1-cats-dogs' and 'cats & dogs'; keep one"),
        ("one more", f"class 'cats & dogs' has 4 {EXACTLY}"),
        ("one less", f"class 'cats & dogs' has 2 {EXACTLY}"),
        (
            "no images",
            "class 'cats & dogs' has no images in {root}/cats & dogs; put 3 there (.bmp .gif .jfif .jpeg .jpg .png .tif .tiff "
            ".webp)",
        ),
    ],
)
def test_a_bad_folder_is_one_line_before_any_job(folder, planned, case, message):
    planned(path=str(folder))
    break_folder(folder, case)
    with pytest.raises(LimbeckError) as caught:
        planned(path=str(folder))
    assert str(caught.value) == f"{KEY}: {message.format(root=folder)}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "path: base imported needs the folder of its images, <path>/<class>/<image>"),
        ({"paht": "x"}, "path: base imported needs the folder"),
        ({"path": None}, "path: Input should be a valid string"),
        ({"path": ""}, "path: String should have at least 1 character"),
        ({"path": {50: "x"}}, "path: no value for ipc 3"),
        ({"path": "x", "keep": "subgroup"}, f"keep: {READY}, so there are no groups to choose among; leave it out"),
        ({"path": "x", "guidance": ["mode"]}, f"guidance: {READY}, so there is nothing to guide; leave it out"),
        ({"path": "x", "discovery": "kmeans"}, f"discovery: {READY}, so nothing is discovered; leave it out"),
        ({"path": "x", "start": "gaussian"}, f"start: {READY}, so nothing starts anywhere; leave it out"),
        ({"path": "x", "generate": True}, f"generate: {READY}, so nothing is generated; leave it out"),
        ({"path": "x", "prior": "fashion-dit"}, f"prior: {READY}, so no prior makes them; leave it out"),
        ({"path": "x", "steps": 10}, f"steps: {READY}, so nothing reads it; leave it out"),
    ],
)
def test_options_without_sense_are_one_line(planned, options, message):
    with pytest.raises(LimbeckError) as caught:
        planned(**options)
    assert str(caught.value).startswith(f"methods.mine.{message}")
    assert "\n" not in str(caught.value)


def test_path_is_an_option_like_any_other(folder, planned):
    mapped = planned(path={IPC: str(folder), 50: "elsewhere"}, prior=None)
    assert mapped.method("mine", IPC, "three").imported["path"] == str(folder)
    assert mapped.prior_of("mine", IPC, "three") == "none"
    assert "mine" in mapped.made_by("imported")
    assert planned(path={"three": str(folder)}).imported("mine", IPC, "three", 0)[0] == str(folder)


def test_every_seed_has_the_same_set_unless_its_path_says_otherwise(folder, planned, tmp_path):
    same = planned({"seeds": [0, 7]}, path=str(folder))
    assert same.imported("mine", IPC, "three", 0) == same.imported("mine", IPC, "three", 7)
    shutil.copytree(folder, tmp_path / "a{b}/seed0")
    with pytest.raises(LimbeckError, match=r"methods\.mine\.path: no folder .*/seed7; expected"):
        planned({"seeds": [0, 7]}, path=f"{tmp_path}/a{{b}}/seed{{seed}}")
    shutil.copytree(folder, tmp_path / "a{b}/seed7")
    own = planned({"seeds": [0, 7]}, path=f"{tmp_path}/a{{b}}/seed{{seed}}")
    assert own.imported("mine", IPC, "three", 7)[1][1][0] == tmp_path / "a{b}/seed7/cats & dogs/0.png"


def spec_of(plan: Plan, shard: int = 0) -> dict:
    w = {"dataset": "three", "prior": "none", "method": "mine", "ipc": str(IPC), "seed": "0", "shard": str(shard)}
    return json.loads(plan.spec("imported", w))


def test_the_report_says_where_a_row_is_from(folder, planned):
    found = json.loads(planned(path=str(folder)).spec("report", {"dataset": "three", "ipc": str(IPC)}))
    assert found["rows"]["mine"]["options"]["imported"] == {"kind": "imported", "path": str(folder)}
    assert found["rows"]["subset"]["options"]["imported"] is None


def test_a_spec_follows_the_files_of_its_own_shard(folder, planned):
    def specs() -> list[dict]:
        made = planned(shards=3, path=str(folder))
        return [spec_of(made, shard) for shard in range(3)]

    before = specs()
    assert specs() == before
    file = folder / "cats & dogs/1.png"
    file.write_bytes(file.read_bytes() + b"\0")
    after = specs()
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    assert {key for key in after[1] if after[1][key] != before[1][key]} == {"stamp"}


def test_a_stamp_has_names_sizes_and_times(tmp_path):
    def written(name: str, text: str, time: int) -> str:
        file = tmp_path / name
        file.write_text(text)
        os.utime(file, ns=(0, time))
        return stamp([file])

    assert written("a.png", "x", 5) == written("a.png", "y", 5)
    assert len({written("a.png", "x", 5), written("b.png", "x", 5), written("a.png", "xx", 5), written("a.png", "x", 6)}) == 4
    assert stamp([tmp_path / "a.png", tmp_path / "b.png"]) != stamp([tmp_path / "a.png"])


def classes_artifact(folder: Path, first: int = 0, stop: int = len(CLASSES), names: tuple[str, ...] = CLASSES) -> Path:
    """An artifact that is read for its class names and range alone."""
    path = folder / f"images-{first}-{stop}.zarr.zip"
    shapes = {"images": (1, 8, 8, 1), "labels": (1,), "source_ids": (1, 1)}
    with create(path, IMAGES, shapes, {}, {}, classes=list(names), class_range=[first, stop]) as out:
        for name, shape in shapes.items():
            out.append(name, np.zeros(shape, np.uint8))
    return path


def stage_spec(path: Path, **changes: object) -> dict:
    view = {"size": SIZE, "resize": "crop"}
    return {"method": "mine", "path": str(path), "view": view, "channels": 3, "ipc": IPC, "stamp": "s", "code": "c", **changes}


def taken(path: Path, folder: Path, first: int = 0, stop: int = len(CLASSES), names=CLASSES, channels: int = 3) -> np.ndarray:
    """The images that the stage writes."""
    out = folder / "distilled.zarr.zip"
    imported.run(stage_spec(path, channels=channels), classes_artifact(folder, first, stop, names), out)
    with Artifact(out, DISTILLED) as found:
        assert found["labels"].tolist() == np.repeat(range(first, stop), IPC).tolist()
        assert found.attrs["classes"] == list(names)
        return found["images"]


def test_images_are_in_the_order_of_classes_and_file_names(folder, tmp_path):
    (folder / "cats & dogs/notes.txt").write_text("no image")
    (folder / "cats & dogs/._0.png").write_bytes(b"a resource fork")
    (folder / ".cache").mkdir()
    (folder / "log.txt").write_text("not a class")
    (folder / "cats & dogs/2.png").rename(folder / "cats & dogs/10.PNG")  # before 2, as strings are sorted
    (folder / "cats & dogs/1.png").rename(folder / "cats & dogs/2.png")
    birds, cats, shirts = (np.stack([pixels(s, SIZE, SIZE, 3) for s in row]) for row in ((0, 1, 2), (10, 12, 11), (20, 21, 22)))
    assert np.array_equal(taken(folder, tmp_path), np.concatenate([birds, cats, shirts]))
    assert np.array_equal(taken(folder, tmp_path, 1, 3), np.concatenate([cats, shirts]))
    (folder / HARMLESS[2]).rename(folder / "1-T-shirt-top")
    turned = taken(folder, tmp_path, names=(CLASSES[1], CLASSES[2], CLASSES[0]))
    assert np.array_equal(turned, np.concatenate([cats, shirts, birds]))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_exported_set_comes_back_bit_for_bit(tmp_path, channels):
    given = tmp_path / "given.zarr.zip"
    images = pixels(1, len(CLASSES) * IPC, SIZE, SIZE, channels)
    shapes = {"images": images.shape, "labels": (len(images),)}
    with create(given, DISTILLED, shapes, {}, {}, classes=list(CLASSES), class_range=[0, 3]) as out:
        out.append("images", images)
        out.append("labels", np.repeat(range(3), IPC))
    exported = tmp_path / "images"
    archive = tmp_path / "images.zip"
    pngs.run({"dataset": "three", "code": "c"}, [given], exported / "classes.json", archive)
    assert sorted(p.name for p in exported.iterdir() if p.is_dir()) == list(HARMLESS)
    assert np.array_equal(taken(exported, tmp_path, channels=channels), images)
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    files = [{str(p.relative_to(f)): p.read_bytes() for p in f.rglob("*.*")} for f in (exported, tmp_path / "unpacked")]
    assert files[0] == files[1]
    # by its table it is known under another order of classes too; without, only under its own
    order = (2, 0, 1)
    turned = tuple(CLASSES[i] for i in order)
    back = taken(exported, tmp_path, channels=channels, names=turned)
    assert np.array_equal(back, np.concatenate([images[i * IPC : (i + 1) * IPC] for i in order]))
    (exported / "classes.json").write_text('["a list of someone else\'s"]')
    assert np.array_equal(taken(exported, tmp_path, channels=channels), images)
    with pytest.raises(LimbeckError, match=r"class 'T-shirt/top' has no folder .* call it '0-T-shirt-top' \('0-b-irds' in "):
        taken(exported, tmp_path, names=turned)


def test_the_same_images_elsewhere_give_the_same_bytes(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    outs = [tmp_path / f"{name}.zarr.zip" for name in ("a", "b")]
    source = classes_artifact(tmp_path)
    imported.run(stage_spec(folder), source, outs[0])
    imported.run(stage_spec(tmp_path / "copy", method="theirs", stamp="t", code="d"), source, outs[1])
    assert outs[0].read_bytes() == outs[1].read_bytes()
    with Artifact(outs[0], DISTILLED) as found:
        assert set(found.attrs["params"]) == {"view", "channels", "ipc"}


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_other_sizes_become_the_views(resize):
    view = View(size=SIZE, resize=resize)
    same, large, wide = pixels(1, SIZE, SIZE, 3), pixels(2, 40, 40, 3), pixels(3, 20, 50, 3)
    assert np.array_equal(imported.fitted(Image.fromarray(same), view, 3), same)
    assert np.array_equal(imported.fitted(Image.fromarray(large), view, 3), resize_to(large[None], SIZE)[0])
    assert np.array_equal(imported.fitted(Image.fromarray(wide), view, 3), resize_to(wide[None, :, 15:35], SIZE)[0])
    small = pixels(4, 10, 10, 3)
    # a padded dataset's own images keep their scale, so must these
    expected = apply_view(small, view, 3) if resize == "pad" else resize_to(small[None], SIZE)[0]
    assert np.array_equal(imported.fitted(Image.fromarray(small), view, 3), expected)


def test_channels_become_the_datasets(folder, tmp_path):
    grey = pixels(9, SIZE, SIZE)
    Image.fromarray(grey).save(folder / "cats & dogs/0.png")
    colour = taken(folder, tmp_path)
    assert np.array_equal(colour[IPC], np.repeat(grey[..., None], 3, axis=2))
    found = taken(folder, tmp_path, channels=1)
    assert found.shape == (9, SIZE, SIZE, 1)
    assert np.array_equal(found[IPC, ..., 0], grey)
    assert np.array_equal(found[0, ..., 0], np.asarray(Image.fromarray(pixels(0, SIZE, SIZE, 3)).convert("L")))
    Image.fromarray(pixels(8, SIZE, SIZE, 4)).save(folder / "cats & dogs/0.png")  # with alpha, which no student sees
    assert np.array_equal(taken(folder, tmp_path)[IPC], pixels(8, SIZE, SIZE, 4)[..., :3])


def test_a_broken_image_is_named_and_nothing_is_left(folder, tmp_path):
    bad = folder / "cats & dogs/1.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(LimbeckError, match=r"methods\.mine\.path: .*cats & dogs/1\.png cannot be decoded .*; repair or") as caught:
        taken(folder, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "distilled.zarr.zip").exists()


def test_the_stage_checks_the_folder_again(folder, tmp_path):
    (folder / "cats & dogs/1.png").unlink()
    with pytest.raises(LimbeckError, match=r"methods\.mine\.path: class 'cats & dogs' has 2 instead of 3 images"):
        taken(folder, tmp_path)


def test_a_name_is_a_folders_before_it_is_anothers_harmless_one(tmp_path):
    classes = ("1-b", "b")  # the second one's harmless name is the first one's own
    for name, shade in (("1-b", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8), shade, np.uint8)).save(tmp_path / name / "x.png")
    assert folder_name(1, "b", 2) == "1-b"
    assert class_files(str(tmp_path), classes, 1, KEY) == [[tmp_path / "1-b/x.png"], [tmp_path / "b/x.png"]]
