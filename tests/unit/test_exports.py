import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub import DatasetCard
from PIL import Image

from limbeck import checking, cli
from limbeck.artifacts import DISTILLED, PROTOTYPES, SOFT_LABELS
from limbeck.commit import digest
from limbeck.data.folders import class_files
from limbeck.data.sources.base import shard_classes
from limbeck.errors import ArtifactError, LimbeckError
from limbeck.exports import formats
from limbeck.exports.write import export
from limbeck.records import write_json, write_sidecar
from limbeck.store import create

# more than ten, so that 10 must not come before 2; what a file system, YAML, markdown and CSV might trip over
CLASSES = ("T-shirt/top", "blue jeans", "b'irds", '"quoted"', "a|b: `c`", "猫", "Straße", "猫", "#8", "no", "{x}", "z", "a")
CLASSES = tuple(f"{name} ({i})" if name == "猫" else name for i, name in enumerate(CLASSES))
IPC, SIDE = 3, 32
LAYOUT = "results/own/tiny/mine/ipc3/seed1"


def make_cell(root: Path, channels: int = 3, shards: int = 2, ipc: int = IPC) -> tuple[Path, np.ndarray]:
    """A finished cell, and its images in class order."""
    cell = root / LAYOUT
    images = np.random.default_rng(channels).integers(0, 256, (len(CLASSES) * ipc, SIDE, SIDE, channels), np.uint8)
    for number, covered in enumerate(shard_classes(len(CLASSES), shards)):
        path = cell / f"distilled-{number}.zarr.zip"
        shapes = {"images": (len(covered) * ipc, SIDE, SIDE, channels), "labels": (len(covered) * ipc,)}
        about = {"classes": list(CLASSES), "class_range": [covered.start, covered.stop]}
        with create(path, DISTILLED, shapes, {"sampler": {"steps": 7}, "seed": 1}, {}, **about) as out:
            out.append("images", images[covered.start * ipc : covered.stop * ipc])
            out.append("labels", np.repeat(covered, ipc))
        made = {"package": "0.1.0", "source": "abc123", "torch": "2", "finished": "2026-01-01T00:00:00Z", "inputs": {}}
        write_sidecar(path.with_name(f"distilled-{number}.prov.json"), made, {path: digest(path)})
    return cell, images


def add_students(cell: Path) -> None:
    repeats = [
        {
            "repeat": i,
            "accuracy": value,
            "selected": None,
            "best": None,
            "per_class": [value] * len(CLASSES),
            "confusion": None,
            "failed": None,
        }
        for i, value in enumerate((0.7, 0.8))
    ]
    labels = {"kind": "soft", "teacher": "convnet3", "bytes": 9}
    results = {"repeats": repeats, "labels": labels, "test_images": 500, "train_images": 39, "held_out_images": 0}
    write_json(cell / "students/rded-soft/resnet18.json", "student", {}, results)


@pytest.fixture
def cell(tmp_path):
    return make_cell(tmp_path)[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def torchvision_order(root: Path) -> tuple[list[str], list[int], list[Path]]:
    """What ``torchvision.datasets.ImageFolder`` makes of a folder: classes are the sorted names of its folders, a label is a
    class's place among them, images go by class and then by sorted path."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    files = [(label, path) for label, name in enumerate(classes) for path in sorted((root / name).rglob("*.png"))]
    return classes, [label for label, _ in files], [path for _, path in files]


def loaded(out: Path, tmp_path: Path) -> datasets.Dataset:
    datasets.disable_progress_bars()
    return datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))


def pixels(images) -> np.ndarray:
    found = np.stack([np.asarray(image) for image in images])
    return found if found.ndim == 4 else found[..., None]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_has_the_artifacts_classes_order_and_pixels(tmp_path, channels):
    cell, images = make_cell(tmp_path, channels)
    labels = np.repeat(range(len(CLASSES)), IPC).tolist()
    for to in formats.FORMATS:
        export(cell, to, tmp_path / to)

    hub = loaded(tmp_path / "parquet", tmp_path)
    assert hub.features["label"].names == list(CLASSES)
    assert hub["label"] == labels
    assert np.array_equal(pixels(hub["image"]), images)

    folders, places, files = torchvision_order(tmp_path / "imagefolder/train")
    assert places == labels
    assert np.array_equal(pixels(Image.open(file) for file in files), images)
    table = json.loads((tmp_path / "imagefolder/manifest.json").read_text())["classes"]
    assert [(row["index"], row["name"], row["folder"]) for row in table] == list(zip(range(13), CLASSES, folders, strict=True))
    same = loaded(tmp_path / "imagefolder", tmp_path)
    assert same.features["label"].names == folders
    assert same["label"] == labels
    assert np.array_equal(pixels(same["image"]), images)
    # what another dataset distillation is compared with: it comes back, class by class
    back = class_files(str(tmp_path / "imagefolder/train"), CLASSES, IPC, "key")
    assert [path for row in back for path in row] == files


def test_tensors_are_as_dd_ranking_documents_them(tmp_path):
    """Its 0.2 needs torchvision, so by its documentation and what its code does with them: images (classes x IPC, C, H, W), fed to
    the network beside test images that are normalised; where no labels are given, those of class-major images are taken."""
    cell, images = make_cell(tmp_path)
    assert export(cell, "ddranking", tmp_path / "out").startswith("metric.compute_metrics(image_tensor=torch.load(")
    found, labels = (torch.load(tmp_path / f"out/{name}.pt", weights_only=True) for name in ("images", "labels"))
    assert (found.dtype, found.shape) == (torch.float32, (len(CLASSES) * IPC, 3, SIDE, SIDE))
    assert (labels.dtype, labels.tolist()) == (torch.int64, [i for i in range(len(CLASSES)) for _ in range(IPC)])
    mean, deviation = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])  # of CIFAR, whose size this is
    np.testing.assert_allclose(found.numpy(), ((images / 255 - mean) / deviation).transpose(0, 3, 1, 2), atol=1e-5)
    said = json.loads((tmp_path / "out/manifest.json").read_text())
    again = found.permute(0, 2, 3, 1).numpy() * said["std"] + said["mean"]
    assert np.array_equal(np.rint(255 * again), images)


def test_dd_ranking_takes_as_many_images_of_every_class(tmp_path):
    cell = tmp_path / "cell"
    about = {"classes": ["a", "b"], "class_range": [0, 2]}
    with create(cell / "distilled-0.zarr.zip", DISTILLED, {"images": (3, 8, 8, 1), "labels": (3,)}, {}, {}, **about) as out:
        out.append("images", np.zeros((3, 8, 8, 1)))
        out.append("labels", [0, 0, 1])
    with pytest.raises(LimbeckError, match="different numbers of images"):
        export(cell, "ddranking", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell"]  # nothing half-written either
    export(cell, "parquet", tmp_path / "out")
    said = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (said["ipc"], [row["images"] for row in said["classes"]]) == (None, [2, 1])


def test_the_card_and_the_manifest_say_what_it_is(cell, tmp_path):
    add_students(cell)
    export(cell, "parquet", tmp_path / "out")
    card = DatasetCard.load(tmp_path / "out/README.md")
    assert card.data.pretty_name == "own distilled by mine, 3 images per class"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs[0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    files = contents(tmp_path / "out")
    said = json.loads(files["manifest.json"])
    for text in (
        "| method | mine |",
        "| prior | tiny |",
        "| generation seed | 1 |",
        "| rded-soft | resnet18 | soft (convnet3) | 75.0 ± 7.1 | 2 | 500 |",
        '"steps": 7',
        '    4  "a|b: `c`"',
        "To be filled in",
        digest(cell / "distilled-1.zarr.zip"),
        said["files"]["data/train-00001-of-00002.parquet"],
    ):
        assert text in card.text, text
    assert {name: digest(tmp_path / "out" / name) for name in files if name != "manifest.json"} == said["files"]
    assert said["accuracies"][0] | {"labels": None} == {
        "protocol": "rded-soft",
        "student": "resnet18",
        "mean": 0.75,
        "trainings": [0.7, 0.8],
        "test_images": 500,
        "labels": None,
        "failed": 0,
    }
    assert [row["sha256"] for row in said["distilled"]] == [digest(cell / f"distilled-{i}.zarr.zip") for i in (0, 1)]
    assert (said["dataset"], said["seed"], said["ipc"], said["params"]) == (
        "own",
        1,
        3,
        {"distilled": {"sampler": {"steps": 7}, "seed": 1}},
    )


def test_a_cell_without_accuracies_or_place_is_exported_too(cell, tmp_path):
    (tmp_path / "moved").mkdir()
    for path in cell.glob("*.zarr.zip"):
        path.rename(tmp_path / "moved" / path.name)
    export(tmp_path / "moved", "imagefolder", tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    assert "# Distilled set, 3 images per class" in text
    assert "None was measured" in text
    assert "39 files; their SHA-256 are in `manifest.json`" in text
    assert "| method |" not in text
    # a copy of some of the folders above it says nothing about the dataset, what was written into the cell does
    about = {"dataset": "own", "method": "mine", "ipc": 3, "seed": 1}
    (tmp_path / "moved").rename(tmp_path / "seed1")
    write_json(tmp_path / "seed1/images/classes.json", "classes", about, {"classes": [], "sha256": {}})
    export(tmp_path / "seed1", "imagefolder", tmp_path / "out")
    said = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [said.get(key) for key in ("dataset", "method", "seed", "prior")] == ["own", "mine", 1, None]


def test_parameters_of_what_it_was_made_from_are_told_if_it_is_still_that(cell, tmp_path):
    path = tmp_path / "results/own/v32/tiny/prototypes/kmeans-123abc/ipc3/seed1/0.zarr.zip"
    arrays = {name: spec for name, spec in PROTOTYPES.arrays.items() if not spec.optional}
    shapes = {name: tuple(2 for _ in spec.dims) for name, spec in arrays.items()}
    with create(path, PROTOTYPES, shapes, {"n_init": 3}, {}, classes=["a"]) as out:
        for name, shape in shapes.items():
            out.append(name, np.ones(shape))
    write_sidecar(path.with_name("0.prov.json"), {}, {path: digest(path)})
    shard = cell / "distilled-0.zarr.zip"
    for hashed, told in ((digest(path), {"n_init": 3}), ("0" * 64, None)):
        about = {"classes": ["a"], "class_range": [0, 1]}
        (cell / "distilled-1.zarr.zip").unlink(missing_ok=True)
        shard.with_name("distilled-0.prov.json").unlink()
        shapes = {"images": (1, 8, 8, 1), "labels": (1,)}
        with create(shard, DISTILLED, shapes, {}, {}, {"prototypes": hashed}, **about) as out:
            out.append("images", np.zeros((1, 8, 8, 1)))
            out.append("labels", [0])
        inputs = {"prototypes": f"elsewhere/{path.relative_to(tmp_path)}"}  # as its job was told of it
        write_sidecar(shard.with_name("distilled-0.prov.json"), {"inputs": inputs}, {shard: digest(shard)})
        export(cell, "imagefolder", tmp_path / "out")
        said = json.loads((tmp_path / "out/manifest.json").read_text())
        assert said["params"].get("prototypes") == told


def test_any_file_of_a_cell_stands_for_it(cell, tmp_path, monkeypatch):
    for name in ("images/classes.json", "images.zip"):
        (cell / name).parent.mkdir(exist_ok=True)
        (cell / name).write_text("{}")
    export(cell, "imagefolder", tmp_path / "out")
    first = contents(tmp_path / "out")
    for name in ("images/classes.json", "images", "images.zip", "distilled-1.zarr.zip"):
        export(cell / name, "imagefolder", tmp_path / "other")
        assert contents(tmp_path / "other") == first, name
    monkeypatch.chdir(cell)
    export(Path(), "imagefolder", tmp_path / "other")
    assert contents(tmp_path / "other") == first


@pytest.mark.parametrize("to", formats.FORMATS)
def test_soft_labels_go_along_and_the_same_cell_gives_the_same_bytes(cell, tmp_path, to):
    stored = cell / "labels/rded-soft/0.zarr.zip"
    with create(stored, SOFT_LABELS, {"logits": (1, 39, 13)}, {}, {}) as out:
        out.append("logits", np.zeros((1, 39, 13)))
    for name in ("a", "b"):
        export(cell, to, tmp_path / name)
    files = contents(tmp_path / "a")
    assert files == contents(tmp_path / "b")
    assert files["soft_labels/rded-soft/0.zarr.zip"] == stored.read_bytes()
    assert "- `soft_labels/rded-soft/0.zarr.zip`" in files["README.md"].decode()
    if to != "ddranking":  # what lies beside the images is not taken for data
        assert len(loaded(tmp_path / "a", tmp_path)) == 39


def test_only_an_untouched_export_is_replaced(cell, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    export(cell, "imagefolder", out)  # an empty folder is as good as none
    export(cell, "parquet", out)
    assert not (out / "train").exists()
    before = contents(out)

    def refused(said: str) -> None:
        kept = contents(out)
        with pytest.raises(LimbeckError, match=said):
            export(cell, "imagefolder", out)
        assert contents(out) == kept

    card = out / "README.md"
    card.write_text(card.read_text().replace("*To be filled in: ", "Everybody. "))
    refused("README.md was added or changed since it was exported; move it away, or name another folder")
    card.write_bytes(before["README.md"])
    (out / "notes.txt").write_text("mine")
    refused("notes.txt was added or changed")
    (out / "notes.txt").unlink()
    (out / "manifest.json").write_text('{"schema": "someone else\'s", "files": {}}')
    refused("has files of something else than an export; name a folder that is empty, or not there yet")
    with pytest.raises(LimbeckError, match="has files of something else"):
        export(cell, "parquet", cell)
    with pytest.raises(LimbeckError, match="is no folder"):
        export(cell, "parquet", card)
    assert not list(tmp_path.glob(".*"))


def test_an_interrupted_export_leaves_the_earlier_one(cell, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export(cell, "parquet", out)
    before, calls = contents(out), []

    def full(image: np.ndarray) -> bytes:
        calls.append(image)
        if len(calls) > 5:
            raise OSError(28, "No space left on device")
        return b""

    monkeypatch.setattr(formats, "png", full)
    with pytest.raises(OSError, match="No space"):
        export(cell, "imagefolder", out)
    assert contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "results"]


def test_what_is_no_whole_set_is_refused(cell, tmp_path, monkeypatch):
    def refused(source: Path, said: str, kind: type[LimbeckError] = LimbeckError) -> None:
        with pytest.raises(kind, match=said):
            export(source, "parquet", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused(tmp_path / "nowhere", "no such folder or file; name the folder of a finished cell, results/<dataset>/<prior>/")
    refused(cell.parent, "no distilled set there; name the folder of a finished cell")
    second = cell / "distilled-1.zarr.zip"
    content = second.read_bytes()
    second.write_bytes(content[:-100])
    refused(cell, "distilled-1.zarr.zip: unreadable", ArtifactError)
    with monkeypatch.context() as there:
        there.chdir(tmp_path)  # then the command that makes it again is Snakemake's own
        refused(cell, f"; rebuild it: snakemake --force {LAYOUT}/distilled-1.zarr.zip$", ArtifactError)
    second.unlink()
    refused(cell, r"its shards are not those of all its classes \(e.g. 'Straße'\); run snakemake for it again")
    make_cell(tmp_path / "other", channels=1)
    (tmp_path / "other" / LAYOUT / "distilled-1.zarr.zip").rename(second)
    (cell / "distilled-1.prov.json").unlink()
    refused(cell, "its shards were made with different parameters")


def test_check_knows_an_export(cell, tmp_path):
    out = tmp_path / "out"
    export(cell, "parquet", out)
    assert list(checking.report(checking.check_folder(out))) == ["4 files checked, 0 damaged"]
    path = out / "data/train-00000-of-00002.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (out / "notes.txt").write_text("mine")
    lines = list(checking.report(checking.check_folder(out)))
    assert lines == [
        f"{path}: missing, added or changed; export it again",
        f"{out}/notes.txt: missing, added or changed; export it again",
        "4 files checked, 2 damaged",
    ]


def test_the_command_offers_every_format():
    assert get_args(cli.export.__annotations__["to"]) == tuple(formats.FORMATS)


def test_the_command_prints_the_line_that_loads_it(cell, tmp_path, monkeypatch):
    command = [sys.executable, "-m", "limbeck", "export", str(cell), "--to", "parquet", str(tmp_path / 'a "b"')]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "export: 13/13")
    assert done.stdout == f'datasets.load_dataset("{tmp_path}/a \\"b\\"", split="train")\n'
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert eval(done.stdout, {"datasets": datasets}).features["label"].names == list(CLASSES)
